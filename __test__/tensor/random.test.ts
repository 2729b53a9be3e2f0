import {
  dropout,
  getRandomState,
  getThreads,
  manualSeed,
  ones,
  randint,
  randn,
  setRandomState,
  setThreads,
  uniform,
  zeros,
} from '../../src/tensor';
import { codeOf, irregular, numbers } from '../support/tensors';

beforeEach(() => manualSeed(42));

describe('the seed', () => {
  it('decides every number, at any number of threads', () => {
    const draw = () => [randn([40_001]), uniform([7]), randint([5], { high: 10 })].map(numbers);
    const threads = getThreads();
    setThreads(1);
    const first = draw();
    expect(draw()).not.toEqual(first);
    setThreads(3);
    manualSeed(42);
    expect(draw()).toEqual(first);
    setThreads(threads);
    manualSeed(43);
    expect(draw()).not.toEqual(first);
  });

  it('and the state continue a run', () => {
    randn([3]);
    const state = getRandomState();
    const next = numbers(uniform([5]));
    manualSeed(7);
    setRandomState(state);
    expect(numbers(uniform([5]))).toEqual(next);
  });

  it('must be a whole number', () => {
    for (const seed of [-1, 0.5, NaN, 2 ** 53]) {
      expect(codeOf(() => manualSeed(seed))).toBe('INVALID_ARGUMENT');
      expect(codeOf(() => setRandomState({ seed: 0, sequence: seed }))).toBe('INVALID_ARGUMENT');
    }
  });
});

describe('distributions', () => {
  it('have the moments and limits asked for', () => {
    const normal = numbers(randn([100_000], { mean: 3, standardDeviation: 2 }));
    const mean = normal.reduce((sum, value) => sum + value, 0) / normal.length;
    const variance = normal.reduce((sum, value) => sum + (value - mean) ** 2, 0) / normal.length;
    expect(Math.abs(mean - 3)).toBeLessThan(0.03);
    expect(Math.abs(variance - 4)).toBeLessThan(0.1);
    const values = numbers(uniform([10_000], { low: -1, high: 3 }));
    expect(Math.min(...values)).toBeGreaterThanOrEqual(-1);
    expect(Math.max(...values)).toBeLessThan(3);
    expect(Math.abs(values.reduce((sum, value) => sum + value, 0) / 10_000 - 1)).toBeLessThan(0.05);
    const integers = numbers(randint([1000], { low: -2, high: 3 }));
    expect([...new Set(integers)].sort((a, b) => a - b)).toEqual([-2, -1, 0, 1, 2]);
  });

  it('refuse limits that make no sense', () => {
    expect(codeOf(() => uniform([1], { low: 1, high: 0 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => uniform([1], { high: Infinity }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => randn([1], { standardDeviation: -1 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => randn([1], { mean: 1e300 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => randint([1], { high: 0 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => randint([1], { high: 2 ** 31 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => randn([-1]))).toBe('INVALID_ARGUMENT');
  });

  it('make empty tensors', () => {
    expect(randn([0, 3]).shape).toEqual([0, 3]);
  });
});

describe('dropout', () => {
  it('keeps the expectation, and its gradient has the same mask', () => {
    const x = ones([20_000], { requiresGrad: true });
    const y = dropout(x, { probability: 0.25 });
    const kept = numbers(y);
    expect([...new Set(kept)].sort()).toEqual([0, Math.fround(1 / 0.75)]);
    expect(Math.abs(kept.reduce((sum, value) => sum + value, 0) / kept.length - 1)).toBeLessThan(0.02);
    // Other random numbers in between do not change the mask.
    randn([100]);
    y.sum().backward();
    expect(numbers(x.grad!)).toEqual(kept);
    expect(numbers(dropout(x, 0.25))).not.toEqual(kept);
  });

  it('does nothing in evaluation, and passes the gradient', () => {
    const x = irregular([5], 1);
    const y = dropout(x, { probability: 0.9, training: false });
    expect(numbers(y)).toEqual(numbers(x));
    y.sum().backward();
    expect(numbers(x.grad!)).toEqual([1, 1, 1, 1, 1]);
    expect(numbers(dropout(x, 0))).toEqual(numbers(x));
  });

  it('refuses probabilities that keep nothing, and other dtypes', () => {
    const x = zeros([3]);
    for (const probability of [1, -0.1, NaN, 1 - 1e-12]) {
      expect(codeOf(() => dropout(x, { probability }))).toBe('INVALID_ARGUMENT');
    }
    expect(codeOf(() => dropout(zeros([2], { dtype: 'int32' })))).toBe('DTYPE_MISMATCH');
  });
});
