import {
  elu,
  gelu,
  gradcheck,
  hardSwish,
  hardTanh,
  leakyRelu,
  prelu,
  relu,
  sigmoid,
  silu,
  softplus,
  type Tensor,
  tanh,
  tensor,
  zeros,
} from '../../src/tensor';
import { codeOf, irregular, numbers } from '../support/tensors';

const logistic = (x: number) => 1 / (1 + Math.exp(-x));

/** Abramowitz and Stegun 7.1.26: within 1.5e-7. */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - polynomial * Math.exp(-x * x));
}

const cases: [string, (x: Tensor) => Tensor, (x: number) => number][] = [
  ['relu', relu, (x) => Math.max(x, 0)],
  ['leakyRelu', leakyRelu, (x) => (x > 0 ? x : 0.01 * x)],
  ['leakyRelu of another slope', (x) => leakyRelu(x, 0.3), (x) => (x > 0 ? x : 0.3 * x)],
  ['elu', (x) => elu(x, 1.5), (x) => (x > 0 ? x : 1.5 * Math.expm1(x))],
  ['silu', silu, (x) => x * logistic(x)],
  ['gelu', gelu, (x) => (x / 2) * (1 + erf(x / Math.SQRT2))],
  [
    'gelu by tanh',
    (x) => gelu(x, { approximate: 'tanh' }),
    (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  ],
  ['sigmoid', sigmoid, logistic],
  ['tanh', tanh, Math.tanh],
  ['hardTanh', hardTanh, (x) => Math.min(1, Math.max(-1, x))],
  ['hardTanh of other limits', (x) => hardTanh(x, -0.5, 2), (x) => Math.min(2, Math.max(-0.5, x))],
  ['softplus', softplus, (x) => Math.log1p(Math.exp(x))],
  ['hardSwish', hardSwish, (x) => (x * Math.min(6, Math.max(0, x + 3))) / 6],
];

describe.each(cases)('%s', (_, operation, oracle) => {
  it('has the right values at odd sizes', () => {
    for (const shape of [[0], [1], [3], [15], [2, 17], [2, 3, 33]]) {
      const x = irregular(shape, 1).mul(3);
      const values = numbers(x);
      const result = operation(x);
      expect(result.shape).toEqual(shape);
      for (const [index, got] of numbers(result).entries()) {
        expect(Math.abs(got - oracle(values[index]!))).toBeLessThan(2e-6);
      }
    }
  });

  it('has the right gradient', async () => {
    const x = irregular([3, 7], 2);
    expect(await gradcheck((input) => operation(input!), [x], { step: 4e-3 })).toMatchObject({ passed: true });
  });

  it('shows a NaN and refuses other dtypes', () => {
    expect(numbers(operation(tensor([NaN])))).toEqual([NaN]);
    expect(codeOf(() => operation(zeros([2], { dtype: 'uint8' })))).toBe('DTYPE_MISMATCH');
  });
});

describe('parameters', () => {
  it('are checked', () => {
    const x = zeros([2]);
    expect(codeOf(() => leakyRelu(x, NaN))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => elu(x, Infinity))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => hardTanh(x, 1, 1))).toBe('INVALID_ARGUMENT');
  });
});

describe('relu', () => {
  it('has derivative 0 at 0', () => {
    const x = tensor([0, -1, 1], { requiresGrad: true });
    relu(x).sum().backward();
    expect(numbers(x.grad!)).toEqual([0, 0, 1]);
  });
});

describe('prelu', () => {
  it.each([1, 3, 15, 16, 17, 33])('has values and gradients for %i channels', async (channels) => {
    const [x, slope] = [irregular([5, channels], 1), irregular([channels], 2)];
    const [values, slopes] = [numbers(x), numbers(slope)];
    const expected = values.map((value, index) => Math.fround(value > 0 ? value : value * slopes[index % channels]!));
    expect(numbers(prelu(x, slope))).toEqual(expected);
    const options = { step: 4e-3, elements: 12 };
    expect(await gradcheck((a, b) => prelu(a!, b!), [x, slope], options)).toMatchObject({ passed: true });
    const shared = irregular([1], 3);
    expect(await gradcheck((a, b) => prelu(a!, b!), [x, shared], options)).toMatchObject({ passed: true });
  });

  it('refuses slopes that do not fit', () => {
    expect(codeOf(() => prelu(zeros([2, 3]), zeros([2])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => prelu(zeros([2, 3]), zeros([3, 1])))).toBe('SHAPE_MISMATCH');
  });
});
