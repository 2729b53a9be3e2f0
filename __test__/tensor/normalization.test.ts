import { EvenkeelError } from '../../src/errors';
import { getThreads, gradcheck, memory, noGrad, ones, scope, setThreads, type Tensor, tensor } from '../../src/tensor';
import type { FusedActivation } from '../../src/tensor/operations/fused-activation';
import {
  type BatchNormOptions,
  batchNorm,
  filterResponseNorm,
  groupNorm,
  instanceNorm,
  layerNorm,
  rmsNorm,
} from '../../src/tensor/operations/normalization';
import { type GoldenCase, readGolden } from '../support/golden';

/** The largest errors seen against the float64 references, by suite: forward, backward. */
const worst = new Map<string, { forward: number; backward: number }>();

afterAll(() => {
  for (const [name, { forward, backward }] of worst) {
    process.stdout.write(
      `${name}: worst forward ${forward.toExponential(1)}, gradient ${backward.toExponential(1)} of the largest magnitude\n`,
    );
  }
});

/** Expects every value within 2e-6 (gradients: 1e-4) of the largest magnitude of the expected ones, and notes the error. */
async function expectExact(
  suite: string,
  kind: 'forward' | 'backward',
  actual: Tensor | undefined,
  expected: Float64Array,
): Promise<void> {
  const values = await actual!.data();
  expect(values.length).toBe(expected.length);
  let [largest, error] = [0, 0];
  for (let index = 0; index < expected.length; index++) {
    largest = Math.max(largest, Math.abs(expected[index]!));
    const difference = Math.abs(values[index]! - expected[index]!);
    error = Math.max(difference, error);
  }
  const relative = error === 0 ? 0 : error / largest;
  const seen = worst.get(suite) ?? { forward: 0, backward: 0 };
  worst.set(suite, { ...seen, [kind]: Math.max(seen[kind], relative) });
  expect(relative).toBeLessThanOrEqual(kind === 'forward' ? 2e-6 : 1e-4);
}

/** Runs `normalize` on a golden case with the named inputs; compares `y` and the gradient of each input. */
async function compare(
  suite: string,
  { exact, tensor: load }: GoldenCase,
  names: readonly string[],
  normalize: (...inputs: Tensor[]) => Tensor,
): Promise<void> {
  const inputs = names.map((name) => load(name, true));
  const output = normalize(...inputs);
  await expectExact(suite, 'forward', output, exact('y'));
  output.backward(load('dy'));
  for (const [index, name] of names.entries()) {
    await expectExact(suite, 'backward', inputs[index]!.grad, exact(`d_${name}`));
  }
}

function irregular(shape: readonly number[], seed: number, requiresGrad = true): Tensor {
  const size = shape.reduce((product, length) => product * length, 1);
  const values = Float32Array.from({ length: size }, (_, index) => Math.sin((index + 1) * 12.9898 + seed) * 1.5);
  return tensor(values, { shape, requiresGrad });
}

function codeOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof EvenkeelError) return error.code;
    throw error;
  }
  return 'no error';
}

