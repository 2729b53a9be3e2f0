import { EvenkeelError } from '../errors';
import * as models from '../models';
import { normalizations } from '../nn/normalization';
import { type OptionTable, type OptionValues, UsageError } from './arguments';

/** The data sets that the command line knows by name. */
export const DATA_NAMES = ['digits', 'mnist', 'fashion-mnist', 'cifar10', 'cifar100'] as const;

/** One of {@link DATA_NAMES}. */
export type DataName = (typeof DATA_NAMES)[number];

/** Height, width and channels of the images of each data set, and the number of its classes. */
export const DATA_SHAPES: Readonly<Record<DataName, { shape: readonly [number, number, number]; classes: number }>> = {
  digits: { shape: [8, 8, 1], classes: 10 },
  mnist: { shape: [28, 28, 1], classes: 10 },
  'fashion-mnist': { shape: [28, 28, 1], classes: 10 },
  cifar10: { shape: [32, 32, 3], classes: 10 },
  cifar100: { shape: [32, 32, 3], classes: 100 },
};

export const OPTIMIZER_NAMES = ['sgd', 'adam', 'adamw', 'rmsprop'] as const;
export const SCHEDULE_NAMES = ['constant', 'cosine', 'step', 'one-cycle', 'linear', 'linear-epoch'] as const;

/** Options that are given as KEY=VALUE. */
export type OptionPairs = Readonly<Record<string, number | boolean | string>>;

/** Everything that decides what a run computes. It is saved with every checkpoint, which can so be rebuilt. */
export interface RunConfig {
  readonly data: DataName;
  readonly model: string;
  readonly width?: number;
  readonly modelOptions?: OptionPairs;
  readonly norm: string;
  readonly normOptions?: OptionPairs;
  readonly batchSize: number;
  readonly evaluationBatchSize: number;
  readonly epochs: number;
  readonly optimizer: (typeof OPTIMIZER_NAMES)[number];
  readonly learningRate: number;
  readonly momentum: number;
  readonly weightDecay: number;
  readonly schedule: (typeof SCHEDULE_NAMES)[number];
  readonly warmupEpochs: number;
  readonly labelSmoothing: number;
  readonly clipNorm?: number;
  readonly accumulate: number;
  readonly augment: boolean;
  readonly seed: number;
  readonly trainLimit?: number;
  /** Run directory or checkpoint of the network to learn from, in place of the labels. */
  readonly teacher?: string;
  /** Checkpoint whose weights training starts from. */
  readonly initialWeights?: string;
}

/** What a run of each data set is like when nothing else is asked for. */
const DATA_DEFAULTS: Readonly<Record<DataName, Partial<RunConfig>>> = {
  digits: {
    model: 'resnet-tiny',
    norm: 'frn',
    batchSize: 16,
    epochs: 30,
    learningRate: 0.05,
    weightDecay: 2e-3,
    labelSmoothing: 0.1,
  },
  mnist: { model: 'lenet', batchSize: 64, epochs: 5, learningRate: 0.05, augment: false },
  'fashion-mnist': { model: 'lenet', batchSize: 64, epochs: 10, learningRate: 0.05, augment: false },
  cifar10: {},
  cifar100: {},
};

const DEFAULTS = {
  model: 'resnet20',
  norm: 'batch',
  batchSize: 128,
  evaluationBatchSize: 256,
  epochs: 30,
  optimizer: 'sgd',
  momentum: 0.9,
  schedule: 'cosine',
  warmupEpochs: 1,
  labelSmoothing: 0,
  accumulate: 1,
  augment: true,
  seed: 1,
} as const satisfies Partial<RunConfig>;

const OPTIMIZER_DEFAULTS: Readonly<Record<RunConfig['optimizer'], { learningRate: number; weightDecay: number }>> = {
  sgd: { learningRate: 0.1, weightDecay: 5e-4 },
  adam: { learningRate: 1e-3, weightDecay: 0 },
  adamw: { learningRate: 1e-3, weightDecay: 0.01 },
  rmsprop: { learningRate: 1e-3, weightDecay: 0 },
};

