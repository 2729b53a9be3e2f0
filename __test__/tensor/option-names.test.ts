import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  full,
  gradcheck,
  noGrad,
  ones,
  profile,
  type ReductionOptions,
  scope,
  synchronize,
  type Tensor,
  tensor,
  zeros,
} from '../../src/tensor';
import * as activation from '../../src/tensor/operations/activation';
import { batchRenorm } from '../../src/tensor/operations/batch-renorm';
import * as binary from '../../src/tensor/operations/binary';
import { conv2d } from '../../src/tensor/operations/convolution';
import { clamp } from '../../src/tensor/operations/elementwise';
import { evoNormB0, evoNormS0 } from '../../src/tensor/operations/evo-norm';
import { independentComponent } from '../../src/tensor/operations/independent-component';
import { kalmanNorm, kalmanNormalized, kalmanPredict } from '../../src/tensor/operations/kalman';
import { slice } from '../../src/tensor/operations/layout';
import * as normalization from '../../src/tensor/operations/normalization';
import { onlineNorm } from '../../src/tensor/operations/online-norm';
import { avgPool2d, maxPool2d } from '../../src/tensor/operations/pooling';
import { proxyNorm, proxyStatistics } from '../../src/tensor/operations/proxy-norm';
import * as random from '../../src/tensor/operations/random';
import * as reduction from '../../src/tensor/operations/reduction';
import { rprelu } from '../../src/tensor/operations/rprelu';
import { binarize, rsign } from '../../src/tensor/operations/sign';
import { crossEntropy } from '../../src/tensor/operations/softmax';
import { scaledWeightStandardize, weightStandardize } from '../../src/tensor/operations/standardize';
import { switchableNorm } from '../../src/tensor/operations/switchable-norm';
import { standardDeviation, variance } from '../../src/tensor/operations/variance';
import { expectBooleans, expectNames, type Taker } from '../support/option-names';
import { irregular } from '../support/tensors';

const CHANNELS = 3;
const images = irregular([2, 5, 5, CHANNELS], 1);
const rows = irregular([4, CHANNELS], 2);
const filters = irregular([3, 3, CHANNELS, 4], 3);
const matrix = irregular([CHANNELS, 4], 4);
const channel = (seed: number): Tensor => irregular([CHANNELS], seed, { positive: true });
/** What an operation updates in place. */
const running = (): Tensor => ones([CHANNELS]);
const state = irregular([2, 1, CHANNELS], 5, { positive: true });

const proxy = {
  gamma: channel(6),
  beta: channel(7),
  proxyGamma: channel(8),
  proxyBeta: channel(9),
  activation: 'relu',
} as const;
const statistics = noGrad(() => proxyStatistics(proxy, tensor([-1, 0, 1]), 0.03));

type Operation = Omit<Taker, 'owner'>;

const norm = { gamma: channel(10), beta: channel(11), epsilon: 1e-4, activation: 'relu' };
const { activation: _, ...plain } = norm;
const moving = { runningMean: running(), runningVariance: running(), momentum: 0.2 };
const sign = { activationGradient: 'steClip', activationGradientParameter: 2 };
const binaryOptions = { ...sign, shift: channel(12), gain: irregular([4], 13), weightGradient: 'identity' };
const window = { stride: 2, padding: 1 };

