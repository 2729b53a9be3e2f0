import {
  add,
  addRelu,
  div,
  gradcheck,
  memory,
  mul,
  type Shape,
  scope,
  sub,
  type Tensor,
  tensor,
  where,
  zeros,
} from '../../src/tensor';
import { codeOf, irregular, numbers } from '../support/tensors';

type Binary = 'add' | 'sub' | 'mul' | 'div' | 'pow' | 'maximum' | 'minimum';

const oracles: Readonly<Record<Binary, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  pow: (a, b) => a ** b,
  maximum: Math.max,
  minimum: Math.min,
};

/** The element of a tensor of `shape` that element `index` of a broadcast result of `result` comes from. */
function source(index: number, result: Shape, shape: Shape): number {
  let [offset, stride, rest] = [0, 1, index];
  for (let axis = result.length - 1; axis >= 0; axis--) {
    const coordinate = rest % result[axis]!;
    rest = Math.floor(rest / result[axis]!);
    const own = shape[axis - result.length + shape.length];
    if (own === undefined) continue;
    if (own !== 1) offset += coordinate * stride;
    stride *= own;
  }
  return offset;
}

const shapes: [Shape, Shape, Shape][] = [
  [[], [], []],
  [[3], [], [3]],
  [[17], [17], [17]],
  [
    [5, 1],
    [1, 7],
    [5, 7],
  ],
  [[2, 3, 4], [4], [2, 3, 4]],
  [
    [2, 1, 5],
    [3, 1],
    [2, 3, 5],
  ],
  [
    [0, 3],
    [1, 3],
    [0, 3],
  ],
  [[1, 1], [15], [1, 15]],
];

describe.each(Object.keys(oracles) as Binary[])('%s', (name) => {
  it.each(shapes)('broadcasts %j and %j to %j', (aShape, bShape, expected) => {
    const [a, b] = [irregular(aShape, 1, { positive: true }), irregular(bShape, 2, { positive: true })];
    const result = a[name](b);
    expect(result.shape).toEqual(expected);
    const [x, y] = [numbers(a), numbers(b)];
    for (const [index, got] of numbers(result).entries()) {
      const want = oracles[name](x[source(index, expected, aShape)]!, y[source(index, expected, bShape)]!);
      expect(Math.abs(got - want)).toBeLessThanOrEqual(1e-6 * Math.max(1, Math.abs(want)));
    }
  });

  it.each([
    [
      [3, 4],
      [3, 4],
    ],
    [[2, 3, 5], [5]],
    [
      [4, 1],
      [1, 3],
    ],
    [[], [7]],
  ])('has the right gradients for %j and %j', async (aShape, bShape) => {
    const inputs = [irregular(aShape, 3, { positive: true }), irregular(bShape, 4, { positive: true })];
    const result = await gradcheck((a, b) => a![name](b!), inputs, { step: 4e-3 });
    expect(result).toMatchObject({ passed: true });
  });

  it('takes a number for either operand of its function, and as its argument', async () => {
    const a = irregular([5], 5, { positive: true });
    for (const [index, got] of numbers(a[name](0.75)).entries()) {
      expect(got).toBeCloseTo(oracles[name](numbers(a)[index]!, 0.75), 5);
    }
    expect(await gradcheck((x) => x![name](0.75), [a], { step: 4e-3 })).toMatchObject({ passed: true });
  });

  it('refuses what does not fit', () => {
    const a = zeros([2, 3]);
    expect(codeOf(() => a[name](zeros([2])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => a[name](zeros([2, 3], { dtype: 'int32' })))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => zeros([2, 3], { dtype: 'uint8' })[name](a))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => a[name]('1' as never))).toBe('INVALID_ARGUMENT');
  });
});

describe('numbers as first operands', () => {
  it('stay on their side', async () => {
    const x = irregular([4], 1, { positive: true });
    const values = numbers(x);
    expect(numbers(sub(2, x))).toEqual(values.map((value) => Math.fround(2 - value)));
    expect(numbers(add(2, x))).toEqual(values.map((value) => Math.fround(2 + value)));
    expect(numbers(mul(2, x))).toEqual(values.map((value) => Math.fround(2 * value)));
    expect(numbers(div(1, x))).toEqual(values.map((value) => Math.fround(1 / value)));
    expect(await gradcheck((a) => div(2, a!).sub(sub(3, a!)), [x], { step: 4e-3 })).toMatchObject({ passed: true });
  });
});

describe('one tensor with itself', () => {
  it('adds both gradients', async () => {
    const x = irregular([2, 3], 1);
    expect(await gradcheck((a) => a!.mul(a!).add(a!), [x])).toMatchObject({ passed: true });
  });
});