/** The options of `train` that end up in a {@link RunConfig}. */
export const CONFIG_OPTIONS = {
  data: {
    kind: 'text',
    choices: DATA_NAMES,
    placeholder: 'NAME',
    help: `What to train on: ${DATA_NAMES.join(', ')}. Default digits, which is built in.`,
  },
  model: {
    kind: 'text',
    placeholder: 'NAME',
    help: `Network: ${models.names().join(', ')}. Default resnet20 (digits: resnet-tiny, MNIST and Fashion-MNIST: lenet).`,
  },
  width: { kind: 'integer', least: 1, help: 'Channels of the first stage of a residual network.' },
  'model-option': {
    kind: 'list',
    placeholder: 'KEY=VALUE',
    help: 'An option that only this network has, such as weights=float of binary ones; may be repeated.',
  },
  norm: {
    kind: 'text',
    placeholder: 'NAME',
    help: `Normalization: ${Object.keys(normalizations).join(', ')}. Default batch (digits: frn).`,
  },
  'norm-option': {
    kind: 'list',
    placeholder: 'KEY=VALUE',
    help: 'An option of the normalization, such as groups=8; may be repeated.',
  },
  'batch-size': {
    kind: 'integer',
    least: 1,
    help: 'Images in a batch. Default 128 (digits 16, MNIST and Fashion-MNIST 64).',
  },
  'eval-batch-size': { kind: 'integer', least: 1, help: 'Images in a batch of the validation. Default 256.' },
  epochs: { kind: 'integer', least: 1, help: 'Passes over the training data. Default 30 (MNIST 5, Fashion-MNIST 10).' },
  optimizer: {
    kind: 'text',
    choices: OPTIMIZER_NAMES,
    placeholder: 'NAME',
    help: `${OPTIMIZER_NAMES.join(', ')}. Default sgd.`,
  },
  lr: {
    kind: 'number',
    least: 0,
    help: 'Peak learning rate. Default 0.1 for sgd (all but CIFAR 0.05), 0.001 for the others.',
  },
  momentum: { kind: 'number', least: 0, help: 'Momentum of sgd. Default 0.9.' },
  'weight-decay': {
    kind: 'number',
    least: 0,
    help: 'Weight decay, not applied to norm parameters and biases. Default 0.0005 for sgd (digits 0.002), 0.01 for adamw, 0 for the others.',
  },
  schedule: {
    kind: 'text',
    choices: SCHEDULE_NAMES,
    placeholder: 'NAME',
    help: `Course of the learning rate: ${SCHEDULE_NAMES.join(', ')}. Default cosine.`,
  },
  warmup: {
    kind: 'number',
    least: 0,
    placeholder: 'EPOCHS',
    help: 'Epochs in which the learning rate rises linearly from 0. Default 1.',
  },
  'label-smoothing': {
    kind: 'number',
    least: 0,
    help: 'Share of the target spread over all classes. Default 0 (digits 0.1).',
  },
  'clip-norm': { kind: 'number', least: 0, help: 'Largest global norm of the gradient. Default: no clipping.' },
  accumulate: { kind: 'integer', least: 1, help: 'Batches whose gradients are averaged into one step. Default 1.' },
  augment: { kind: 'flag', help: 'Random crops (and flips for CIFAR); the default but for MNIST.' },
  'no-augment': { kind: 'flag', help: 'The images as they are.' },
  seed: { kind: 'integer', least: 0, help: 'Seed of weights, shuffling, augmentation and dropout. Default 1.' },
  'train-limit': { kind: 'integer', least: 1, help: 'Use only the first N training images.' },
  teacher: {
    kind: 'text',
    placeholder: 'RUN',
    help: 'Learn from the outputs of this trained network (run directory or checkpoint) and not from labels.',
  },
  from: {
    kind: 'text',
    placeholder: 'CHECKPOINT',
    help: 'Start from the weights of this checkpoint; every name must have its partner.',
  },
} as const satisfies OptionTable;