const operations: Readonly<Record<string, Operation>> = {
  tensor: { call: (o) => tensor([1, 2, 3], o), options: { dtype: 'int32', requiresGrad: false, shape: [3] } },
  full: { call: (o) => full([2], 1, o), options: { dtype: 'float32', requiresGrad: true } },
  zeros: { call: (o) => zeros([2], o), options: { dtype: 'float32', requiresGrad: true } },
  ones: { call: (o) => ones([2], o), options: { dtype: 'float32', requiresGrad: true } },
  uniform: { call: (o) => random.uniform([2], o), options: { low: 1, high: 2 } },
  randn: { call: (o) => random.randn([2], o), options: { mean: 1, standardDeviation: 2 } },
  randint: { call: (o) => random.randint([2], o), options: { low: 1, high: 5 } },
  dropout: { call: (o) => random.dropout(rows, o), options: { probability: 0.3, training: true } },
  gelu: { call: (o) => activation.gelu(rows, o), options: { approximate: 'tanh' } },
  clamp: { call: (o) => clamp(rows, o), options: { min: -1, max: 1 } },
  slice: { call: (o) => slice(rows, o), options: { starts: [1], ends: [3], steps: [1] } },
  sum: { call: (o) => reduction.sum(rows, o), options: { axes: 1, keepDims: true } },
  mean: { call: (o) => reduction.mean(rows, o), options: { axes: 1, keepDims: true } },
  variance: { call: (o) => variance(rows, o), options: { axes: 1, keepDims: true, correction: 1 } },
  standardDeviation: { call: (o) => standardDeviation(rows, o), options: { axes: 1, keepDims: true, correction: 1 } },
  max: { call: (o) => reduction.max(rows, o), options: { axes: 1, keepDims: true } },
  min: { call: (o) => reduction.min(rows, o), options: { axes: 1, keepDims: true } },
  crossEntropy: {
    call: (o) => crossEntropy(rows, tensor(Int32Array.of(0, 1, 2, 0)), o),
    options: { labelSmoothing: 0.1, reduction: 'sum' },
  },
  conv2d: { call: (o) => conv2d(images, filters, undefined, o), options: { ...window, dilation: 1, groups: 1 } },
  maxPool2d: { call: (o) => maxPool2d(images, o), options: { ...window, kernelSize: 3, ceilMode: true } },
  avgPool2d: {
    call: (o) => avgPool2d(images, o),
    options: { ...window, kernelSize: 3, ceilMode: true, countIncludePadding: false },
  },
  batchNorm: {
    call: (o) => normalization.batchNorm(images, o),
    options: { ...norm, ...moving, training: true, residual: images },
  },
  groupNorm: { call: (o) => normalization.groupNorm(images, o), options: { ...norm, groups: 1 } },
  instanceNorm: { call: (o) => normalization.instanceNorm(images, o), options: norm },
  layerNorm: { call: (o) => normalization.layerNorm(images, o), options: { ...norm, over: 'channels' } },
  rmsNorm: {
    call: (o) => normalization.rmsNorm(images, o),
    options: { gamma: norm.gamma, epsilon: 1e-4, activation: 'relu' },
  },
  filterResponseNorm: {
    call: (o) => normalization.filterResponseNorm(images, o),
    options: { ...plain, tau: channel(14), learnedEpsilon: ones([1]), epsilonForm: 'exponential' },
    others: { tau: undefined, activation: 'relu' },
  },
  batchRenorm: {
    call: (o) => batchRenorm(images, o),
    options: {
      ...norm,
      runningMean: running(),
      runningDeviation: running(),
      steps: zeros([1]),
      momentum: 0.1,
      plainSteps: 5,
      scaleSteps: 10,
      shiftSteps: 10,
      maximumScale: 3,
      maximumShift: 5,
    },
  },
  evoNormS0: { call: (o) => evoNormS0(images, o), options: { ...plain, slope: channel(15), groups: 1 } },
  evoNormB0: {
    call: (o) => evoNormB0(images, o),
    options: { ...plain, slope: channel(16), training: true, runningVariance: running(), momentum: 0.2 },
  },
  switchableNorm: {
    call: (o) => switchableNorm(images, o),
    options: { ...norm, ...moving, training: true, meanLogits: ones([3]), varianceLogits: ones([3]) },
  },
  onlineNorm: {
    call: (o) => onlineNorm(images, o),
    options: {
      ...norm,
      ...{ runningMean: running(), runningVariance: running(), outputControl: running(), meanControl: running() },
      ...{ keep: 0.9, gradientKeep: 0.9, layerScaling: true },
    },
  },
  independentComponent: {
    call: (o) => independentComponent(images, o),
    options: { ...plain, ...moving, rate: 0.2 },
    others: { rate: 0 },
  },
  proxyStatistics: { call: (o) => proxyStatistics(o, tensor([-1, 0, 1]), 0.03), options: proxy },
  proxyNorm: { call: (o) => proxyNorm(images, o), options: { ...proxy, statistics, groups: 1, epsilon: 1e-5 } },
  kalmanNorm: {
    call: (o) => kalmanNorm(images, o),
    options: {
      ...norm,
      ...moving,
      groups: 1,
      prior: state,
      through: { weight: irregular([CHANNELS, CHANNELS], 17), rectified: true, channelGroups: 1 },
      priorWeight: 0.3,
      priorWeightForm: 'value',
      guarded: true,
      residual: images,
      handsOn: 'normalized',
      shortcut: { state, rectified: true },
      firstGroupOnly: true,
    },
  },
  'kalmanNorm through': {
    call: (through) => kalmanNorm(images, { prior: state, priorWeight: 0.3, through }),
    options: {
      weight: irregular([CHANNELS, CHANNELS], 18),
      rectified: true,
      bias: channel(19),
      noise: channel(20),
      channelGroups: 1,
    },
  },
  'kalmanNorm shortcut': {
    call: (shortcut) => kalmanNorm(images, { residual: images, shortcut }),
    options: { state, rectified: true },
  },
  kalmanPredict: {
    call: (o) => kalmanPredict(state, matrix, o),
    options: { bias: irregular([4], 21), noise: irregular([4], 22), channelGroups: 1 },
  },
  kalmanNormalized: { call: (o) => kalmanNormalized(state, o), options: plain },
  binarize: { call: (o) => binarize(images, o), options: { ...sign, shift: channel(23) } },
  rsign: { call: (o) => rsign(images, channel(24), o), options: sign },
  rprelu: {
    call: (o) => rprelu(images, o),
    options: { shiftIn: channel(25), slope: channel(26), shiftOut: channel(27) },
  },
  binaryConv2d: {
    call: (o) => binary.binaryConv2d(images, filters, o),
    options: { ...binaryOptions, ...window, dilation: 1, paddingValue: 'plus' },
  },
  binaryLinear: { call: (o) => binary.binaryLinear(rows, matrix, o), options: binaryOptions },
  binaryWeight: {
    call: (o) => binary.binaryWeight(matrix, o),
    options: { gain: binaryOptions.gain, weightGradient: 'identity' },
  },
  weightStandardize: {
    call: (o) => weightStandardize(filters, o),
    options: { gain: binaryOptions.gain, epsilon: 1e-4 },
  },
  scaledWeightStandardize: {
    call: (o) => scaledWeightStandardize(filters, o),
    options: { gain: binaryOptions.gain, epsilon: 1e-4, gamma: 1.5 },
  },
};

