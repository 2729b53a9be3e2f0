import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as evenkeel from '../src';
import { checkpoint, data, evaluate, models, nn, optim, profileSteps, Trainer, tensor } from '../src';
import * as tensorExports from '../src/tensor';
import { expectBooleans, expectNames, refusal, type Taker } from './support/option-names';

const folder = mkdtempSync(join(tmpdir(), 'evenkeel-options-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A table's row: the owner is the name unless it says otherwise. */
type Row = Omit<Taker, 'owner'> & { readonly owner?: string };

const channels = 4;
const zeros = nn.init.zeros;
const convolution = {
  inChannels: 4,
  outChannels: 8,
  kernelSize: 3,
  stride: 2,
  padding: 'same',
  dilation: 1,
  groups: 2,
  bias: true,
  weightInitializer: nn.kaimingNormal(),
  biasInitializer: zeros,
};
const fullyConnected = {
  inFeatures: 3,
  outFeatures: 5,
  bias: true,
  weightInitializer: nn.xavierUniform(),
  biasInitializer: zeros,
};
const norm = { channels, epsilon: 1e-4, affine: true, initialScale: 0.5, activation: 'relu' };
const { activation: _, ...plainNorm } = norm;
const standardization = { gain: true, variancePreservingFactor: 1.7, standardizationEpsilon: 1e-4 };
const kalman = { mode: 'tied-raw', prediction: 'monte-carlo' };
const preconditioning = { keep: 0.9, relativeEpsilon: 0.1, absoluteEpsilon: 0.1, variance: 'naive', rows: 'batch' };
const latent = {
  standardize: true,
  standardizationEpsilon: 1e-4,
  gain: true,
  weightGradient: 'clip',
  binaryWeights: true,
  weightInitializer: nn.kaimingNormal(),
};
const signs = { activationGradient: 'steClip', activationGradientParameter: 2 };
const binary = { activation: 'rsign', ...signs, ...latent };
const window = { kernelSize: 3, stride: 2, padding: 1, ceilMode: true };

const layers: Readonly<Record<string, Row>> = {
  Conv2d: { call: (o) => new nn.Conv2d(o), options: convolution },
  ObservedConv2d: { call: (o) => new nn.ObservedConv2d(o), options: convolution, owner: 'Conv2d' },
  KalmanConv2d: { call: (o) => new nn.KalmanConv2d(o), options: { ...convolution, ...kalman } },
  WeightStandardizedConv2d: {
    call: (o) => new nn.WeightStandardizedConv2d(o),
    options: { ...convolution, standardizationEpsilon: 1e-4 },
  },
  ScaledStandardizedConv2d: {
    call: (o) => new nn.ScaledStandardizedConv2d(o),
    options: { ...convolution, ...standardization },
  },
  Linear: { call: (o) => new nn.Linear(o), options: fullyConnected },
  ObservedLinear: { call: (o) => new nn.ObservedLinear(o), options: fullyConnected, owner: 'Linear' },
  KalmanLinear: { call: (o) => new nn.KalmanLinear(o), options: { ...fullyConnected, ...kalman } },
  ScaledStandardizedLinear: {
    call: (o) => new nn.ScaledStandardizedLinear(o),
    options: { ...fullyConnected, ...standardization },
  },
  BinaryConv2d: {
    call: (o) => new nn.BinaryConv2d(o),
    options: {
      ...{ inChannels: 4, outChannels: 8, kernelSize: 3, stride: 2, padding: 1, dilation: 1, paddingValue: 'plus' },
      ...binary,
    },
  },
  BinaryLinear: { call: (o) => new nn.BinaryLinear(o), options: { inFeatures: 3, outFeatures: 5, ...binary } },
  BinaryWeightConv2d: {
    call: (o) => new nn.BinaryWeightConv2d(o),
    options: { inChannels: 4, outChannels: 8, kernelSize: 3, stride: 2, padding: 1, ...latent },
  },
  RSign: { call: (o) => new nn.RSign(o), options: { channels, ...signs } },
  RPReLU: { call: (o) => new nn.RPReLU(o), options: { channels, slope: 0.1 } },
  MaxPool2d: { call: (o) => new nn.MaxPool2d(o), options: window },
  AvgPool2d: { call: (o) => new nn.AvgPool2d(o), options: { ...window, countIncludePadding: false } },
  Dropout: { call: (o) => new nn.Dropout(o), options: { rate: 0.1 } },
  StochasticDepth: { call: (o) => new nn.StochasticDepth(o), options: { rate: 0.1 } },
  SqueezeExcitation: {
    call: (o) => new nn.SqueezeExcitation(o),
    options: { channels, hidden: 2, activation: 'silu' },
  },
  ELU: { call: (o) => new nn.ELU(o), options: { alpha: 0.5 } },
  GELU: { call: (o) => new nn.GELU(o), options: { approximate: 'tanh' } },
  HardTanh: { call: (o) => new nn.HardTanh(o), options: { low: 0, high: 6 } },
  LeakyReLU: { call: (o) => new nn.LeakyReLU(o), options: { slope: 0.1 } },
  PReLU: { call: (o) => new nn.PReLU(o), options: { channels, slope: 0.1 } },
  ThresholdedLinearUnit: { call: (o) => new nn.ThresholdedLinearUnit(o), options: { channels, affine: true } },
  BatchNorm: { call: (o) => new nn.BatchNorm(o), options: { ...norm, momentum: 0.2 } },
  BatchRenorm: {
    call: (o) => new nn.BatchRenorm(o),
    options: {
      ...norm,
      ...{ momentum: 0.2, maximumScale: 2, maximumShift: 2, plainSteps: 1, scaleSteps: 2, shiftSteps: 3 },
    },
  },
  GhostBatchNorm: { call: (o) => new nn.GhostBatchNorm(o), options: { ...norm, momentum: 0.2, groupSize: 8 } },
  GroupNorm: { call: (o) => new nn.GroupNorm(o), options: { ...norm, groups: 2 } },
  InstanceNorm: { call: (o) => new nn.InstanceNorm(o), options: norm },
  LayerNorm: { call: (o) => new nn.LayerNorm(o), options: { ...norm, over: 'channels' } },
  RMSNorm: { call: (o) => new nn.RMSNorm(o), options: norm },
  SwitchableNorm: { call: (o) => new nn.SwitchableNorm(o), options: { ...norm, momentum: 0.2 } },
  OnlineNorm: { call: (o) => new nn.OnlineNorm(o), options: { ...norm, keep: 0.9, gradientKeep: 0.9, guard: 'clamp' } },
  BatchKalmanNorm: {
    call: (o) => new nn.BatchKalmanNorm(o),
    options: {
      ...norm,
      ...{ groupSize: 2, mode: 'tied-norm', priorWeight: 0.3, learnPriorWeight: true, guarded: true, momentum: 0.2 },
      ...{ firstGroupOnly: true, stopChainGradient: true },
    },
  },
  EvoNormS0: {
    call: (o) => new nn.EvoNormS0(o),
    options: { channels, epsilon: 1e-4, nonlinearity: false, groups: 2 },
  },
  EvoNormB0: {
    call: (o) => new nn.EvoNormB0(o),
    options: { channels, epsilon: 1e-4, nonlinearity: false, momentum: 0.2 },
  },
  FilterResponseNorm: {
    call: (o) => new nn.FilterResponseNorm(o),
    options: {
      ...norm,
      ...{ learnedEpsilon: true, epsilonForm: 'exponential', epsilonLearningRateScale: 0.1 },
      ...{ threshold: false, affineThreshold: false },
    },
  },
  IndependentComponent: {
    call: (o) => new nn.IndependentComponent(o),
    options: { ...plainNorm, dropRate: 0.1, momentum: 0.2 },
  },
  ProxyNorm: {
    call: (o) => new nn.ProxyNorm(o),
    options: { channels, groups: 2, activation: 'silu', epsilon: 1e-4, proxyEpsilon: 0.1, nodes: 20 },
  },
};

const model = () => new nn.Linear({ inFeatures: 2, outFeatures: 2 });
const trained = model();
const { train, test: rest } = data.digits();
const build = () => new nn.NormalizedLayers({ norm: 'batch' });
const diagnosed = () => {
  const small = new nn.Sequential([new nn.Linear({ inFeatures: 2, outFeatures: 2 }), new nn.ReLU()]);
  const batch = {
    images: tensor([
      [1, 2],
      [3, 5],
    ]),
    labels: tensor(Int32Array.of(0, 1)),
  };
  return [small, batch] as const;
};

const otherParts: Readonly<Record<string, Row>> = {
  Parameter: {
    call: (o) => new nn.Parameter(tensor([1]), o),
    options: { decay: false, learningRateScale: 2, requiresGrad: false },
  },
  CrossEntropyLoss: { call: (o) => new nn.CrossEntropyLoss(o), options: { labelSmoothing: 0.1, reduction: 'sum' } },
  BinaryCrossEntropyLoss: {
    call: (o) => new nn.BinaryCrossEntropyLoss(o),
    options: { labelSmoothing: 0.1, reduction: 'sum' },
  },
  NegativeLogLikelihoodLoss: { call: (o) => new nn.NegativeLogLikelihoodLoss(o), options: { reduction: 'sum' } },
  MSELoss: { call: (o) => new nn.MSELoss(o), options: { reduction: 'none' } },
  AuxiliaryLoss: {
    call: (o) => new nn.AuxiliaryLoss(o),
    options: { model: { takeAuxiliaryLogits: () => undefined }, loss: new nn.MSELoss(), weight: 0.3 },
  },
  DistillationLoss: {
    call: (o) => new nn.DistillationLoss(o),
    options: { model: model(), teacher: model(), evaluation: new nn.MSELoss() },
  },
  NormalizedLayers: {
    call: (o) => new nn.NormalizedLayers(o),
    options: { norm: 'group', activation: 'silu', weightInitializer: nn.kaimingNormal() },
  },
  'NormalizedLayers.unit': {
    call: (o) => build().unit(o),
    options: { channels, spatial: true, activation: 'silu' },
  },
  'NormalizedLayers.sumUnit': {
    call: (o) => build().sumUnit(o, new nn.ResidualSum()),
    options: { channels, spatial: true, activation: 'silu' },
  },
  'NormalizedLayers.residual': {
    call: (o) => build().residual(o),
    options: { channels, stage: 0, block: 0, transition: false, binary: true, half: 'first' },
  },
  BatchNormPreconditioning: {
    call: (o) => new nn.BatchNormPreconditioning(model() as never, o),
    options: preconditioning,
    owner: 'batchNormPreconditioning',
  },
  kaimingNormal: { call: (o) => nn.kaimingNormal(o), options: { mode: 'fanOut', gain: 1 } },
  kaimingUniform: { call: (o) => nn.kaimingUniform(o), options: { mode: 'fanOut', gain: 1 } },
  xavierNormal: { call: (o) => nn.xavierNormal(o), options: { gain: 1 } },
  xavierUniform: { call: (o) => nn.xavierUniform(o), options: { gain: 1 } },
  diagnose: { call: (o) => nn.diagnose(...diagnosed(), o), options: { loss: new nn.CrossEntropyLoss() } },
  loadStateDict: { call: (o) => model().loadStateDict(model().stateDict(), o), options: { strict: false } },
  backward: {
    call: (o) => tensor(1, { requiresGrad: true }).mul(2).backward(undefined, o),
    options: { retainGraph: true },
  },
};

const normNames = { epsilon: 1e-4, affine: false };
const normalizations: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  none: {},
  batch: { ...normNames, momentum: 0.2 },
  'batch-renorm': {
    ...normNames,
    ...{ momentum: 0.2, maximumScale: 2, maximumShift: 2, plainSteps: 1, scaleSteps: 2, shiftSteps: 3 },
  },
  ghost: { ...normNames, momentum: 0.2, groupSize: 2 },
  group: { ...normNames, groups: 2 },
  layer: { ...normNames, over: 'channels' },
  instance: normNames,
  rms: normNames,
  frn: {
    ...normNames,
    ...{ epsilonForm: 'exponential', epsilonLearningRateScale: 0.1, affineThreshold: true },
    ...{ learnedEpsilon: 'all', thresholdBeforeSum: false },
  },
  proxy: { groups: 2, epsilon: 1e-4, proxyEpsilon: 0.1, nodes: 20 },
  'evonorm-s0': { epsilon: 1e-4, groups: 2 },
  'evonorm-b0': { epsilon: 1e-4, momentum: 0.2 },
  switchable: { ...normNames, momentum: 0.2 },
  online: { ...normNames, keep: 0.9, gradientKeep: 0.9, guard: 'clamp' },
  'weight-standardized-group': { ...normNames, groups: 2 },
  'bn-free': { alpha: 0.1, beta: 'none', standardize: true, gain: true, bias: false, clipping: 0.1 },
  ic: { ...normNames, dropRate: 0.1, momentum: 0.2, order: 'ic-conv-relu', onProjection: true },
  kalman: {
    ...normNames,
    ...{ groupSize: 2, mode: 'tied-norm', priorWeight: 0.3, learnPriorWeight: true, guarded: true, momentum: 0.2 },
    ...{ firstGroupOnly: true, stopChainGradient: true, prediction: 'closed-form', inputPrior: true },
  },
  bnp: { ...preconditioning, groupNorm: true },
};

const parameters = () => model().parameters();
const adam = { learningRate: 0.1, weightDecay: 0.1, betas: [0.8, 0.9], epsilon: 1e-6 };
const optimizers: Readonly<Record<string, Row>> = {
  SGD: {
    call: (o) => new optim.SGD(parameters(), o),
    options: { learningRate: 0.1, weightDecay: 0.1, momentum: 0.9, nesterov: true },
  },
  Adam: { call: (o) => new optim.Adam(parameters(), o), options: adam },
  AdamW: { call: (o) => new optim.AdamW(parameters(), o), options: adam },
  RMSprop: {
    call: (o) => new optim.RMSprop(parameters(), o),
    options: { learningRate: 0.1, weightDecay: 0.1, smoothing: 0.9, epsilon: 1e-6, momentum: 0.9, centered: true },
  },
  Bop: { call: (o) => new optim.Bop(parameters(), o), options: { learningRate: 0.1, weightDecay: 0, threshold: 1e-6 } },
  step: {
    call: (o) => new optim.SGD(parameters(), { learningRate: 0.1 }).step(o),
    options: { gradientScale: 0.5 },
  },
  ExponentialMovingAverage: {
    call: (o) => new optim.ExponentialMovingAverage(parameters(), o),
    options: { decay: 0.9, warmup: false },
  },
  adaptiveGradientClipping: {
    call: (o) => optim.adaptiveGradientClipping(parameters(), o),
    options: { clipping: 0.1, epsilon: 0.1, unitOf: () => 'tensor' },
  },
  batchNormPreconditioning: { call: (o) => optim.batchNormPreconditioning(model(), o), options: preconditioning },
  parameterGroups: { call: (o) => optim.parameterGroups(model(), o), options: { weightDecay: 0.1 } },
};

const { schedules } = optim;
const decay = { learningRate: 0.1, steps: 10 };
const scheduled: Readonly<Record<string, Row>> = {
  constant: { call: (o) => schedules.constant(o), options: { learningRate: 0.1 } },
  linearWarmup: { call: (o) => schedules.linearWarmup(o), options: { ...decay, from: 0.01 } },
  step: { call: (o) => schedules.step(o), options: { learningRate: 0.1, at: [3], factor: 0.5 } },
  cosine: { call: (o) => schedules.cosine(o), options: { ...decay, to: 0.01 } },
  linearToZero: { call: (o) => schedules.linearToZero(o), options: decay },
  linearByEpoch: {
    call: (o) => schedules.linearByEpoch(o),
    options: { learningRate: 0.1, epochs: 2, stepsPerEpoch: 3 },
  },
  oneCycle: {
    call: (o) => schedules.oneCycle(o),
    options: { ...decay, warmup: 0.2, initialDivisor: 2, finalDivisor: 3 },
  },
  sequence: {
    call: (part) => schedules.sequence([part]),
    options: { schedule: () => 0.1, steps: 2 },
    owner: 'schedules.sequence part',
  },
  warmup: { call: (o) => schedules.warmup(() => 0.1, o), options: { steps: 2, from: 0.01 } },
};

const loader = () => new data.DataLoader(data.take(rest, 4), { batchSize: 4 });
const dataParts: Readonly<Record<string, Row>> = {
  DataLoader: {
    call: (o) => new data.DataLoader(train, o),
    options: { batchSize: 8, shuffle: true, seed: 1, augment: { crop: 1 }, normalize: false, dropLast: true },
  },
  'DataLoader augment': {
    call: (augment) => new data.DataLoader(train, { batchSize: 8, augment }),
    options: { crop: 1, flip: true },
  },
  split: { call: (o) => data.split(train, [0.5, 0.5], o), options: { shuffle: false, seed: 1 } },
  fromArrays: {
    call: (o) => data.fromArrays(o),
    options: {
      ...{ images: new Float32Array(4), labels: [0, 1], shape: [1, 2, 1], classes: 2, names: ['a', 'b'], name: 'two' },
      ...{ split: 'train', maximum: 1, mean: [0], std: [1] },
    },
  },
};

const method = { norm: 'group', activation: 'silu', classes: 3 };
const network = { ...method, width: 4, inChannels: 1 };
const binaryNetwork = {
  ...{ width: 4, classes: 3, inChannels: 1, stem: 'cifar', norm: 'batch', weights: 'float', downsample: 'float' },
  ...{ padding: 'plus', ...signs, weightGradient: 'clip', latentInitialization: 'centred' },
};
const inner = { build: build(), latent: {}, signs: {}, padding: 'zero', downsample: 'float' };
const zoo: Readonly<Record<string, Row>> = {
  Mlp: { call: (o) => new models.Mlp(o), options: { inputs: 4, hidden: [3], ...method }, owner: 'mlp' },
  mlp: { call: (o) => models.mlp(o), options: { inputs: 4, hidden: [3], ...method } },
  Lenet: { call: (o) => new models.Lenet(o), options: { inputShape: [8, 8, 1], ...method }, owner: 'lenet' },
  lenet: { call: (o) => models.lenet(o), options: { inputShape: [8, 8, 1], ...method } },
  ...Object.fromEntries(
    (
      [
        ['ResnetCifar', { depth: 8, version: 2, block: 'basic', stages: 3, shortcut: 'A', ...network }],
        ['Resnet', { depth: 18, version: 2, ...network }],
        ['VggA', { inputShape: [32, 32, 1], width: 4, normalizeLinear: true, dropout: 0.1, ...method }],
        ['InceptionV2', network],
        ['InceptionV3', { ...network, auxiliary: false, dropout: 0.1 }],
        ['MobilenetV1', network],
        ['EfficientnetB0', { ...network, dropout: 0.1, stochasticDepth: 0.1 }],
      ] as const
    ).flatMap(([name, options]): [string, Row][] => {
      const made = `${name.charAt(0).toLowerCase()}${name.slice(1)}` as Uncapitalize<typeof name>;
      const construct = models[name] as new (options: never) => nn.Module;
      const create = models[made] as (options: never) => nn.Module;
      return [
        [name, { call: (o) => new construct(o), options, owner: made }],
        [made, { call: (o) => create(o), options }],
      ];
    }),
  ),
  ...Object.fromEntries(
    (['xnorNet18', 'biRealNet18', 'reactNet18', 'reactNet20', 'reactNetA'] as const).map((name): [string, Row] => [
      name,
      { call: (o) => models[name](o), options: binaryNetwork },
    ]),
  ),
  BinaryBlock: {
    call: (o) => new models.BinaryBlock(o),
    options: {
      ...{ binary: inner, inChannels: 2, outChannels: 4, kernelSize: 3, stride: 2, shortcut: 'convolution' },
      ...{ shifts: true, stage: 0, block: 0, transition: true, half: 'first' },
    },
  },
  DownsampleShortcut: {
    call: (o) => new models.DownsampleShortcut(o),
    options: { build: build(), inChannels: 2, outChannels: 4, stride: 2, downsample: 'float', latent: {} },
  },
  create: {
    call: (o) => models.create('reactnet20', o),
    options: {
      ...{ inputShape: [8, 8, 1], classes: 3, norm: 'batch', activation: 'relu', width: 4, hidden: [3] },
      modelOptions: { weights: 'float' },
    },
    owner: 'models.create',
  },
};

const file = join(folder, 'saved.safetensors');
const checkpoints: Readonly<Record<string, Row>> = {
  save: {
    call: (o) => checkpoint.save(file, o),
    options: {
      ...{ model: model(), optimizer: new optim.SGD(parameters(), { learningRate: 0.1 }), loader: loader() },
      ...{ config: {}, training: {}, extra: 1, requireFinite: true, fileSystem: undefined },
    },
  },
  load: {
    call: async (o) => {
      await checkpoint.save(file, { model: model() });
      await checkpoint.load(file, o);
    },
    options: { model: model(), loader: loader(), optimizer: undefined },
  },
  restore: {
    call: async (o) => {
      await checkpoint.save(file, { model: model() });
      await checkpoint.restore(file, await checkpoint.read(file), o);
    },
    options: { model: model(), loader: loader(), optimizer: undefined },
  },
};

const classifier = () => new nn.Sequential([new nn.Flatten(), new nn.Linear({ inFeatures: 64, outFeatures: 10 })]);
const trainer = () => {
  const trained = classifier();
  return new Trainer({ model: trained, optimizer: new optim.SGD(trained.parameters(), { learningRate: 0.1 }) });
};
const fitting = { epochs: 1, maxSteps: 1, validation: loader(), patience: 1, callbacks: [], resume: false };
const training: Readonly<Record<string, Row>> = {
  Trainer: {
    call: (o) => new Trainer(o),
    options: {
      ...{
        model: trained,
        optimizer: new optim.SGD(trained.parameters(), { learningRate: 0.1 }),
        loss: new nn.MSELoss(),
      },
      ...{ schedule: () => 0.1, clipNorm: 1, gradientAccumulation: 2, seed: 3 },
    },
  },
  fit: {
    call: (o) => trainer().fit(loader(), o),
    options: {
      ...fitting,
      ...{ signal: new AbortController().signal, runDirectory: join(folder, 'run'), checkpointEvery: 1 },
      ...{ handleSignals: false, config: {}, report: {} },
    },
  },
  'fit report': {
    call: (report) => trainer().fit(loader(), { epochs: 1, report }),
    options: { title: 'a', classNames: ['0'], layers: undefined, image: () => undefined },
  },
  evaluate: {
    call: (o) => evaluate(classifier(), loader(), o),
    options: { loss: new nn.CrossEntropyLoss(), onBatch: () => undefined, signal: new AbortController().signal },
  },
  profileSteps: {
    call: (o) => profileSteps(o),
    options: { model: model(), directory: folder, skip: 1, steps: 2, show: () => undefined },
  },
};

/** What has no options: `namespace.name`. */
const plain = new Set(
  Object.entries({
    nn: [
      'Identity Sequential Module Concatenate Flatten GlobalAvgPool ReLU SiLU Sigmoid Tanh Softplus HardSwish ResidualSum',
      'ScaledResidualSum VariancePreservingActivation BuildContext InputStatistics NormalizedActivation NormalizedSum',
      'PreparedWeight isAuxiliaryNetwork constant normal mergeStatistics recomputeRunningStatistics summary createActivation',
      'defaultGroups fuseActivation gradientTransformOf resolveNormalization',
    ],
    'nn.init': ['zeros ones defaultWeight fans constant normal uniform defaultBias'],
    'nn.binary': ['PackedNetwork describePacked'],
    optim: ['clipByGlobalNorm globalNorm'],
    data: ['cifar10 take digits fashionMnist mnist subset'],
    models: ['DuplicateChannels find names'],
    checkpoint: ['read parseInfo'],
    training: ['predict showProgress RunDirectory'],
  }).flatMap(([space, names]) =>
    names
      .join(' ')
      .split(' ')
      .map((name) => `${space}.${name}`),
  ),
);

/** What cannot be made, or only by others here that check the options; and the error, whose options are those of any. */
const abstract = new Set([
  'nn.NormalizationLayer',
  'nn.BinaryLayer',
  'optim.Optimizer',
  'models.BinaryNetwork',
  'training.EvenkeelError',
]);

const initializers = ['kaimingNormal', 'kaimingUniform', 'xavierNormal', 'xavierUniform'];

interface Space {
  readonly exported: object;
  readonly rows: Readonly<Record<string, Row>>;
}

const spaces: Readonly<Record<string, Space>> = {
  nn: { exported: nn, rows: { ...layers, ...otherParts } },
  'nn.init': { exported: nn.init, rows: Object.fromEntries(initializers.map((name) => [name, otherParts[name]!])) },
  'nn.binary': {
    exported: nn.binary,
    rows: {
      pack: {
        call: (o) =>
          nn.binary.pack(new nn.Sequential([new nn.Conv2d({ inChannels: 1, outChannels: 2, kernelSize: 1 })]), o),
        options: {
          ...{ imageShape: [4, 4, 1], classNames: ['a', 'b'], floatWeights: 'float32' },
          normalization: { mean: [0], standardDeviation: [1] },
        },
      },
    },
  },
  'nn.normalizations': {
    exported: nn.normalizations,
    rows: Object.fromEntries(
      Object.entries(normalizations).map(([name, options]): [string, Row] => {
        const make = nn.normalizations[name as nn.NormalizationName] as (options: never) => nn.Normalization;
        return [name, { call: (o) => make(o), options, owner: `normalization ${name}` }];
      }),
    ),
  },
  optim: { exported: optim, rows: optimizers },
  'optim.schedules': {
    exported: schedules,
    rows: Object.fromEntries(
      Object.entries(scheduled).map(([name, row]) => [name, { owner: `schedules.${name}`, ...row }]),
    ),
  },
  data: {
    exported: data,
    rows: {
      ...dataParts,
      cifar100: {
        // No such folder: what it says then is none of this table's business.
        call: (o) => data.cifar100(folder, o).catch(unlessMissing),
        options: { labels: 'coarse' },
      },
    },
  },
  models: { exported: models, rows: zoo },
  checkpoint: {
    exported: checkpoint,
    rows: Object.fromEntries(
      Object.entries(checkpoints).map(([name, row]) => [name, { owner: `checkpoint.${name}`, ...row }]),
    ),
  },
  training: {
    exported: Object.fromEntries(Object.entries(evenkeel).filter(([name]) => !(name in tensorExports))),
    rows: training,
  },
};

function unlessMissing(error: unknown): void {
  if (!(error instanceof evenkeel.EvenkeelError && error.code === 'FILE_NOT_FOUND')) throw error;
}

const rows = Object.entries(spaces).flatMap(([space, table]) =>
  Object.entries(table.rows).map(([name, row]) => [`${space}.${name}`, { owner: name, ...row }] as const),
);

test.each(rows)('%s takes all its options, and says which one it does not know', async (_name, row) => {
  await expectNames(row);
});

test.each(rows)('%s takes nothing but booleans where it has booleans', async (_name, row) => {
  await expectBooleans(row);
});

test.each(rows)('%s wants an object of options', async (_name, { call, owner }) => {
  for (const wrong of [null, 3, 'padding']) {
    expect(await refusal(call, wrong)).toContain(`${owner}: expected an object of options, got `);
  }
});

test('a group of parameters has the names of its optimizer', async () => {
  await expectNames({
    call: (group) => new optim.SGD([group], { learningRate: 0.1 }),
    options: { parameters: parameters(), learningRate: 0.1, weightDecay: 0.1, momentum: 0.9, nesterov: true },
    owner: 'SGD group',
  });
});

test('what has no options refuses them where it could take some', async () => {
  expect(await refusal((o) => nn.normalizations.none(o), { epsilon: 1 })).toBe(
    'normalization none: there is no option epsilon; it has no options',
  );
});

const plainLayers = Object.entries({ nn, models }).flatMap(([space, exported]) =>
  Object.entries(exported).flatMap(([name, value]): [string, new (given: unknown) => unknown][] => {
    const isLayer = plain.has(`${space}.${name}`) && (value as { prototype?: unknown }).prototype instanceof nn.Module;
    return isLayer && signatureOf(value) === '' ? [[name, value as never]] : [];
  }),
);

test('many layers have no options', () => {
  expect(plainLayers.map(([name]) => name)).toEqual(expect.arrayContaining(['ReLU', 'Flatten', 'DuplicateChannels']));
});

test.each(plainLayers)('%s refuses options', async (name, Layer) => {
  const message = (given: unknown) => refusal((o) => new Layer(o), given);
  expect(await message({ epsilon: 1 })).toBe(`${name}: there is no option epsilon; it has no options`);
  expect(await message({ inplace: true })).toContain(`${name}: there is no option inplace (leave it out: `);
  expect(await message(1)).toBe(`${name}: there is no place for 1; it has no options`);
  expect(await message(new nn.ReLU())).toBe(`${name}: there is no place for a ReLU; it has no options`);
  expect(await message({})).toBe('no error');
  expect(await message(undefined)).toBe('no error');
});

test.each(['mnist', 'fashionMnist', 'cifar10'] as const)('%s takes a folder and no options', async (name) => {
  const load = data[name] as (...given: unknown[]) => Promise<unknown>;
  const refused = `${name}: there is no option normalize; it has no options`;
  expect(await refusal((o) => load(folder, o), { normalize: true })).toBe(refused);
  expect(await refusal((o) => load(o), undefined)).toContain(
    `${name}: directory is undefined; give the path of the folder`,
  );
  await expect(load(folder)).rejects.toThrow(/Download/);
});

test('digits takes no options', async () => {
  const load = data.digits as (given: unknown) => unknown;
  expect(await refusal((o) => load(o), { split: 'test' })).toBe('digits: there is no option split; it has no options');
});

describe.each(Object.entries(spaces))('the table of %s', (space, table) => {
  const functions = Object.entries(table.exported).filter(([, value]) => typeof value === 'function');
  const known = (name: string) =>
    name in table.rows || plain.has(`${space}.${name}`) || abstract.has(`${space}.${name}`);

  test('has everything that is exported', () => {
    expect(functions.length).toBeGreaterThan(0);
    expect(functions.map(([name]) => name).filter((name) => !known(name))).toEqual([]);
  });

  test('calls nothing plain that has options', () => {
    const named = functions.filter(([name]) => plain.has(`${space}.${name}`));
    const wrong = named.filter(([, value]) => /\boptions\b/.test(signatureOf(value)));
    expect(wrong.map(([name]) => name)).toEqual([]);
  });
});

/** The parameters that a class or function is written with. */
function signatureOf(value: unknown): string {
  const source = String(value);
  const pattern = source.startsWith('class') ? /\bconstructor\(([^)]*)\)/ : /^[^(]*\(([^)]*)\)/;
  return pattern.exec(source)?.[1] ?? '';
}
