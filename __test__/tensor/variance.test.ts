import { gradcheck, memory, type Shape, scope, standardDeviation, tensor, variance, zeros } from '../../src/tensor';
import { codeOf, irregular, numbers } from '../support/tensors';

function messageOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    return (error as Error).message;
  }
  return 'no error';
}

function varianceOf(values: readonly number[], correction = 0): number {
  const mean = values.reduce((total, value) => total + value, 0) / values.length;
  return values.reduce((total, value) => total + (value - mean) ** 2, 0) / (values.length - correction);
}

/** Columns of a matrix in row-major order. */
function columnsOf(values: readonly number[], columns: number): number[][] {
  return Array.from({ length: columns }, (_, column) => values.filter((_, index) => index % columns === column));
}

describe.each([0, 1, 1.5])('with correction %d', (correction) => {
  it.each<[Shape, number[]]>([
    [[7], [0]],
    [
      [3, 5],
      [0, 1],
    ],
    [
      [2, 3, 17],
      [0, 1],
    ],
    [[33, 1], [0]],
  ])('of %j over %j', async (shape, axes) => {
    const x = irregular(shape, 3);
    const columns = axes.length === shape.length ? 1 : shape.at(-1)!;
    const wanted = columnsOf(numbers(x), columns).map((column) => varianceOf(column, correction));
    const found = variance(x, { axes, correction });
    const deviation = standardDeviation(x, { axes, correction });
    expect(found.shape).toEqual(columns === 1 && axes.length === shape.length ? [] : shape.slice(-1));
    for (const [index, value] of numbers(found).entries()) expect(value).toBeCloseTo(wanted[index]!, 5);
    for (const [index, value] of numbers(deviation).entries()) expect(value).toBeCloseTo(Math.sqrt(wanted[index]!), 5);
    const kept = x.variance({ axes: axes.map((axis) => axis - shape.length), keepDims: true, correction });
    expect(kept.shape).toEqual(shape.map((length, axis) => (axes.includes(axis) ? 1 : length)));
    for (const name of ['variance', 'standardDeviation'] as const) {
      const body = (input?: typeof x) => input![name]({ axes, correction });
      expect(await gradcheck(body, [x], { elements: 30 })).toMatchObject({ passed: true });
    }
  });
});

test('all axes are taken by default, and a single number is one', () => {
  const x = irregular([4, 3], 5);
  expect(x.variance().shape).toEqual([]);
  expect(x.variance().itemSync()).toBeCloseTo(varianceOf(numbers(x)), 6);
  expect(x.standardDeviation({ axes: 0 }).shape).toEqual([3]);
});

test.each([1e4, 3e5, 1e6])('is right where the mean is %d times the deviation', (mean) => {
  // As rounded to float32, so that the wanted values are those of what is given.
  const values = Array.from(Float32Array.from({ length: 999 }, (_, index) => mean + Math.sin(index * 12.9898)));
  const wanted = varianceOf(values);
  const x = tensor(values, { requiresGrad: true });
  expect(x.variance().itemSync() / wanted).toBeCloseTo(1, 5);
  expect(x.standardDeviation().itemSync() / Math.sqrt(wanted)).toBeCloseTo(1, 5);
  x.variance().backward();
  const average = values.reduce((total, value) => total + value, 0) / values.length;
  for (const [index, gradient] of numbers(x.grad!).entries()) {
    expect(gradient * values.length).toBeCloseTo(2 * (values[index]! - average), 3);
  }
});

test('a deviation of any size, and its gradient', () => {
  for (const factor of [1e20, 1e-20, 1e-35]) {
    const x = tensor([factor, 2 * factor, 4 * factor], { requiresGrad: true });
    const deviation = x.standardDeviation();
    expect(deviation.itemSync() / factor).toBeCloseTo(Math.sqrt(14) / 3, 5);
    deviation.backward();
    const wanted = [-4, -1, 5].map((distance) => distance / 3 / Math.sqrt(14));
    for (const [index, gradient] of numbers(x.grad!).entries()) expect(gradient).toBeCloseTo(wanted[index]!, 5);
  }
});

test('constants have a variance of 0, and a gradient of 0', () => {
  for (const name of ['variance', 'standardDeviation'] as const) {
    const x = tensor(new Float32Array(1001).fill(0.1), { requiresGrad: true });
    const result = x[name]();
    expect(result.itemSync()).toBe(0);
    result.backward();
    expect(new Set(numbers(x.grad!).map(Math.abs))).toEqual(new Set([0]));
  }
});

test('a NaN shows, in its own column', () => {
  const x = tensor([
    [NaN, 1],
    [2, 3],
  ]);
  expect(numbers(x.variance({ axes: 0 }))).toEqual([NaN, 1]);
  expect(numbers(x.standardDeviation({ axes: 0 }))).toEqual([NaN, 1]);
});

test('of nothing it is NaN, of no columns nothing', () => {
  for (const name of ['variance', 'standardDeviation'] as const) {
    expect(numbers(zeros([0, 2])[name]({ axes: 0 }))).toEqual([NaN, NaN]);
    expect(zeros([0, 2])[name]({ axes: 1, correction: 1 }).shape).toEqual([0]);
    expect(zeros([1, 0])[name]({ axes: 0, correction: 1 }).shape).toEqual([0]);
    const x = zeros([0, 2], { requiresGrad: true });
    x[name]({ axes: 1 }).sum().backward();
    expect(x.grad?.shape).toEqual([0, 2]);
  }
});

test('wrong options are refused', () => {
  const x = zeros([1, 3]);
  for (const name of ['variance', 'standardDeviation'] as const) {
    expect(messageOf(() => x[name]({ axes: 0, correction: 1 }))).toBe(
      `${name}: correction 1 needs more than 1 elements along the axes, and the input of shape [1, 3] has 1; leave the correction ` +
        'out, or give more',
    );
    for (const correction of [-1, NaN, Infinity, '1', true, null]) {
      expect(messageOf(() => x[name]({ correction } as object))).toContain(`${name}: correction is `);
    }
    expect(messageOf(() => x[name]({ unbiased: true } as object))).toContain('unbiased (did you mean correction?)');
    expect(codeOf(() => x[name]({ axes: 2 }))).toBe('INVALID_ARGUMENT');
    expect(messageOf(() => x[name]({ axes: [0, -2] }))).toBe(`${name}: an axis is given twice in [0,-2]`);
    expect(codeOf(() => zeros([2], { dtype: 'int32' })[name]())).toBe('DTYPE_MISMATCH');
  }
});

test('nothing is left behind', () => {
  const x = irregular([5, 3], 9);
  scope(() => x.standardDeviation({ axes: 0 }).sum().backward());
  const before = memory().liveTensors;
  for (let round = 0; round < 3; round++) {
    scope(() => x.standardDeviation({ axes: 0 }).sum().backward());
    x.variance().dispose();
  }
  expect(memory().liveTensors).toBe(before);
});
