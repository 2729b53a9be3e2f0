import { checkpoint, data, evaluate, models, nn, optim, predict, profileSteps, Trainer, tensor } from '../src';
import { refusal } from './support/option-names';
import { codeOf } from './support/tensors';

const convolution = { inChannels: 4, outChannels: 8, kernelSize: 3 };
const linear = () => new nn.Linear({ inFeatures: 2, outFeatures: 2 });
const parameters = () => linear().parameters();
const rate = { learningRate: 0.1 };
const { train, test: rest } = data.digits();
const loader = () => new data.DataLoader(data.take(rest, 4), { batchSize: 4 });
const ofModel = (model: nn.AnyModule) => new optim.SGD(model.parameters(), rate);
const trainer = (model = linear()) => new Trainer({ model, optimizer: ofModel(model) });
const pixels = { images: new Float32Array(2), labels: [0], shape: [1, 2, 1] } as const;
const { schedules } = optim;

const numeric = 'must be a whole number of at least 1, or two of them, got';
const initial = 'give a function from a shape to a tensor, such as nn.init.kaimingNormal() or nn.init.constant(0)';

/** What is given, a call with it that TypeScript would refuse, and the message. */
const cases: readonly (readonly [what: string, call: (value: never) => unknown, value: unknown, message: string])[] = [
  [
    'text as a size',
    (kernelSize) => new nn.Conv2d({ ...convolution, kernelSize }),
    '3',
    `Conv2d: kernelSize ${numeric} '3'`,
  ],
  ['no size', (o) => new nn.Conv2d(o), { inChannels: 1, outChannels: 1 }, `Conv2d: kernelSize ${numeric} undefined`],
  [
    'three sizes',
    (kernelSize) => new nn.MaxPool2d({ kernelSize }),
    [3, 3, 3],
    `MaxPool2d: kernelSize ${numeric} [3, 3, 3]`,
  ],
  [
    'negative padding',
    (padding) => new nn.Conv2d({ ...convolution, padding }),
    -1,
    'Conv2d: padding must be a whole number of at least 0, or two of them, got -1',
  ],
  [
    'another kind of padding',
    (padding) => new nn.Conv2d({ ...convolution, padding }),
    'valid',
    "Conv2d: padding is 'valid'; give 'same', a whole number of at least 0, or two of them",
  ],
  [
    'text as a count',
    (inFeatures) => new nn.Linear({ inFeatures, outFeatures: 1 }),
    '2',
    "Linear: inFeatures is '2'; give an integer",
  ],
  [
    'the name of an initializer',
    (weightInitializer) => new nn.Conv2d({ ...convolution, weightInitializer }),
    'kaiming',
    `Conv2d: weightInitializer is 'kaiming'; ${initial}`,
  ],
  [
    'an initializer of no tensor',
    (biasInitializer) => new nn.Linear({ inFeatures: 2, outFeatures: 3, biasInitializer }),
    () => [1],
    'Linear: biasInitializer returned an array; it must return a tensor of the shape it is called with, [3]',
  ],
  [
    'text as a rate',
    (rate) => new nn.Dropout({ rate }),
    '0.5',
    "Dropout: rate is '0.5'; give a number from 0 to below 1",
  ],
  [
    'NaN as a slope',
    (slope) => new nn.LeakyReLU({ slope }),
    Number.NaN,
    'LeakyReLU: slope is NaN; give a finite number',
  ],
  [
    'text as a limit',
    (low) => new nn.HardTanh({ low }),
    '-2',
    "HardTanh: low is '-2' and high is 1; give numbers, low less than high",
  ],
  [
    'another approximation',
    (approximate) => new nn.GELU({ approximate }),
    'tahn',
    "GELU: approximate is 'tahn'; give 'none' or 'tanh'",
  ],
  [
    'text as a scale',
    (initialScale) => new nn.BatchNorm({ channels: 2, initialScale }),
    '1',
    "BatchNorm: initialScale is '1'; give a finite number",
  ],
  [
    'another form',
    (epsilonForm) => new nn.FilterResponseNorm({ channels: 2, epsilonForm }),
    'abs',
    "FilterResponseNorm: epsilonForm is 'abs'; give 'absolute' or 'exponential'",
  ],
  [
    'another padding value',
    (paddingValue) => new nn.BinaryConv2d({ ...convolution, paddingValue }),
    'one',
    "BinaryConv2d: paddingValue is 'one'; give 'zero', 'plus' or 'minus'",
  ],
  [
    'another fan',
    (mode) => nn.kaimingNormal({ mode }),
    'fan_out',
    "kaimingNormal: mode is 'fan_out'; give 'fanIn' or 'fanOut'",
  ],
  [
    'another reduction',
    (reduction) => new nn.MSELoss({ reduction }),
    'avg',
    "MSELoss: reduction is 'avg'; give 'mean', 'sum' or 'none'",
  ],
  [
    'numbers as a parameter',
    (value) => new nn.Parameter(value),
    [1],
    'Parameter: the first value is [1]; give a tensor',
  ],
  [
    'a negative learning rate scale',
    (learningRateScale) => new nn.Parameter(tensor([1]), { learningRateScale }),
    -1,
    'Parameter: learningRateScale is -1; give a number',
  ],
  [
    'a layer as the list',
    (layers) => new nn.Sequential(layers),
    linear(),
    'Sequential: expected a list of layers, got a Module; give [',
  ],
  [
    'an object as a state',
    (state) => linear().loadStateDict(state),
    {},
    'loadStateDict: the state is an empty object; give a Map',
  ],
  [
    'no teacher',
    (o) => new nn.DistillationLoss(o),
    { model: linear() },
    'DistillationLoss: teacher is undefined; give the Module',
  ],
  [
    'no loss',
    (o) => new nn.AuxiliaryLoss(o),
    { model: { takeAuxiliaryLogits() {} } },
    'AuxiliaryLoss: loss is undefined; give a loss',
  ],
  [
    'options as a gradient',
    (gradient) => tensor(1, { requiresGrad: true }).mul(2).backward(gradient),
    { retainGraph: true },
    'backward: expected a tensor as gradient, got an object { retainGraph }',
  ],
  [
    'a number as beta',
    (beta) => nn.normalizations['bn-free']({ beta }),
    3,
    "normalization bn-free: beta is 3; give 'nfnet'",
  ],
  [
    'NaN as a learning rate',
    (learningRate) => new optim.SGD(parameters(), { learningRate }),
    Number.NaN,
    'SGD: learningRate must be a number of at least 0, got NaN',
  ],
  [
    'text as a learning rate',
    (learningRate) => new optim.Adam(parameters(), { learningRate }),
    '0.1',
    "Adam: learningRate must be a number of at least 0, got '0.1'",
  ],
  [
    'one beta',
    (betas) => new optim.Adam(parameters(), { ...rate, betas }),
    0.9,
    'Adam: betas are 0.9; give two numbers, such as [0.9, 0.999]',
  ],
  [
    'a module as parameters',
    (given) => new optim.SGD(given, rate),
    linear(),
    'SGD: expected a list of parameters or of groups { parameters, … }, got a Linear; give model.parameters()',
  ],
  [
    'a list in the list',
    (given) => new optim.SGD([given], rate),
    parameters(),
    'SGD: expected parameters or groups { parameters, … }, got an array',
  ],
  [
    'a group of another kind',
    (params) => new optim.SGD([{ params } as never], rate),
    parameters(),
    'SGD group: there is no option params',
  ],
  [
    'a group of a module',
    (members) => new optim.SGD([{ parameters: members }], rate),
    3,
    "SGD: a group's parameters are 3; give a list",
  ],
  [
    'a module to average',
    (given) => new optim.ExponentialMovingAverage(given),
    linear(),
    'ExponentialMovingAverage: expected a list of parameters',
  ],
  [
    'text as a norm',
    (norm) => optim.clipByGlobalNorm(parameters(), norm),
    '1',
    "clipByGlobalNorm: maxNorm must be a number above 0, got '1'",
  ],
  [
    'the name of a unit',
    (unitOf) => optim.adaptiveGradientClipping(parameters(), { unitOf }),
    'output',
    "unitOf is 'output'; give a function",
  ],
  [
    'text as a rate',
    (learningRate) => schedules.cosine({ learningRate, steps: 2 }),
    '0.1',
    "schedules.cosine: learningRate must be a number of at least 0, got '0.1'",
  ],
  [
    'half a step',
    (steps) => schedules.oneCycle({ ...rate, steps }),
    1.5,
    'schedules.oneCycle: steps must be a whole number of at least 1, got 1.5',
  ],
  [
    'no milestones',
    (o) => schedules.step(o),
    rate,
    'schedules.step: at must be a whole number of at least 1, got undefined',
  ],
  [
    'a rate as a schedule',
    (given) => schedules.warmup(given, { steps: 1 }),
    0.1,
    'schedules.warmup: schedule is 0.1; give a function of the step',
  ],
  [
    'no list of parts',
    (parts) => schedules.sequence(parts),
    {},
    'schedules.sequence: expected a list of at least one part { schedule, steps }',
  ],
  [
    'a batch of nothing',
    (batchSize) => new data.DataLoader(train, { batchSize }),
    0,
    'DataLoader: batchSize must be a whole number of at least 1, got 0',
  ],
  [
    'text as a batch size',
    (batchSize) => new data.DataLoader(train, { batchSize }),
    '8',
    "DataLoader: batchSize must be a whole number of at least 1, got '8'",
  ],
  [
    'both splits',
    (given) => new data.DataLoader(given, { batchSize: 1 }),
    { train, test: rest },
    'got an object { train, test }; give one of its splits, such as .train',
  ],
  [
    'no data',
    (given) => new data.DataLoader(given, { batchSize: 1 }),
    undefined,
    'DataLoader: expected a data set, got undefined; give data.fromArrays(…)',
  ],
  [
    'a mean alone',
    (normalize) => new data.DataLoader(train, { batchSize: 1, normalize }),
    { mean: [0] },
    'DataLoader: normalize is an object { mean }; give true, false or',
  ],
  [
    'text as normalization',
    (normalize) => new data.DataLoader(train, { batchSize: 1, normalize }),
    'yes',
    "DataLoader: normalize is 'yes'; give true, false or",
  ],
  [
    'numbers as images',
    (images) => data.fromArrays({ ...pixels, images }),
    [1, 2],
    'fromArrays: images are [1, 2]; give a Uint8Array or a Float32Array',
  ],
  [
    'no labels',
    (labels) => data.fromArrays({ ...pixels, labels }),
    undefined,
    'fromArrays: labels are undefined; give an array of whole numbers',
  ],
  [
    'a number as mean',
    (mean) => data.fromArrays({ ...pixels, mean, std: [1] }),
    0,
    'fromArrays: mean must have one number for each of 1 channels, got 0',
  ],
  [
    'other labels',
    (labels) => data.cifar100('nowhere', { labels }),
    'corse',
    "cifar100: labels is 'corse'; give 'fine' or 'coarse'",
  ],
  [
    'no image shape',
    (inputShape) => models.lenet({ inputShape }),
    28,
    'lenet: inputShape is 28; give [height, width, channels] with at least 8 by 8',
  ],
  [
    'half a pixel',
    (inputShape) => models.lenet({ inputShape }),
    [28.5, 28, 1],
    'lenet: inputShape is [28.5, 28, 1]; give',
  ],
  [
    'one size as a list',
    (hidden) => models.mlp({ inputs: 4, hidden }),
    64,
    'mlp: hidden is 64; give a list of sizes, such as [128, 128]',
  ],
  [
    'text as a depth',
    (depth) => models.resnetCifar({ depth }),
    '20',
    "resnetCifar: version 1 with 3 stages has no depth '20'; give",
  ],
  [
    'a size as a shape',
    (inputShape) => models.create('resnet20', { inputShape }),
    32,
    'models.create: inputShape is 32; give the sizes of one image',
  ],
  ['no model', (o) => new Trainer(o), {}, 'Trainer: model is undefined; give a Module, such as models.create(…)'],
  [
    'an optimizer to make',
    (optimizer) => new Trainer({ model: linear(), optimizer }),
    optim.SGD,
    'Trainer: optimizer is a function; give an optimizer',
  ],
  [
    'a rate as a schedule',
    (schedule) => {
      const model = linear();
      return new Trainer({ model, optimizer: ofModel(model), schedule });
    },
    0.1,
    'Trainer: schedule is 0.1; give a function of the step',
  ],
  [
    'a function as loss',
    (loss) => new Trainer({ model: linear(), optimizer: ofModel(linear()), loss }),
    () => tensor(1),
    'Trainer: loss is a function; give a loss, such as new nn.CrossEntropyLoss()',
  ],
  [
    'an activation of another name',
    (activation) => new nn.BatchNorm({ channels: 2, activation }),
    'swish',
    "BatchNorm: unknown activation 'swish'; expected one of none, relu, ",
  ],
  [
    'options as a normalization',
    (norm) => models.create('resnet20', { norm }),
    { groups: 2 },
    'there is no normalization an object { groups }; the names are none, ',
  ],
  ['text as a constant', (value) => nn.init.constant(value), '0', "init.constant: value is '0'; give a number"],
  [
    'options as a deviation',
    (deviation) => nn.init.normal(deviation),
    { std: 0.1 },
    'init.normal: standardDeviation is an object { std }; give a number at least 0',
  ],
  [
    'no upper bound',
    (high) => nn.init.uniform(0, high),
    undefined,
    'init.uniform: high is undefined; give a finite number',
  ],
  [
    'batches that cannot be resumed',
    (given) => trainer().fit(given, { epochs: 1 }),
    { length: 1, async *[Symbol.asyncIterator]() {} },
    'fit: the loader has no state, loadState, which bring a run back to where it stopped; add them, or give a data.DataLoader',
  ],
  [
    'a function as model',
    (model) => evaluate(model, loader(), { loss: new nn.MSELoss() }),
    () => tensor(1),
    'evaluate: model is a function; give a Module, such as models.create(…)',
  ],
  [
    'numbers as images',
    (images) => predict(linear(), images),
    [[1, 2]],
    'predict: expected a tensor as images, got an array; tensor(…) makes one of numbers',
  ],
  ...(
    [
      ['diagnose', (given: never) => nn.diagnose(given, { images: tensor([[1, 2]]) })],
      ['pack', (given: never) => nn.binary.pack(given)],
      ['recomputeRunningStatistics', (given: never) => nn.recomputeRunningStatistics(given, [tensor([[1, 2]])])],
      ['summary', (given: never) => nn.summary(given, [2])],
    ] as const
  ).map(
    ([owner, call]) =>
      [
        `parameters as model of ${owner}`,
        call,
        parameters(),
        `${owner}: model is [a Parameter, a Parameter]; give a Module`,
      ] as const,
  ),
  [
    'no batch',
    (batch) => nn.diagnose(linear(), batch),
    undefined,
    'diagnose: expected a tensor as images, got undefined',
  ],
  [
    'parameters in place of their module',
    (given) => optim.parameterGroups(given, { weightDecay: 0.1 }),
    parameters(),
    'parameterGroups: module is [a Parameter, a Parameter]; give a Module, not its parameters',
  ],
  [
    'a path as the model to load into',
    (model) => checkpoint.load('nowhere', { model }),
    'model',
    "checkpoint.load: model is 'model'; give the Module to load into",
  ],
  [
    'a model as the optimizer to load into',
    (optimizer) => checkpoint.load('nowhere', { optimizer }),
    null,
    'checkpoint.load: optimizer is null; give the optimizer to load into',
  ],
  [
    'an optimizer of another model',
    (optimizer) => new Trainer({ model: linear(), optimizer }),
    ofModel(linear()),
    'Trainer: the optimizer has none of the parameters of the model; make it with',
  ],
  [
    'data in place of a loader',
    (given) => trainer().fit(given, { epochs: 1 }),
    train,
    'fit: expected a loader of batches as the loader, got an object { name, ',
  ],
  [
    'data for validation',
    (validation) => trainer().fit(loader(), { epochs: 1, validation }),
    train,
    'fit: expected a loader of batches as validation, got',
  ],
  [
    'one and a half epochs',
    (epochs) => trainer().fit(loader(), { epochs }),
    1.5,
    'fit: epochs must be a whole number from 1, got 1.5',
  ],
  [
    'a callback alone',
    (callbacks) => trainer().fit(loader(), { epochs: 1, callbacks }),
    {},
    'fit: expected a list of callbacks, got an empty object; put a single one in brackets',
  ],
  [
    'a function as callback',
    (callback) => trainer().fit(loader(), { epochs: 1, callbacks: [callback] }),
    () => 1,
    'fit: expected a callback with hooks (onStart, ',
  ],
  [
    'a misspelt hook',
    (callback) => trainer().fit(loader(), { epochs: 1, callbacks: [callback] }),
    { onEpcoh() {} },
    'fit: a callback has no hook onEpcoh (did you mean onEpoch?); the hooks are onStart, ',
  ],
  [
    'a number as folder',
    (runDirectory) => trainer().fit(loader(), { epochs: 1, runDirectory }),
    5,
    'fit: runDirectory is 5; give the path of a folder',
  ],
  [
    'a controller as signal',
    (signal) => trainer().fit(loader(), { epochs: 1, signal }),
    new AbortController(),
    'give the signal of an AbortController',
  ],
  [
    'no loss to evaluate with',
    (o) => evaluate(linear(), loader(), o),
    {},
    'evaluate: loss is undefined; give a loss, such as new nn.CrossEntropyLoss()',
  ],
  [
    'nothing to save',
    (o) => checkpoint.save('nowhere', o),
    {},
    'checkpoint.save: model is undefined; give the Module to save',
  ],
  [
    'no folder',
    (o) => profileSteps(o),
    { model: linear() },
    'profileSteps: directory is undefined; give the path of a folder',
  ],
  [
    'no shape of an image',
    (shape) => nn.summary(linear(), shape),
    undefined,
    'summary: the input shape is undefined; give the sizes of one sample, such as [32, 32, 3]',
  ],
  ['text as a mode', (mode) => linear().train(mode), 'no', "train: mode is 'no'; give true or false"],
  [
    'nothing as a choice of what is trained',
    (requiresGrad) => linear().setRequiresGrad(requiresGrad),
    undefined,
    'setRequiresGrad: requiresGrad is undefined; give true or false',
  ],
  [
    'a number for whether it has a gradient',
    (requiresGrad) => {
      tensor([1]).requiresGrad = requiresGrad;
    },
    1,
    'Tensor: requiresGrad is 1; give true or false',
  ],
  ['no listener', (listener) => linear().onCall(listener), undefined, 'onCall: listener is undefined; give a function'],
  [
    'images without a batch',
    (images) => nn.diagnose(linear(), images),
    tensor([[1, 2]]),
    'diagnose: expected a tensor as images, got undefined',
  ],
];

test.each(cases)('%s is refused with what to give', async (_what, call, value, message) => {
  expect(await refusal(call, value)).toContain(message);
});

test('an initializer makes the shape that it is asked for', () => {
  const options = { inFeatures: 2, outFeatures: 3, weightInitializer: () => tensor([1]) };
  const message = 'weightInitializer returned a tensor of shape [1]; it must have the shape it is called with, [2, 3]';
  expect(() => new nn.Linear(options)).toThrow(`Linear: ${message}`);
  expect(() => new nn.BinaryLinear(options)).toThrow(`BinaryLinear: ${message}`);
  expect(codeOf(() => new nn.Linear(options))).toBe('SHAPE_MISMATCH');
});

test('a callback may have members of its own', async () => {
  const seen: string[] = [];
  const callback = { seen, onlyOnce: true, onEpoch: () => void seen.push('epoch') };
  const model = new nn.Sequential([new nn.Flatten(), new nn.Linear({ inFeatures: 64, outFeatures: 10 })]);
  const optimizer = new optim.SGD(model.parameters(), rate);
  await new Trainer({ model, optimizer }).fit(loader(), { epochs: 1, callbacks: [callback] });
  expect(seen).toEqual(['epoch']);
});
