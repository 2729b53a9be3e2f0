import { getThreads } from '../src';
import { TorchPeer, type TorchRequest } from './peers/torch';

/** One piece of work that both sides do. */
export interface Case {
  readonly name: string;
  /** Does it once on our side and waits for it. */
  readonly ours: () => Promise<void>;
  /** The same for PyTorch, without `layout`. */
  readonly torch: TorchRequest;
  /** Images, for images/s; or floating-point operations, for GFLOP/s; or bytes, for GB/s. */
  readonly amount: number;
  readonly unit: 'images/s' | 'GFLOP/s' | 'GB/s';
  /** Frees what it holds. */
  readonly dispose?: () => void;
}

/** What was measured: medians, and the ratio round by round. */
export interface Comparison {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  /** PyTorch's better layout. */
  readonly torch?: number;
  readonly layout?: string;
  /** How many times faster ours is: median over the rounds, and the lowest and highest round. */
  readonly ratio?: readonly [median: number, lowest: number, highest: number];
}

export interface CompareOptions {
  /** Whether PyTorch is timed too. */
  readonly peers: boolean;
  /** Rounds of A B A B. @defaultValue 7 */
  readonly rounds?: number;
  /** Seconds of work for one side in one round. @defaultValue 0.3 */
  readonly seconds?: number;
  /** Only cases whose name contains this. */
  readonly only?: string;
  /** `torch.compile` instead of eager mode. */
  readonly compile?: boolean;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

async function timeOurs(work: () => Promise<void>, steps: number): Promise<number> {
  const times: number[] = [];
  for (let step = 0; step < steps; step++) {
    const start = performance.now();
    await work();
    times.push((performance.now() - start) / 1e3);
  }
  return median(times);
}

/** Times every case on both sides in turn, and prints a row for each. */
export async function compare(cases: readonly Case[], options: CompareOptions): Promise<Comparison[]> {
  const { rounds = 7, seconds = 0.3 } = options;
  const torch = options.peers ? new TorchPeer(getThreads()) : undefined;
  const results: Comparison[] = [];
  try {
    for (const one of cases.filter(({ name }) => name.includes(options.only ?? ''))) {
      for (let warm = 0; warm < 3; warm++) await one.ours();
      const steps = Math.max(1, Math.min(200, Math.round(seconds / (await timeOurs(one.ours, 2)))));
      const request = { ...one.torch, ...(options.compile === true ? { compile: true } : {}) };
      const layouts = ['NCHW', 'NHWC'] as const;
      const torchSteps = new Map<string, number>();
      for (const layout of layouts) {
        const first = await torch?.time({ ...request, layout }, 2);
        torchSteps.set(layout, Math.max(1, Math.min(200, Math.round(seconds / median(first ?? [seconds])))));
      }
      const scale = one.unit === 'images/s' ? 1 : 1e-9;
      const ours: number[] = [];
      const theirs = new Map<string, number[]>(layouts.map((layout) => [layout, []]));
      for (let round = 0; round < rounds; round++) {
        ours.push(await timeOurs(one.ours, steps));
        if (torch === undefined) continue;
        for (const layout of layouts) {
          theirs.get(layout)?.push(median(await torch.time({ ...request, layout }, torchSteps.get(layout) ?? 1)));
        }
      }
      let result: Comparison = { name: one.name, unit: one.unit, ours: (one.amount * scale) / median(ours) };
      if (torch !== undefined) {
        const [layout, times] = [...theirs].sort(([, a], [, b]) => median(a) - median(b))[0]!;
        const ratios = times.map((time, round) => time / (ours[round] ?? Number.NaN)).sort((a, b) => a - b);
        result = {
          ...result,
          torch: (one.amount * scale) / median(times),
          layout,
          ratio: [median(ratios), ratios[0] ?? Number.NaN, ratios[ratios.length - 1] ?? Number.NaN],
        };
      }
      results.push(result);
      console.error(formatRow(result));
      one.dispose?.();
    }
  } finally {
    torch?.close();
  }
  return results;
}

function formatRow({ name, unit, ours, torch, layout, ratio }: Comparison): string {
  const own = `${name.padEnd(44)} ${ours.toFixed(ours < 100 ? 1 : 0).padStart(8)} ${unit}`;
  if (torch === undefined || ratio === undefined) return own;
  const spread = `${ratio[1].toFixed(2)}–${ratio[2].toFixed(2)}`;
  return `${own}   PyTorch ${layout} ${torch.toFixed(torch < 100 ? 1 : 0).padStart(7)}   ratio ${ratio[0].toFixed(2)} (${spread})`;
}
