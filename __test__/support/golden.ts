import { basename, join } from 'node:path';
import { readSafetensors } from '../../src/serialization/safetensors';
import { type Tensor, tensor } from '../../src/tensor';

/** One case of a golden file: its tensors by their short names. */
export interface GoldenCase {
  readonly name: string;
  readonly tensor: (name: string, requiresGrad?: boolean) => Tensor;
  readonly values: (name: string) => Float32Array;
  /** The values as the file holds them, in float64. */
  readonly exact: (name: string) => Float64Array;
  readonly has: (name: string) => boolean;
}

/** Reads `__test__/golden/<file>.safetensors`, whose tensors are named `case/tensor`, as float32. */
export async function readGolden(file: string): Promise<ReadonlyMap<string, GoldenCase>> {
  const { tensors } = await readSafetensors(join(__dirname, '..', 'golden', `${file}.safetensors`));
  const cases = new Map<string, GoldenCase>();
  for (const key of tensors.keys()) {
    const name = key.slice(0, key.lastIndexOf('/'));
    const stored = (short: string) => {
      const found = tensors.get(`${name}/${short}`);
      if (found === undefined) throw new Error(`${file}.safetensors has no ${name}/${short}`);
      return found;
    };
    const values = (short: string): Float32Array => Float32Array.from(stored(short).values as Float32Array);
    cases.set(name, {
      name,
      values,
      exact: (short) => Float64Array.from(stored(short).values as Float64Array),
      has: (short) => tensors.has(`${name}/${short}`),
      tensor: (short, requiresGrad = false) => tensor(values(short), { shape: [...stored(short).shape], requiresGrad }),
    });
  }
  return cases;
}

/** The largest relative error seen in this test file, for each tolerance. */
const worstSeen = new Map<number, number>();

afterAll(() => {
  for (const [tolerance, error] of worstSeen) {
    const file = basename(expect.getState().testPath ?? '');
    process.stdout.write(
      `${file}: worst error ${error.toExponential(1)} of the largest magnitude (allowed ${tolerance.toExponential(0)})\n`,
    );
  }
});

/** Expects every value within `tolerance` times the largest magnitude of the expected ones; the file's worst case is printed. */
export function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  let largest = 0;
  for (let index = 0; index < expected.length; index++) largest = Math.max(largest, Math.abs(expected[index]!));
  let worst = 0;
  for (let index = 0; index < expected.length; index++) {
    const difference = Math.abs(actual[index]! - expected[index]!);
    worst = Math.max(difference, worst);
  }
  const relative = worst === 0 ? 0 : worst / largest;
  worstSeen.set(tolerance, Math.max(worstSeen.get(tolerance) ?? 0, relative));
  // A NaN is never within any tolerance: Math.max passes it on.
  expect(relative).toBeLessThanOrEqual(tolerance);
}
