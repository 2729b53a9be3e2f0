import { gradcheck, type Shape, tensor, zeros } from '../../src/tensor';
import { codeOf, irregular, numbers } from '../support/tensors';

type Name = 'sum' | 'mean' | 'max' | 'min';

const oracles: Readonly<Record<Name, (values: readonly number[]) => number>> = {
  sum: (values) => values.reduce((total, value) => total + value, 0),
  mean: (values) => values.reduce((total, value) => total + value, 0) / values.length,
  max: (values) => Math.max(...values),
  min: (values) => Math.min(...values),
};

/** The values that make each element of the output. */
function groups(values: readonly number[], shape: Shape, axes: readonly number[]): number[][] {
  const found = new Map<number, number[]>();
  for (const [index, value] of values.entries()) {
    let [rest, output, stride] = [index, 0, 1];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const coordinate = rest % shape[axis]!;
      rest = Math.floor(rest / shape[axis]!);
      if (axes.includes(axis)) continue;
      output += coordinate * stride;
      stride *= shape[axis]!;
    }
    found.set(output, [...(found.get(output) ?? []), value]);
  }
  return [...found.entries()].sort(([a], [b]) => a - b).map(([, group]) => group);
}

const cases: [Shape, number[]][] = [
  [[], []],
  [[7], [0]],
  [[3, 5], [0]],
  [[3, 5], [1]],
  [
    [3, 5],
    [0, 1],
  ],
  [
    [2, 3, 4, 17],
    [1, 2],
  ],
  [
    [2, 3, 4, 5],
    [0, 2],
  ],
  [[2, 1, 33], [1]],
];

describe.each(Object.keys(oracles) as Name[])('%s', (name) => {
  it.each(cases)('of %j over %j', async (shape, axes) => {
    const x = irregular(shape, 1);
    const wanted = groups(numbers(x), shape, axes).map(oracles[name]);
    const result = x[name]({ axes });
    expect(result.shape).toEqual(shape.filter((_, axis) => !axes.includes(axis)));
    for (const [index, got] of numbers(result).entries()) expect(got).toBeCloseTo(wanted[index]!, 5);
    const kept = x[name]({ axes: axes.map((axis) => axis - shape.length), keepDims: true });
    expect(kept.shape).toEqual(shape.map((length, axis) => (axes.includes(axis) ? 1 : length)));
    expect(numbers(kept)).toEqual(numbers(result));
    const options = { step: 1e-3, tolerance: 2e-2, elements: 30 };
    expect(await gradcheck((input) => input![name]({ axes }), [x], options)).toMatchObject({ passed: true });
  });

  it('takes all axes by default, and a single number', () => {
    const x = irregular([3, 4], 2);
    expect(x[name]().shape).toEqual([]);
    expect(numbers(x[name]())[0]).toBeCloseTo(oracles[name](numbers(x)), 5);
    expect(numbers(x[name]({ axes: -1 }))).toEqual(numbers(x[name]({ axes: [1] })));
  });

  it('refuses axes that are not there and other dtypes', () => {
    const x = zeros([2, 3]);
    expect(codeOf(() => x[name]({ axes: 2 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => x[name]({ axes: [0, -2] }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => x[name]({ axes: 0.5 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => zeros([2], { dtype: 'int32' })[name]())).toBe('DTYPE_MISMATCH');
  });
});

describe('empty tensors', () => {
  it('sum to 0, have mean NaN, and no extremum', () => {
    const x = zeros([0, 3], { requiresGrad: true });
    expect(numbers(x.sum({ axes: 0 }))).toEqual([0, 0, 0]);
    expect(numbers(x.mean({ axes: 0 }))).toEqual([NaN, NaN, NaN]);
    expect(codeOf(() => x.max({ axes: 0 }))).toBe('INVALID_ARGUMENT');
    expect(x.max({ axes: 1 }).shape).toEqual([0]);
    x.sum().backward();
    expect(x.grad?.shape).toEqual([0, 3]);
  });
});

describe('numbers of any size', () => {
  it('are summed in float64', () => {
    expect(numbers(tensor(new Float32Array(100_000).fill(0.1)).mean())[0]).toBe(Math.fround(0.1));
    expect(numbers(tensor([1e20, 1, -1e20]).sum())).toEqual([1]);
  });

  it('show a NaN', () => {
    for (const name of ['sum', 'mean', 'max', 'min'] as const) {
      expect(numbers(tensor([1, NaN, 3])[name]())).toEqual([NaN]);
    }
  });
});

describe('argmax', () => {
  it('gives the first index of the largest, as int32', () => {
    const result = tensor([
      [1, 3, 3],
      [-1, -2, -1],
    ]).argmax();
    expect(result.dtype).toBe('int32');
    expect(numbers(result)).toEqual([1, 0]);
    expect(zeros([0, 3]).argmax().shape).toEqual([0]);
    expect(codeOf(() => zeros([3, 0]).argmax())).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => zeros([]).argmax())).toBe('SHAPE_MISMATCH');
  });
});

describe('firstNonFinite', () => {
  it('finds the first NaN or infinity', async () => {
    expect(await tensor([1, 2]).firstNonFinite()).toBeUndefined();
    expect(await tensor([1, -Infinity, NaN]).firstNonFinite()).toBe(1);
    expect(await zeros([0]).firstNonFinite()).toBeUndefined();
  });
});

describe('max', () => {
  it('gives the gradient to the first of equals', () => {
    const x = tensor([2, 5, 5], { requiresGrad: true });
    x.max().backward();
    expect(numbers(x.grad!)).toEqual([0, 1, 0]);
  });
});

test('argmax along another axis', () => {
  const x = irregular([3, 5, 4], 7);
  const values = numbers(x);
  for (const [axis, shape] of [
    [0, [5, 4]],
    [-2, [3, 4]],
    [2, [3, 5]],
  ] as const) {
    const found = x.argmax(axis);
    expect(found.shape).toEqual(shape);
    const wanted = groups(values, x.shape, [axis < 0 ? axis + 3 : axis]).map((group) =>
      group.indexOf(Math.max(...group)),
    );
    expect(numbers(found)).toEqual(wanted);
  }
  expect(codeOf(() => x.argmax(3))).toBe('INVALID_ARGUMENT');
  expect(codeOf(() => zeros([0, 3]).argmax(0))).toBe('SHAPE_MISMATCH');
});
