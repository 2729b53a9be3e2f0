/** The middle value; of an even number, the upper one. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/** Seconds of each of `steps` calls, one after another. */
export async function secondsOfEach(work: () => Promise<unknown>, steps: number): Promise<number[]> {
  const times: number[] = [];
  for (let step = 0; step < steps; step++) {
    const start = performance.now();
    await work();
    times.push((performance.now() - start) / 1e3);
  }
  return times;
}

/** The median of {@link secondsOfEach}. */
export async function secondsOf(work: () => Promise<unknown>, steps: number): Promise<number> {
  return median(await secondsOfEach(work, steps));
}

/** Seconds of work before a training step is timed, on every side. */
export const WARM_UP = 1.5;

/**
 * Works for {@link WARM_UP} seconds: V8 compiles the JavaScript of a training step in its first seconds, on threads that take
 * processors from the kernels.
 */
export async function warmUp(work: () => Promise<unknown>): Promise<void> {
  const end = performance.now() + 1e3 * WARM_UP;
  while (performance.now() < end) await work();
}

/** The median of some ratios, with the lowest and the highest. */
export function spreadOf(ratios: readonly number[]): readonly [median: number, lowest: number, highest: number] {
  return [median(ratios), Math.min(...ratios), Math.max(...ratios)];
}

/** How many calls of the given duration fill a round of `seconds`: 1 to 10,000. */
export function callsFor(seconds: number, each: number): number {
  return Math.max(1, Math.min(10_000, Math.round(seconds / each)));
}

/** What {@link measure} found, in milliseconds for one call. */
export interface Measurement {
  readonly name: string;
  readonly median: number;
  readonly fastest: number;
  /** How often the function was called after the warm-up. */
  readonly calls: number;
}

export interface MeasureOptions {
  /** How long to go on calling, in seconds. @defaultValue 2 */
  readonly seconds?: number;
  /** Calls before the clock counts. @defaultValue 2 */
  readonly warmup?: number;
}

/**
 * Times `call` until the time is up, at least three times. `call` must wait for its results (`await tensor.data()`): operations
 * only enqueue work, so a call that does not wait measures nothing.
 */
export async function measure(
  name: string,
  call: () => Promise<unknown>,
  { seconds = 2, warmup = 2 }: MeasureOptions = {},
): Promise<Measurement> {
  for (let index = 0; index < warmup; index++) {
    await call();
  }
  const times: number[] = [];
  const end = performance.now() + seconds * 1000;
  while (times.length < 3 || performance.now() < end) {
    const start = performance.now();
    await call();
    times.push(performance.now() - start);
  }
  return { name, median: median(times), fastest: Math.min(...times), calls: times.length };
}

/** Prints measurements as a table, on standard error: standard output belongs to `--json`. */
export function print(measurements: readonly Measurement[]): void {
  const width = Math.max(4, ...measurements.map(({ name }) => name.length));
  console.error(
    `${'name'.padEnd(width)}  ${'median ms'.padStart(10)}  ${'fastest ms'.padStart(10)}  ${'calls'.padStart(6)}`,
  );
  for (const { name, median, fastest, calls } of measurements) {
    console.error(
      `${name.padEnd(width)}  ${median.toFixed(3).padStart(10)}  ${fastest.toFixed(3).padStart(10)}  ${String(calls).padStart(6)}`,
    );
  }
}
