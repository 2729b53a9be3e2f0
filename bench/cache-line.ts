/**
 * How near two processors are to each other: the time in which a cache line goes from one to the other and back, and what it takes to
 * write lines that the other one has read.
 *
 * Where they share a third-level cache a round trip is about 100 ns; where they do not, 300 ns and more. A virtual machine may change
 * from one to the other within a second, and kernels on two threads change with it.
 */
import { Worker } from 'node:worker_threads';

import { median } from './measure';

const answer = `
  const { workerData } = require('node:worker_threads');
  const line = new Int32Array(workerData);
  Atomics.store(line, 16, 1);
  for (;;) {
    const value = Atomics.load(line, 0);
    if (value < 0) break;
    if (value & 1) Atomics.store(line, 0, value + 1);
  }
`;

/** Nanoseconds of one round trip, the mean of as many as `milliseconds` hold. */
export async function roundTrip(milliseconds = 100): Promise<number> {
  const line = new Int32Array(new SharedArrayBuffer(128));
  const worker = new Worker(answer, { eval: true, workerData: line.buffer });
  while (Atomics.load(line, 16) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const play = (trips: number): void => {
    for (let trip = 0; trip < trips; trip++) {
      const value = Atomics.load(line, 0);
      Atomics.store(line, 0, value + 1);
      // An answer takes microseconds at most while the worker has a processor; one that ended never answers.
      for (let looks = 0; Atomics.load(line, 0) !== value + 2; looks++) {
        if (looks > 1e9) throw new Error('the other thread does not answer');
      }
    }
  };
  // V8 compiles both loops first.
  play(20_000);
  const start = performance.now();
  let trips = 0;
  while (performance.now() - start < milliseconds) {
    play(1000);
    trips += 1000;
  }
  const each = (1e6 * (performance.now() - start)) / trips;
  Atomics.store(line, 0, -1);
  await worker.terminate();
  return each;
}

const readEverySecondTime = `
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

/** Nanoseconds a line in which 4,096 lines (256 KB) are written, where the other processor has read them and where it has not. */
export async function writing(): Promise<{ readonly afterReader: number; readonly own: number }> {
  const [flag, values] = [new Int32Array(new SharedArrayBuffer(128)), new Float64Array(new SharedArrayBuffer(1 << 18))];
  const workerData = { flag: flag.buffer, values: values.buffer };
  const worker = new Worker(readEverySecondTime, { eval: true, workerData });
  while (Atomics.load(flag, 16) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const write = (value: number): number => {
    const start = performance.now();
    for (let at = 0; at < values.length; at += 8) values[at] = value;
    return (1e6 * (performance.now() - start)) / (values.length / 8);
  };
  const times: [number[], number[]] = [[], []];
  for (let round = 0; round < 4000; round++) {
    const value = Atomics.load(flag, 0);
    Atomics.store(flag, 0, value + 1);
    for (let looks = 0; Atomics.load(flag, 0) !== value + 2; looks++) {
      if (looks > 1e9) throw new Error('the other thread does not answer');
    }
    // The other processor has read where bit 1 of what it was sent was set: every second time.
    const time = write(round);
    if (round >= 2000) times[((value + 1) >> 1) & 1]!.push(time);
  }
  Atomics.store(flag, 0, -1);
  await worker.terminate();
  return { afterReader: median(times[1]), own: median(times[0]) };
}