const names = Object.keys(operations);

/** A call as JavaScript makes it, with any options. */
function callWith(name: string, options: unknown): void {
  const { call } = operations[name]!;
  scope(() => void call(options as never));
}

/** The message of what `body` throws. */
function messageOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    return (error as Error).message;
  }
  return 'no error';
}

test.each(names)('%s takes all its options, and says which one it does not know', async (name) => {
  const { options, others = {} } = operations[name]!;
  await expectNames({ call: (given) => callWith(name, given), options, others, owner: name });
  await synchronize();
});

test.each(names)('%s takes nothing but booleans where it has booleans', async (name) => {
  await expectBooleans({ call: (given) => callWith(name, given), options: operations[name]!.options, owner: name });
});

test.each(names)('%s wants an object of options', (name) => {
  for (const wrong of [null, true, 'padding']) {
    expect(messageOf(() => callWith(name, wrong))).toContain(`${name}: expected an object of options, got `);
  }
});

test('the methods of a tensor check their options as well', () => {
  const options = { axis: 1 } as ReductionOptions;
  const message = 'sum: there is no option axis (did you mean axes?); the options are axes, keepDims';
  expect(messageOf(() => rows.sum(options))).toBe(message);
});

test('gradcheck and profile refuse unknown names', async () => {
  const wrong = { tolerence: 1 } as object;
  await expect(gradcheck((x) => x.relu(), [rows], wrong)).rejects.toThrow(
    'gradcheck: there is no option tolerence (did you mean tolerance?);',
  );
  await expect(profile(() => 1, { layer: new Map() } as object)).rejects.toThrow(
    'profile: there is no option layer (did you mean layers?);',
  );
});

test('the table has every operation with options', () => {
  const folder = join(__dirname, '../../src/tensor/operations');
  const sources = readdirSync(folder).map((file) => readFileSync(join(folder, file), 'utf8'));
  const internal = ['geometryOf', 'surrogateOf'];
  const found = sources
    .flatMap((source) => [...source.matchAll(/^export function (\w+)\(([^)]*?)\): /gms)])
    .filter(([, , parameters]) => /\boptions\??: /.test(parameters ?? ''))
    .map(([, name]) => name);
  expect(found.length).toBeGreaterThan(30);
  expect(found.filter((name) => !internal.includes(name!) && !names.includes(name!))).toEqual([]);
});