describe('golden vectors', () => {
  it('batch norm, in training and outside it', async () => {
    const cases = await readGolden('batch_norm');
    expect(cases.size).toBe(5);
    for (const golden of cases.values()) {
      const [runningMean, runningVariance] = [golden.tensor('running_mean'), golden.tensor('running_var')];
      const evaluated = batchNorm(golden.tensor('x'), {
        gamma: golden.tensor('gamma'),
        beta: golden.tensor('beta'),
        runningMean,
        runningVariance,
        training: false,
      });
      await expectExact('batchNorm', 'forward', evaluated, golden.exact('y_eval'));
      await compare('batchNorm', golden, ['x', 'gamma', 'beta'], (x, gamma, beta) =>
        batchNorm(x!, { gamma, beta, runningMean, runningVariance, training: true }),
      );
      await expectExact('batchNorm', 'forward', runningMean, golden.exact('running_mean_after'));
      await expectExact('batchNorm', 'forward', runningVariance, golden.exact('running_var_after'));
    }
  });

  it('group norm, with layer and instance norm as its ends', async () => {
    const cases = await readGolden('group_norm');
    expect(cases.size).toBe(11);
    for (const golden of cases.values()) {
      const groups = Number(/_g(\d+)$/.exec(golden.name)![1]);
      const channels = golden.exact('gamma').length;
      const parameters = ['x', 'gamma', 'beta'];
      await compare('groupNorm', golden, parameters, (x, gamma, beta) => groupNorm(x!, { groups, gamma, beta }));
      if (groups === 1)
        await compare('layerNorm', golden, parameters, (x, gamma, beta) => layerNorm(x!, { gamma, beta }));
      if (groups === channels) {
        await compare('instanceNorm', golden, parameters, (x, gamma, beta) => instanceNorm(x!, { gamma, beta }));
      }
    }
  });

  it('layer norm over channels', async () => {
    for (const golden of (await readGolden('layer_norm_channels')).values()) {
      await compare('layerNorm over channels', golden, ['x', 'gamma', 'beta'], (x, gamma, beta) =>
        layerNorm(x!, { over: 'channels', gamma, beta, epsilon: 1e-6 }),
      );
    }
  });

  it('root mean square norm', async () => {
    for (const golden of (await readGolden('rms_norm')).values()) {
      await compare('rmsNorm', golden, ['x', 'gamma'], (x, gamma) => rmsNorm(x!, { gamma, epsilon: 1e-6 }));
    }
  });

  it('filter response norm, with fixed and learned epsilon', async () => {
    const cases = await readGolden('filter_response_norm');
    expect(cases.size).toBe(10);
    for (const golden of cases.values()) {
      const names = ['x', 'gamma', 'beta', 'tau', ...(golden.has('epsilon_learned') ? ['epsilon_learned'] : [])];
      await compare('filterResponseNorm', golden, names, (x, gamma, beta, tau, learnedEpsilon) =>
        filterResponseNorm(x!, { gamma, beta, tau, learnedEpsilon }),
      );
    }
  });

  it('constants, a mean far from zero, huge and tiny values', async () => {
    const cases = await readGolden('hard_inputs');
    expect(cases.size).toBe(12);
    for (const golden of cases.values()) {
      await compare('hard inputs', golden, ['x'], (x) => {
        if (golden.name.startsWith('batch_norm')) return batchNorm(x!, { training: true });
        if (golden.name.startsWith('layer_norm')) return layerNorm(x!);
        return filterResponseNorm(x!);
      });
    }
  });
});

