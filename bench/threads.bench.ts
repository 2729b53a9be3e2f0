/** How much faster two threads are than one: ResNet-20 steps and single convolutions, both in turn. */
import { getThreads, setThreads } from '../src';
import { roundTrip, writing } from './cache-line';
import { type Case, type CompareOptions, formatRatio } from './compare';
import { convolution } from './convolution-case';
import { callsFor, secondsOf, spreadOf, warmUp } from './measure';
import { resnet20 } from './training-case';

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
  const { afterReader, own } = await writing();
  console.error(
    `writing a cache line that the other processor has read takes ${afterReader.toFixed(1)} ns, one of its own ${own.toFixed(1)} ns`,
  );
  try {
    for (const one of cases()) {
      if (one.name.includes(only)) {
        await warmUp(one.ours);
        const steps = callsFor(options.seconds ?? 0.3, await secondsOf(one.ours, 2));
        const ratios: number[] = [];
        for (let round = 0; round < rounds; round++) {
          setThreads(1);
          await secondsOf(one.ours, 1);
          const alone = await secondsOf(one.ours, steps);
          setThreads(2);
          await secondsOf(one.ours, 1);
          ratios.push(alone / (await secondsOf(one.ours, steps)));
        }
        const nanoseconds = (await roundTrip()).toFixed(0);
        console.error(
          `${one.name.padEnd(50)} two threads are ${formatRatio(spreadOf(ratios))} times as fast as one; ` +
            `cache line there and back ${nanoseconds} ns`,
        );
      }
      one.dispose?.();
    }
  } finally {
    setThreads(available);
  }
  return undefined;
}
