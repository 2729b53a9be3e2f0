/**
 * How near two processors are to each other: the time in which a cache line goes from one to the other and back.
 *
 * Where they share a third-level cache that is about 100 ns; where they do not, 300 ns and more. A virtual machine may change from
 * one to the other within a second, and kernels on two threads change with it.
 */
import { Worker } from 'node:worker_threads';

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
