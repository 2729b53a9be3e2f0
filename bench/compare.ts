import { getThreads } from '../src';
import { callsFor, median, secondsOfEach, spreadOf, WARM_UP, warmUp } from './measure';
import { TensorFlowPeer } from './peers/tensorflow';
import { TorchPeer, type TorchRequest } from './peers/torch';

/** One piece of work that every side does. */
export interface Case {
  readonly name: string;
  /** Does it once on our side and waits for it. */
  readonly ours: () => Promise<void>;
  /** The same for PyTorch, without `layout`. */
  readonly torch: TorchRequest;
  /** Whether `torch.compile` and TensorFlow.js can be asked too: whole networks only. */
  readonly network?: boolean;
  /** Images, for images/s; or floating-point operations, for GFLOP/s; or bytes, for GB/s. */
  readonly amount: number;
  readonly unit: 'images/s' | 'GFLOP/s' | 'GB/s';
  /** Frees what it holds. */
  readonly dispose?: () => void;
}

/** How a competitor did: its best variant. */
export interface Score {
  readonly competitor: string;
  readonly speed: number;
  /** How many times faster ours is: median over the rounds, and the lowest and highest round. */
  readonly ratio: readonly [median: number, lowest: number, highest: number];
}

/** What was measured: medians, and the ratio round by round. */
export interface Comparison {
  readonly name: string;
  readonly unit: Case['unit'];
  readonly ours: number;
  readonly peers: readonly Score[];
}

export interface CompareOptions {
  /** Whether PyTorch is timed too. */
  readonly peers: boolean;
  /** Whether `torch.compile` is timed too, for whole networks. */
  readonly compile?: boolean;
  /** Whether TensorFlow.js is timed too, for whole networks. */
  readonly tensorflow?: boolean;
  /** Rounds of A B A B. @defaultValue 7 */
  readonly rounds?: number;
  /** Seconds of work for one side in one round. @defaultValue 0.3 */
  readonly seconds?: number;
  /** Only cases whose name contains this. */
  readonly only?: string;
}

/** Seconds of each of `steps` calls. */
type Timer = (steps: number) => Promise<number[]>;

/** Somebody to compare with. Its better variant counts: PyTorch has two memory layouts. */
interface Competitor {
  readonly name: string;
  readonly variants: readonly { readonly label: string; readonly time: Timer }[];
}

/** The processes of the other side, started when first needed. */
class Peers {
  readonly #options: CompareOptions;
  #torch: TorchPeer | undefined;
  #tensorflow: TensorFlowPeer | undefined;

  constructor(options: CompareOptions) {
    this.#options = options;
  }

  competitors({ torch: request, network = false }: Case): Competitor[] {
    const { peers, compile = false, tensorflow = false } = this.#options;
    const torch = (name: string, compiled: boolean): Competitor => ({
      name,
      variants: (['NCHW', 'NHWC'] as const).map((layout) => ({
        label: layout,
        time: (steps) => {
          this.#torch ??= new TorchPeer(getThreads());
          return this.#torch.time({ ...request, layout, ...(compiled ? { compile: true } : {}) }, steps);
        },
      })),
    });
    const found: Competitor[] = [];
    if (peers) found.push(torch('PyTorch', false));
    if (compile && network) found.push(torch('torch.compile', true));
    // A step takes it many seconds.
    if (tensorflow && request.work === 'resnet20' && request['norm'] === 'batch' && request['batch'] === 2) {
      const time: Timer = (steps) => {
        this.#tensorflow ??= new TensorFlowPeer();
        return this.#tensorflow.time(request, steps);
      };
      found.push({ name: 'TensorFlow.js', variants: [{ label: 'cpu', time }] });
    }
    return found;
  }

  close(): void {
    this.#torch?.close();
    this.#tensorflow?.close();
  }
}