describe('ties', () => {
  it('give the whole gradient to the first operand', () => {
    for (const name of ['maximum', 'minimum'] as const) {
      const [a, b] = [tensor([1, 2], { requiresGrad: true }), tensor([1, 2], { requiresGrad: true })];
      a[name](b).sum().backward();
      expect(numbers(a.grad!)).toEqual([1, 1]);
      expect(numbers(b.grad!)).toEqual([0, 0]);
    }
  });
});

describe('addRelu', () => {
  it('adds, cuts at zero, and gates the gradient of both', () => {
    const [a, b] = [tensor([1, -3, 2], { requiresGrad: true }), tensor([[1, 1, -2]], { requiresGrad: true })];
    const result = addRelu(a, b);
    expect(numbers(result)).toEqual([2, 0, 0]);
    result.backward(tensor([[5, 6, 7]]));
    expect(numbers(a.grad!)).toEqual([5, 0, 0]);
    expect(numbers(b.grad!)).toEqual([5, 0, 0]);
  });
});

describe('comparisons and where', () => {
  it('give ones and zeros', () => {
    const [a, b] = [tensor([1, 2, 3, NaN]), tensor([2, 2, 2, 2])];
    expect(numbers(a.less(b))).toEqual([1, 0, 0, 0]);
    expect(numbers(a.lessEqual(2))).toEqual([1, 1, 0, 0]);
    expect(numbers(a.greater(b))).toEqual([0, 0, 1, 0]);
    expect(numbers(a.greaterEqual(b))).toEqual([0, 1, 1, 0]);
    expect(numbers(a.equal(b))).toEqual([0, 1, 0, 0]);
    expect(numbers(a.notEqual(b))).toEqual([1, 0, 1, 1]);
  });

  it('choose, and lead the gradient to what was chosen', async () => {
    const condition = tensor([[1], [0]]);
    const [a, b] = [irregular([2, 3], 1), irregular([3], 2)];
    const chosen = where(condition, a, b);
    expect(numbers(chosen)).toEqual([...numbers(a).slice(0, 3), ...numbers(b)]);
    expect(await gradcheck((x, y) => where(condition, x!, y!), [a, b])).toMatchObject({ passed: true });
    expect(numbers(where(condition, 1, -1))).toEqual([1, -1]);
    expect(codeOf(() => where(zeros([2], { dtype: 'uint8' }), a, b))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => where(zeros([2]), a, b))).toBe('SHAPE_MISMATCH');
  });
});

describe('functions of one tensor', () => {
  const cases: readonly (readonly [string, (x: Tensor) => Tensor, (x: number) => number])[] = [
    ['neg', (x) => x.neg(), (x) => -x],
    ['abs', (x) => x.abs(), Math.abs],
    ['sqrt', (x) => x.sqrt(), Math.sqrt],
    ['exp', (x) => x.exp(), Math.exp],
    ['log', (x) => x.log(), Math.log],
    ['square', (x) => x.square(), (x) => x * x],
    ['reciprocal', (x) => x.reciprocal(), (x) => 1 / x],
    ['pow', (x) => x.pow(1.5), (x) => x ** 1.5],
    ['clamp', (x) => x.clamp({ min: 0.8, max: 1.5 }), (x) => Math.min(1.5, Math.max(0.8, x))],
    ['clamp from one side', (x) => x.clamp({ min: 0.8 }), (x) => Math.max(0.8, x)],
  ];

  it.each(cases)('%s has the right values and gradients', async (_, operation, oracle) => {
    for (const shape of [[0], [1], [3, 5], [17], [2, 33]]) {
      const x = irregular(shape, 1, { positive: true });
      const values = numbers(x);
      for (const [index, got] of numbers(operation(x)).entries()) expect(got).toBeCloseTo(oracle(values[index]!), 5);
    }
    const x = irregular([2, 7], 2, { positive: true });
    expect(await gradcheck((input) => operation(input!), [x], { step: 2e-3 })).toMatchObject({ passed: true });
    expect(codeOf(() => operation(zeros([2], { dtype: 'int32' })))).toBe('DTYPE_MISMATCH');
  });

  it('clamp refuses limits out of order', () => {
    expect(codeOf(() => zeros([2]).clamp({ min: 1, max: 0 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => zeros([2]).clamp({ min: NaN }))).toBe('INVALID_ARGUMENT');
  });
});

describe('memory', () => {
  it('keeps nothing of arithmetic once the graph is done', () => {
    const x = irregular([64], 1);
    const before = memory().liveTensors;
    scope(() => {
      x.mul(2).add(x.div(3)).sub(sub(1, x)).maximum(0.5).square().sum().backward();
      x.grad?.dispose();
      x.grad = undefined;
    });
    expect(memory().liveTensors).toBe(before);
  });
});
