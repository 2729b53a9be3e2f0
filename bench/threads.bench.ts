/** How much faster two threads are than one: ResNet-20 steps and single convolutions, both in turn. */
import { getThreads, setThreads } from '../src';
import type { Case, CompareOptions } from './compare';
import { convolution } from './convolution-case';
import { median } from './measure';
import { resnet20 } from './training-case';

async function seconds(work: () => Promise<void>, steps: number): Promise<number> {
  const times: number[] = [];
  for (let step = 0; step < steps; step++) {
    const start = performance.now();
    await work();
    times.push((performance.now() - start) / 1e3);
  }
  return median(times);
}

function* cases(): Generator<Case> {
  for (const batch of [2, 32, 128]) yield resnet20('batch', batch);
  yield convolution({ batch: 8, size: 56, inChannels: 64, outChannels: 64 });
  yield convolution({ batch: 1, size: 14, inChannels: 256, outChannels: 256 });
}

export async function run(options: CompareOptions): Promise<undefined> {
  const { rounds = 7, only = '' } = options;
  const available = getThreads();
  if (available < 2) {
    console.error('one processor: nothing to compare');
    return undefined;
  }
  try {
    for (const one of cases()) {
      if (one.name.includes(only)) {
        await seconds(one.ours, 3);
        const steps = Math.max(1, Math.min(200, Math.round((options.seconds ?? 0.3) / (await seconds(one.ours, 2)))));
        const ratios: number[] = [];
        for (let round = 0; round < rounds; round++) {
          setThreads(1);
          await seconds(one.ours, 1);
          const alone = await seconds(one.ours, steps);
          setThreads(2);
          await seconds(one.ours, 1);
          ratios.push(alone / (await seconds(one.ours, steps)));
        }
        const spread = `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`;
        console.error(
          `${one.name.padEnd(50)} two threads are ${median(ratios).toFixed(2)} times as fast as one (${spread})`,
        );
      }
      one.dispose?.();
    }
  } finally {
    setThreads(available);
  }
  return undefined;
}