describe('gradients', () => {
  const shape = [2, 3, 2, 5];
  const running = () => ({ runningMean: ones([5]), runningVariance: ones([5]) });
  const methods: [string, (x: Tensor, gamma: Tensor, beta: Tensor, activation: FusedActivation) => Tensor][] = [
    ['batchNorm', (x, gamma, beta, activation) => batchNorm(x, { gamma, beta, activation, training: true })],
    [
      'batchNorm outside training',
      (x, gamma, beta, activation) => batchNorm(x, { gamma, beta, activation, training: false, ...running() }),
    ],
    ['groupNorm', (x, gamma, beta, activation) => groupNorm(x, { gamma, beta, activation, groups: 5 })],
    ['layerNorm', (x, gamma, beta, activation) => layerNorm(x, { gamma, beta, activation })],
    [
      'layerNorm over channels',
      (x, gamma, beta, activation) => layerNorm(x, { gamma, beta, activation, over: 'channels' }),
    ],
    ['filterResponseNorm', (x, gamma, beta, activation) => filterResponseNorm(x, { gamma, beta, activation })],
  ];

  it.each(methods)('of %s agree with finite differences', async (_name, normalize) => {
    for (const activation of ['none', 'silu', 'tanh'] as const) {
      const inputs = [irregular(shape, 1), irregular([5], 2), irregular([5], 3)];
      const result = await gradcheck((x, gamma, beta) => normalize(x!, gamma!, beta!, activation), inputs);
      expect(result).toMatchObject({ passed: true });
    }
  });

  it('of rmsNorm and of 2-D inputs agree with finite differences', async () => {
    const [x, gamma] = [irregular(shape, 1), irregular([5], 2)];
    expect(await gradcheck((a, b) => rmsNorm(a!, { gamma: b, activation: 'silu' }), [x, gamma])).toMatchObject({
      passed: true,
    });
    const rows = irregular([4, 7], 4);
    for (const normalize of [
      (a: Tensor) => layerNorm(a),
      (a: Tensor) => batchNorm(a, { training: true }),
      (a: Tensor) => filterResponseNorm(a, { epsilon: 0.5 }),
      (a: Tensor) => groupNorm(a, { groups: 1 }),
    ]) {
      expect(await gradcheck((a) => normalize(a!), [rows])).toMatchObject({ passed: true });
    }
  });

  it.each([true, false])('of the residual sum (training: %s)', async (training) => {
    const options: BatchNormOptions = { training, activation: 'silu', ...running(), momentum: 0 };
    const inputs = [irregular(shape, 1), irregular(shape, 2), irregular([5], 3), irregular([5], 4)];
    const result = await gradcheck(
      (x, residual, gamma, beta) => batchNorm(x!, { ...options, residual, gamma, beta }),
      inputs,
    );
    expect(result).toMatchObject({ passed: true });
  });

  it.each(['absolute', 'exponential'] as const)('of a learned epsilon, %s', async (epsilonForm) => {
    const learnedEpsilon = tensor([epsilonForm === 'absolute' ? -0.7 : -0.5], { requiresGrad: true });
    const x = irregular([3, 4], 1);
    const result = await gradcheck(
      (a, e) => filterResponseNorm(a!, { learnedEpsilon: e, epsilonForm }),
      [x, learnedEpsilon],
    );
    expect(result).toMatchObject({ passed: true });
  });

  it('are computed only where they are wanted', () => {
    const [x, gamma] = [irregular(shape, 1, false), irregular([5], 2)];
    groupNorm(x, { groups: 1, gamma, beta: ones([5]) }).backward(ones(shape));
    expect(x.grad).toBeUndefined();
    expect(gamma.grad?.shape).toEqual([5]);
  });

  it('at a tie of the threshold go to the normalized value', async () => {
    const x = tensor([0, 0, 0, 0], { shape: [1, 4, 1], requiresGrad: true });
    const [beta, tau] = [tensor([0], { requiresGrad: true }), tensor([0], { requiresGrad: true })];
    filterResponseNorm(x, { beta, tau }).backward(ones([1, 4, 1]));
    expect(await beta.grad!.data()).toEqual(Float32Array.of(4));
    expect(await tau.grad!.data()).toEqual(Float32Array.of(0));
  });
});

describe('what is fused', () => {
  it('adds the residual before the activation', async () => {
    const [x, residual] = [irregular([2, 3, 3, 7], 1), irregular([2, 3, 3, 7], 2)];
    const plain = await batchNorm(x, { training: true }).data();
    const shortcut = await residual.data();
    const fused = await batchNorm(x, { training: true, residual, activation: 'relu' }).data();
    for (const [index, value] of fused.entries()) {
      expect(value).toBeCloseTo(Math.max(0, plain[index]! + shortcut[index]!), 5);
    }
  });

  const functions: Readonly<Record<FusedActivation, (z: number) => number>> = {
    none: (z) => z,
    relu: (z) => Math.max(0, z),
    leakyRelu: (z) => (z > 0 ? z : 0.01 * z),
    elu: (z) => (z > 0 ? z : Math.expm1(z)),
    silu: (z) => z / (1 + Math.exp(-z)),
    gelu: (z) => z * (z > 0 ? 1 - upperTail(z) : upperTail(-z)),
    geluTanh: (z) => 0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3))),
    sigmoid: (z) => 1 / (1 + Math.exp(-z)),
    tanh: Math.tanh,
    hardTanh: (z) => Math.min(1, Math.max(-1, z)),
    softplus: (z) => Math.log1p(Math.exp(z)),
    hardSwish: (z) => (z * Math.min(6, Math.max(0, z + 3))) / 6,
  };

  /** The normal distribution above z >= 0 (Abramowitz and Stegun 26.2.17, to 1e-7). */
  function upperTail(z: number): number {
    const t = 1 / (1 + 0.2316419 * z);
    const coefficients = [0.31938153, -0.356563782, 1.781477937, -1.821255978, 1.330274429];
    const series = coefficients.reduce((sum, coefficient, index) => sum + coefficient * t ** (index + 1), 0);
    return (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * series;
  }

  it.each(Object.entries(functions))('applies %s', async (name, expected) => {
    const x = irregular([2, 5, 17], 1);
    for (const normalize of [
      (activation: FusedActivation) => groupNorm(x, { groups: 17, activation }),
      (activation: FusedActivation) => layerNorm(x, { over: 'channels', activation }),
      (activation: FusedActivation) => filterResponseNorm(x, { activation }),
    ]) {
      const plain = await normalize('none').data();
      const fused = await normalize(name as FusedActivation).data();
      for (const [index, value] of fused.entries()) expect(value).toBeCloseTo(expected(plain[index]!), 5);
    }
  });
});

