import { formatDuration, formatInteger, formatNumber, formatPercent } from './format';

/** Where progress is written; `process.stderr` is one. */
export interface ProgressStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** What the bar shows. */
export interface ProgressState {
  /** Counted from 1. */
  readonly epoch: number;
  readonly epochs: number;
  /** Batches done in this epoch, and how many it has. */
  readonly batch: number;
  readonly batches: number;
  readonly loss: number;
  readonly top1: number;
  readonly imagesPerSecond: number;
  /** What is going on; `train` or `valid`. */
  readonly phase: string;
  readonly secondsLeft: number;
}

/** At most this often is the bar drawn again: a terminal is slower than a small network. */
const REDRAW_MILLISECONDS = 80;
const FILLED = '━';
const EMPTY = '─';

/**
 * A one-line progress bar on a terminal. Where the stream is no terminal nothing is drawn and only whole lines are
 * written, so that logs stay readable.
 */
export class ProgressBar {
  readonly #stream: ProgressStream;
  readonly #now: () => number;
  #drawn = false;
  #lastDrawn = Number.NEGATIVE_INFINITY;

  constructor(stream: ProgressStream = process.stderr, now: () => number = () => performance.now()) {
    this.#stream = stream;
    this.#now = now;
  }

  /** Draws the bar, unless it was drawn a moment ago. */
  update(state: ProgressState): void {
    if (this.#stream.isTTY !== true || this.#now() - this.#lastDrawn < REDRAW_MILLISECONDS) {
      return;
    }
    this.#lastDrawn = this.#now();
    this.#drawn = true;
    // One column stays free: some terminals wrap when the last one is written.
    const text = renderProgress(state, (this.#stream.columns ?? 80) - 1, this.#stream.isTTY && useColour());
    this.#stream.write(`\r${text}\u001b[K`);
  }

  /** Writes a line that stays, above the bar. */
  line(text: string): void {
    this.clear();
    this.#stream.write(`${text}\n`);
  }

  /** Takes the bar away. */
  clear(): void {
    if (this.#drawn) {
      this.#stream.write('\r\u001b[K');
      this.#drawn = false;
      this.#lastDrawn = Number.NEGATIVE_INFINITY;
    }
  }
}

/** The bar's text, at most `width` columns wide: facts that do not fit are left out, the least important first. */
export function renderProgress(state: ProgressState, width: number, colour = false): string {
  const heading = `epoch ${String(state.epoch).padStart(String(state.epochs).length)}/${state.epochs}`;
  const facts = [
    `loss ${formatNumber(state.loss).padEnd(6)}`,
    `accuracy ${formatPercent(state.top1).padStart(7)}`,
    `${formatInteger(state.imagesPerSecond)} images/s`,
    `${formatDuration(state.secondsLeft)} left`,
  ];
  const dropFirst = [2, 1, 3, 0];
  const shown = new Set(facts.keys());
  const length = () =>
    [...shown].reduce((sum, index) => sum + (facts[index] ?? '').length + 2, heading.length + state.phase.length + 2);
  const smallestBar = 10;
  while (shown.size > 0 && length() + smallestBar + 1 > width) {
    shown.delete(dropFirst.shift() ?? 0);
  }
  const cells = Math.max(0, Math.min(32, width - length() - 1));
  const share = state.batches > 0 ? Math.min(1, state.batch / state.batches) : 0;
  const filled = Math.round(cells * share);
  const full = FILLED.repeat(filled);
  const rest = EMPTY.repeat(cells - filled);
  const bar = colour ? `\u001b[36m${full}\u001b[2m${rest}\u001b[0m` : full + rest;
  return [`${heading} ${state.phase} ${bar}`, ...[...shown].map((index) => facts[index])].join('  ');
}

function useColour(): boolean {
  return process.env['NO_COLOR'] === undefined && process.env['TERM'] !== 'dumb';
}
