import { appendFile, mkdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ioError, replaceFile, systemErrorCode } from '../serialization/replace-file';

/** One epoch, as `metrics.csv` keeps it. Fractions are between 0 and 1. */
export interface EpochRow {
  /** Counted from 1. */
  epoch: number;
  /** Optimizer steps since the start of the run. */
  step: number;
  /** At the last step of the epoch. */
  learningRate: number;
  trainLoss: number;
  trainTop1: number;
  trainTop5?: number;
  validationLoss?: number;
  validationTop1?: number;
  validationTop5?: number;
  /** Training images per second, validation not counted. */
  imagesPerSecond: number;
  /** Seconds that the epoch took, validation included. */
  seconds: number;
  /** The most bytes of tensors that were live until the epoch's training was done (in the first epoch, before any validation). */
  peakBytes?: number;
  /** In binary networks, the share of weights whose sign one step changes: the mean over sampled steps. */
  flipRatio?: number;
  /** In binary networks, the share of latent weights near zero after the epoch. */
  nearZero?: number;
}

/** One line of `events.jsonl`. */
export interface RunEvent {
  /** `start`, `resume`, `step`, `epoch`, `checkpoint`, `stop`, … */
  type: string;
  /** Optimizer steps done when it happened. */
  step: number;
  [key: string]: unknown;
}

const COLUMNS: readonly [column: string, key: keyof EpochRow][] = [
  ['epoch', 'epoch'],
  ['step', 'step'],
  ['learning_rate', 'learningRate'],
  ['train_loss', 'trainLoss'],
  ['train_top1', 'trainTop1'],
  ['train_top5', 'trainTop5'],
  ['validation_loss', 'validationLoss'],
  ['validation_top1', 'validationTop1'],
  ['validation_top5', 'validationTop5'],
  ['images_per_second', 'imagesPerSecond'],
  ['seconds', 'seconds'],
  ['peak_bytes', 'peakBytes'],
  ['flip_ratio', 'flipRatio'],
  ['near_zero', 'nearZero'],
];

/**
 * The folder of one training run and its files:
 *
 * - `config.json`: what was run,
 * - `metrics.csv`: one row an epoch,
 * - `events.jsonl`: everything that happened, one JSON object a line,
 * - `best.safetensors`, `last.safetensors`: checkpoints,
 * - `report.html`: all of it to look at.
 *
 * Logs are only ever appended to, and always before the checkpoint of the same step. So after a crash they are never
 * behind the checkpoint, and {@link RunDirectory.truncateAfter} brings them back level with it.
 */
export class RunDirectory {
  readonly path: string;
  readonly config: string;
  readonly metrics: string;
  readonly events: string;
  readonly report: string;
  readonly best: string;
  readonly last: string;

  constructor(path: string) {
    this.path = path;
    this.config = join(path, 'config.json');
    this.metrics = join(path, 'metrics.csv');
    this.events = join(path, 'events.jsonl');
    this.report = join(path, 'report.html');
    this.best = join(path, 'best.safetensors');
    this.last = join(path, 'last.safetensors');
  }

  /** Makes the folder, empties the logs of a run that begins anew, and removes its checkpoints, which nothing may go on from. */
  async begin(config: Readonly<Record<string, unknown>>): Promise<void> {
    try {
      await mkdir(this.path, { recursive: true });
      for (const checkpoint of [this.last, this.best]) await rm(checkpoint, { force: true });
    } catch (cause) {
      throw ioError('making the run directory', this.path, cause);
    }
    await replaceFile(this.config, [`${JSON.stringify(config, null, 2)}\n`]);
    await replaceFile(this.metrics, [`${COLUMNS.map(([column]) => column).join(',')}\n`]);
    await replaceFile(this.events, []);
  }

  /** Whether there is a checkpoint to resume from. */
  async hasCheckpoint(): Promise<boolean> {
    return exists(this.last);
  }

  async appendEpoch(row: EpochRow): Promise<void> {
    await append(this.metrics, `${COLUMNS.map(([, key]) => row[key] ?? '').join(',')}\n`);
  }

  async appendEvent(event: RunEvent): Promise<void> {
    await append(this.events, `${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`);
  }

  /** Drops what was logged after `step`, and a last line that a crash tore. */
  async truncateAfter(step: number): Promise<void> {
    const rows = (await this.readEpochs()).filter((row) => row.step <= step);
    const lines = rows.map((row) => COLUMNS.map(([, key]) => row[key] ?? '').join(','));
    await replaceFile(this.metrics, [`${[COLUMNS.map(([column]) => column).join(','), ...lines].join('\n')}\n`]);
    const events = (await this.readEvents()).filter((event) => event.step <= step);
    await replaceFile(this.events, [events.map((event) => `${JSON.stringify(event)}\n`).join('')]);
  }

  /** The whole rows of `metrics.csv`; none when there is no such file. */
  async readEpochs(): Promise<EpochRow[]> {
    const [, ...lines] = wholeLines(await readText(this.metrics));
    return lines.flatMap((line) => {
      const cells = line.split(',');
      const pairs = COLUMNS.map(([, key], index) => [key, cells[index]] as const);
      const numbers = pairs.filter(([, cell]) => cell !== undefined && cell !== '');
      const row = Object.fromEntries(numbers.map(([key, cell]) => [key, Number(cell)]));
      return isEpochRow(row) ? [row] : [];
    });
  }

  /** The whole lines of `events.jsonl`; none when there is no such file. */
  async readEvents(): Promise<RunEvent[]> {
    return wholeLines(await readText(this.events)).flatMap((line) => {
      try {
        const event: unknown = JSON.parse(line);
        return isRunEvent(event) ? [event] : [];
      } catch {
        return [];
      }
    });
  }

  async writeReport(html: string): Promise<void> {
    await replaceFile(this.report, [html]);
  }
}

/** A line is whole once its newline was written. */
function wholeLines(text: string): string[] {
  return text.split('\n').slice(0, -1);
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (systemErrorCode(cause) === 'ENOENT') {
      return '';
    }
    throw ioError('reading', path, cause);
  }
}

async function append(path: string, line: string): Promise<void> {
  try {
    await appendFile(path, line);
  } catch (cause) {
    throw ioError('appending to', path, cause);
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (cause) {
    if (systemErrorCode(cause) === 'ENOENT') {
      return false;
    }
    throw ioError('looking for', path, cause);
  }
}

function isEpochRow(row: Record<string, number>): row is Record<string, number> & EpochRow {
  const required: (keyof EpochRow)[] = ['epoch', 'step', 'learningRate', 'trainLoss', 'trainTop1', 'seconds'];
  return required.every((key) => Number.isFinite(row[key]));
}

function isRunEvent(value: unknown): value is RunEvent {
  return (
    typeof value === 'object' &&
    value !== null &&
    'type' in value &&
    typeof value.type === 'string' &&
    'step' in value &&
    typeof value.step === 'number'
  );
}