/** Times one case on all sides in turn. */
async function compareOne(one: Case, competitors: readonly Competitor[], options: CompareOptions): Promise<Comparison> {
  const { rounds = 7, seconds = 0.3 } = options;
  const time = (steps: number): Promise<number[]> => secondsOfEach(one.ours, steps);
  if (one.network) await warmUp(one.ours);
  await time(3);
  const steps = callsFor(seconds, median(await time(2)));
  const variants = competitors.flatMap((competitor) =>
    competitor.variants.map(({ label, time }) => ({ competitor, label, time, steps: 1, times: [] as number[] })),
  );
  for (const variant of variants) {
    const each = median(await variant.time(2));
    if (one.network) await variant.time(callsFor(WARM_UP, each));
    variant.steps = callsFor(seconds, each);
  }
  const ours: number[] = [];
  for (let round = 0; round < rounds; round++) {
    ours.push(median(await time(steps)));
    for (const variant of variants) variant.times.push(median(await variant.time(variant.steps)));
  }
  const scale = one.unit === 'images/s' ? 1 : 1e-9;
  const peers = competitors.map((competitor): Score => {
    const [best] = variants
      .filter((variant) => variant.competitor === competitor)
      .sort((a, b) => median(a.times) - median(b.times));
    const { label, times } = best!;
    return {
      competitor: `${competitor.name} ${label}`,
      speed: (one.amount * scale) / median(times),
      ratio: spreadOf(times.map((seconds, round) => seconds / ours[round]!)),
    };
  });
  return { name: one.name, unit: one.unit, ours: (one.amount * scale) / median(ours), peers };
}

/** Times every case on all sides in turn, and prints a row for each. Cases from a generator hold memory only while they run. */
export async function compare(cases: Iterable<Case>, options: CompareOptions): Promise<Comparison[]> {
  const peers = new Peers(options);
  const results: Comparison[] = [];
  try {
    for (const one of cases) {
      if (one.name.includes(options.only ?? '')) {
        const result = await compareOne(one, peers.competitors(one), options);
        results.push(result);
        console.error(formatRow(result));
      }
      one.dispose?.();
    }
  } finally {
    peers.close();
  }
  return results;
}

/** A speed with about three digits. */
export function formatSpeed(speed: number): string {
  return speed < 100 ? speed.toFixed(1) : Math.round(speed).toLocaleString('en-US');
}

export function formatRatio([middle, lowest, highest]: Score['ratio']): string {
  return `${middle.toFixed(2)} (${lowest.toFixed(2)}–${highest.toFixed(2)})`;
}

function formatRow({ name, unit, ours, peers }: Comparison): string {
  const scores = peers.map(
    ({ competitor, speed, ratio }) =>
      `   ${competitor} ${formatSpeed(speed).padStart(6)}   ratio ${formatRatio(ratio)}`,
  );
  return `${name.padEnd(50)} ${formatSpeed(ours).padStart(8)} ${unit}${scores.join('')}`;
}

/** The rows as a Markdown table, for the documents. */
export function markdownTable(rows: readonly Comparison[]): string {
  const competitors = [
    ...new Set(rows.flatMap(({ peers }) => peers.map(({ competitor }) => competitor.split(' ')[0]!))),
  ];
  const header = ['work', 'Evenkeel', ...competitors.flatMap((name) => [name, 'ratio'])];
  const lines = rows.map(({ name, unit, ours, peers }) => [
    name,
    `${formatSpeed(ours)} ${unit}`,
    ...competitors.flatMap((wanted) => {
      const score = peers.find(({ competitor }) => competitor.startsWith(`${wanted} `));
      if (score === undefined) return ['', ''];
      const label = score.competitor.slice(wanted.length + 1);
      return [
        `${formatSpeed(score.speed)} (${label})`,
        `**${score.ratio[0].toFixed(2)}** (${score.ratio[1].toFixed(2)}–${score.ratio[2].toFixed(2)})`,
      ];
    }),
  ]);
  const rule = header.map((_, column) => (column === 0 ? '---' : '---:'));
  return [header, rule, ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