describe('promises', () => {
  it('a sample depends on no other, bit for bit, but in batch norm', async () => {
    const whole = irregular([3, 4, 4, 19], 1);
    const values = (await whole.data()) as Float32Array;
    values.fill(Number.NaN, 0, values.length / 3);
    values.fill(1e30, (2 * values.length) / 3);
    const spoilt = tensor(values, { shape: whole.shape });
    for (const normalize of [
      (x: Tensor) => groupNorm(x, { groups: 19, activation: 'relu' }),
      (x: Tensor) => layerNorm(x),
      (x: Tensor) => layerNorm(x, { over: 'channels' }),
      (x: Tensor) => rmsNorm(x),
      (x: Tensor) => filterResponseNorm(x, { tau: ones([19]) }),
    ]) {
      const [clean, dirty] = [await normalize(whole).data(), await normalize(spoilt).data()];
      const [from, to] = [clean.length / 3, (2 * clean.length) / 3];
      expect(dirty.slice(from, to)).toEqual(clean.slice(from, to));
    }
  });

  it('the bits do not depend on the threads', async () => {
    const before = getThreads();
    const shape = [3, 40, 40, 33];
    const results: Float32Array[][] = [];
    for (const threads of [1, 2, 3]) {
      setThreads(threads);
      const [x, gamma] = [irregular(shape, 1), irregular([33], 2)];
      const outputs = [
        batchNorm(x, { training: true, gamma, activation: 'relu' }),
        groupNorm(x, { groups: 3, gamma }),
        layerNorm(x, { over: 'channels', gamma }),
        filterResponseNorm(x, { gamma, tau: ones([33]) }),
      ];
      for (const output of outputs) output.backward(irregular(shape, 3, false));
      const tensors = [...outputs, x.grad!, gamma.grad!];
      results.push((await Promise.all(tensors.map((output) => output.data()))) as Float32Array[]);
    }
    setThreads(before);
    const bits = results.map((tensors) => tensors.map((values) => Buffer.from(values.buffer).toString('base64')));
    expect(bits[1]!.map((text, index) => text === bits[0]![index])).not.toContain(false);
    expect(bits[2]!.map((text, index) => text === bits[0]![index])).not.toContain(false);
  });

  it('a batch that is not finite leaves the running statistics alone', async () => {
    const [runningMean, runningVariance] = [tensor([1, 2]), tensor([3, 4])];
    const x = tensor([1, 2, 3, Number.NaN, 5, 6], { shape: [3, 2] });
    const y = await batchNorm(x, { training: true, runningMean, runningVariance }).data();
    expect(y.some(Number.isNaN)).toBe(true);
    expect(await runningMean.data()).toEqual(Float32Array.of(1, 2));
    expect(await runningVariance.data()).toEqual(Float32Array.of(3, 4));
  });

  it('an empty batch gives an empty result and zero gradients', async () => {
    const [x, gamma] = [tensor([], { shape: [0, 2, 2, 3], requiresGrad: true }), irregular([3], 1)];
    for (const normalize of [
      () => batchNorm(x, { training: true, gamma }),
      () => groupNorm(x, { groups: 3, gamma }),
      () => layerNorm(x, { over: 'channels', gamma }),
      () => filterResponseNorm(x, { gamma }),
    ]) {
      gamma.grad = undefined;
      const output = normalize();
      expect(output.shape).toEqual([0, 2, 2, 3]);
      output.backward(tensor([], { shape: [0, 2, 2, 3] }));
      expect(await gamma.grad!.data()).toEqual(new Float32Array(3));
    }
  });

  it('keeps no tensors', () => {
    const [x, gamma] = [irregular([2, 4, 4, 8], 1), irregular([8], 2)];
    const before = memory().liveTensors;
    scope(() => {
      const outputs = [
        batchNorm(x, { training: true, gamma }),
        groupNorm(x, { groups: 2, gamma }),
        filterResponseNorm(x, { gamma, tau: ones([8]) }),
        layerNorm(x, { over: 'channels', gamma }),
        rmsNorm(x, { gamma }),
      ];
      for (const output of outputs) output.backward(ones([2, 4, 4, 8]));
      noGrad(() => rmsNorm(x));
    });
    x.grad?.dispose();
    gamma.grad?.dispose();
    expect(memory().liveTensors).toBe(before);
  });
});

