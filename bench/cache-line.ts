/**
 * How near two processors are to each other: the time in which a cache line goes from one to the other and back, and what it takes to
 * write lines that the other one has read.
 *
 * Where they share a third-level cache a round trip is about 100 ns; where they do not, 300 ns and more. A virtual machine may change
 * from one to the other within a second, and kernels on two threads change with it.
 */
import { Worker } from 'node:worker_threads';

import { median } from './measure';

/** Answers every odd number with the next one, and before every second answer reads a number from each line of `values`. */
const answer = `
  const { workerData } = require('node:worker_threads');
  const flag = new Int32Array(workerData.flag), values = new Float64Array(workerData.values);
  Atomics.store(flag, 16, 1);
  let sum = 0;
  for (;;) {
    const value = Atomics.load(flag, 0);
    if (value < 0) break;
    if (value & 1) {
      if (value & 2) for (let at = 0; at < values.length; at += 8) sum += values[at];
      Atomics.store(flag, 0, value + 1);
    }
  }
`;

/** Runs `body` beside a thread that answers: `ask` waits for an answer and says whether the thread has read `values` before it. */
async function besideAnswers<T>(values: Float64Array, body: (ask: () => boolean) => T): Promise<T> {
  const flag = new Int32Array(new SharedArrayBuffer(128));
  const worker = new Worker(answer, { eval: true, workerData: { flag: flag.buffer, values: values.buffer } });
  try {
    while (Atomics.load(flag, 16) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    return body(() => {
      const asked = Atomics.load(flag, 0) + 1;
      Atomics.store(flag, 0, asked);
      // An answer takes microseconds at most while the worker has a processor; one that ended never answers.
      for (let looks = 0; Atomics.load(flag, 0) !== asked + 1; looks++) {
        if (looks > 1e9) throw new Error('the other thread does not answer');
      }
      return (asked & 2) !== 0;
    });
  } finally {
    Atomics.store(flag, 0, -1);
    await worker.terminate();
  }
}

/** Nanoseconds of one round trip, the mean of as many as `milliseconds` hold. */
export function roundTrip(milliseconds = 100): Promise<number> {
  return besideAnswers(new Float64Array(new SharedArrayBuffer(0)), (ask) => {
    const play = (trips: number): void => {
      for (let trip = 0; trip < trips; trip++) ask();
    };
    // V8 compiles both loops first.
    play(20_000);
    const start = performance.now();
    let trips = 0;
    while (performance.now() - start < milliseconds) {
      play(1000);
      trips += 1000;
    }
    return (1e6 * (performance.now() - start)) / trips;
  });
}

/** Nanoseconds a line in which 4,096 lines (256 KB) are written, where the other processor has read them and where it has not. */
export function writing(): Promise<{ readonly afterReader: number; readonly own: number }> {
  const values = new Float64Array(new SharedArrayBuffer(1 << 18));
  return besideAnswers(values, (ask) => {
    const write = (value: number): number => {
      const start = performance.now();
      for (let at = 0; at < values.length; at += 8) values[at] = value;
      return (1e6 * (performance.now() - start)) / (values.length / 8);
    };
    const [afterReader, own]: [number[], number[]] = [[], []];
    for (let round = 0; round < 4000; round++) {
      const read = ask();
      const time = write(round);
      // V8 compiles the loops in the first half.
      if (round >= 2000) (read ? afterReader : own).push(time);
    }
    return { afterReader: median(afterReader), own: median(own) };
  });
}