/** The configuration that the options ask for, completed with the defaults of the data and the optimizer. */
export function configFromOptions(values: OptionValues<typeof CONFIG_OPTIONS>): RunConfig {
  if (values.augment && values['no-augment']) {
    throw new UsageError('--augment and --no-augment contradict each other.');
  }
  const data = (values.data ?? 'digits') as DataName;
  const optimizer = (values.optimizer ?? DEFAULTS.optimizer) as RunConfig['optimizer'];
  const { width, ...forData } = DATA_DEFAULTS[data];
  const defaultWidth = (values.model ?? forData.model) === forData.model ? width : undefined;
  const forOptimizer = OPTIMIZER_DEFAULTS[optimizer];
  const normOptions = parsePairs('--norm-option', values['norm-option'] ?? []);
  const modelOptions = parsePairs('--model-option', values['model-option'] ?? []);
  if (values.teacher !== undefined && (values['label-smoothing'] ?? 0) > 0) {
    throw new UsageError('--label-smoothing has no labels to smooth with --teacher.');
  }
  const augment = values.augment ?? (values['no-augment'] ? false : undefined);
  return {
    data,
    ...DEFAULTS,
    // The defaults of a data set are tuned for SGD; other optimizers keep their own.
    ...(optimizer === 'sgd' ? { ...forOptimizer, ...forData } : { ...forData, ...forOptimizer }),
    optimizer,
    ...given({
      model: values.model,
      width: values.width ?? defaultWidth,
      modelOptions,
      norm: values.norm,
      normOptions,
      batchSize: values['batch-size'],
      evaluationBatchSize: values['eval-batch-size'],
      epochs: values.epochs,
      learningRate: values.lr,
      momentum: values.momentum,
      weightDecay: values['weight-decay'],
      schedule: values.schedule as RunConfig['schedule'] | undefined,
      warmupEpochs: values.warmup,
      labelSmoothing: values.teacher === undefined ? values['label-smoothing'] : 0,
      clipNorm: values['clip-norm'],
      accumulate: values.accumulate,
      augment,
      seed: values.seed,
      trainLimit: values['train-limit'],
      teacher: values.teacher,
      initialWeights: values.from,
    }),
  };
}

/** The entries that are not `undefined`. */
function given<Values extends object>(values: Values): { [Key in keyof Values]?: Exclude<Values[Key], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [Key in keyof Values]?: Exclude<Values[Key], undefined>;
  };
}

function parsePairs(option: string, items: readonly string[]): OptionPairs | undefined {
  if (items.length === 0) {
    return undefined;
  }
  return Object.fromEntries(
    items.map((item) => {
      const [key = '', ...rest] = item.split('=');
      const text = rest.join('=');
      if (key === '' || text === '') {
        throw new UsageError(`${option} wants KEY=VALUE, and ${JSON.stringify(item)} was given.`);
      }
      const value =
        text === 'true' ? true : text === 'false' ? false : Number.isNaN(Number(text)) ? text : Number(text);
      return [key, value];
    }),
  );
}

/**
 * The configuration in a checkpoint's metadata.
 *
 * @throws EvenkeelError `UNSUPPORTED` when the checkpoint was not made by `evenkeel train`.
 */
export function configFromCheckpoint(path: string, stored: Readonly<Record<string, unknown>>): RunConfig {
  const config = stored as Partial<RunConfig>;
  const known =
    typeof config.model === 'string' &&
    typeof config.norm === 'string' &&
    DATA_NAMES.some((name) => name === config.data) &&
    Number.isSafeInteger(config.batchSize);
  if (!known) {
    throw new EvenkeelError(
      'UNSUPPORTED',
      `${path} does not say which model and data it belongs to; only checkpoints of evenkeel train do. ` +
        'Load it from TypeScript with checkpoint.load.',
    );
  }
  return { ...DEFAULTS, ...OPTIMIZER_DEFAULTS[config.optimizer ?? 'sgd'], ...config } as RunConfig;
}

/** The names of the values in which two configurations differ. */
export function differences(a: RunConfig, b: RunConfig): (keyof RunConfig)[] {
  const keys = new Set([...Object.keys(a), ...Object.keys(b)] as (keyof RunConfig)[]);
  return [...keys].filter((key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]));
}