describe('arguments', () => {
  const x = () => irregular([2, 3, 3, 6], 1, false);
  const bad: [string, string, () => unknown][] = [
    ['a vector', 'SHAPE_MISMATCH', () => groupNorm(ones([6]), { groups: 1 })],
    ['no channels', 'SHAPE_MISMATCH', () => layerNorm(ones([2, 0]))],
    ['gamma of another length', 'SHAPE_MISMATCH', () => groupNorm(x(), { groups: 1, gamma: ones([5]) })],
    ['tau of another length', 'SHAPE_MISMATCH', () => filterResponseNorm(x(), { tau: ones([1]) })],
    [
      'running mean of another length',
      'SHAPE_MISMATCH',
      () => batchNorm(x(), { training: true, runningMean: ones([5]), runningVariance: ones([6]) }),
    ],
    ['residual of another shape', 'SHAPE_MISMATCH', () => batchNorm(x(), { training: true, residual: ones([6]) })],
    ['learned epsilon of two', 'SHAPE_MISMATCH', () => filterResponseNorm(x(), { learnedEpsilon: ones([2]) })],
    ['integers', 'DTYPE_MISMATCH', () => layerNorm(tensor([1, 2], { shape: [1, 2], dtype: 'int32' }))],
    ['groups that do not divide', 'INVALID_ARGUMENT', () => groupNorm(x(), { groups: 4 })],
    ['half a group', 'INVALID_ARGUMENT', () => groupNorm(x(), { groups: 1.5 })],
    ['no groups', 'INVALID_ARGUMENT', () => groupNorm(x(), { groups: 0 })],
    ['a negative epsilon', 'INVALID_ARGUMENT', () => rmsNorm(x(), { epsilon: -1e-9 })],
    ['no number as epsilon', 'INVALID_ARGUMENT', () => rmsNorm(x(), { epsilon: Number.NaN })],
    ['a momentum above 1', 'INVALID_ARGUMENT', () => batchNorm(x(), { training: true, momentum: 1.5 })],
    ['one running statistic', 'INVALID_ARGUMENT', () => batchNorm(x(), { training: true, runningMean: ones([6]) })],
    ['no running statistics', 'INVALID_ARGUMENT', () => batchNorm(x(), { training: false })],
    ['one value a channel', 'INVALID_ARGUMENT', () => batchNorm(ones([1, 1, 1, 6]), { training: true })],
    [
      'tau and an activation',
      'INVALID_ARGUMENT',
      () => filterResponseNorm(x(), { tau: ones([6]), activation: 'relu' }),
    ],
    ['an unknown activation', 'INVALID_ARGUMENT', () => layerNorm(x(), { activation: 'swoosh' as FusedActivation })],
    [
      'an inherited activation',
      'INVALID_ARGUMENT',
      () => layerNorm(x(), { activation: 'toString' as FusedActivation }),
    ],
    ['an unknown axis', 'INVALID_ARGUMENT', () => layerNorm(x(), { over: 'rows' as 'sample' })],
    ['an unknown form', 'INVALID_ARGUMENT', () => filterResponseNorm(x(), { epsilonForm: 'log' as 'absolute' })],
  ];

  it.each(bad)('refuses %s', (_name, code, body) => {
    const before = memory().liveTensors;
    expect(scope(() => codeOf(body))).toBe(code);
    expect(memory().liveTensors).toBe(before);
  });
});
