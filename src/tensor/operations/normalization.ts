import { EvenkeelError } from '../../errors';
import { record } from '../autograd';
import { formatShape, sameShape } from '../shape';
import { type Argument, allocate, run, type Tensor } from '../tensor';
import { checkFloat, checkOptionalFloat, checkOptions, optionNames } from './check';
import { activationWords, type FusedActivation } from './fused-activation';

/** Options that all normalizations share. */
export interface NormalizationOptions {
  /** Scale of each channel, `[channels]`. @defaultValue 1 everywhere */
  readonly gamma?: Tensor | undefined;
  /** Offset of each channel, `[channels]`. @defaultValue 0 everywhere */
  readonly beta?: Tensor | undefined;
  /** Added to the variance, or mean square, before the root; 0 or more. @defaultValue 1e-5 */
  readonly epsilon?: number | undefined;
  /** Applied last, in the same pass over memory. @defaultValue none */
  readonly activation?: FusedActivation | undefined;
}

/** Options of {@link batchNorm}. */
export interface BatchNormOptions extends NormalizationOptions {
  /** Whether the statistics are the batch's (and move the running ones) or the running ones. */
  readonly training: boolean;
  /** `[channels]`, updated in place in training; needed outside it. Given together with `runningVariance`. */
  readonly runningMean?: Tensor | undefined;
  /** `[channels]`, as `runningMean`; it moves towards the unbiased variance of the batch. */
  readonly runningVariance?: Tensor | undefined;
  /** The share of the batch in the running statistics, 0 to 1. @defaultValue 0.1 */
  readonly momentum?: number | undefined;
  /** Added before the activation, of the shape of the input: the shortcut of a residual block. */
  readonly residual?: Tensor | undefined;
}

/** Options of {@link groupNorm}. */
export interface GroupNormOptions extends NormalizationOptions {
  /** Groups of neighbouring channels; must divide the channels. */
  readonly groups: number;
}

/** Options of {@link layerNorm}. */
export interface LayerNormOptions extends NormalizationOptions {
  /**
   * What the statistics are taken over: all positions and channels of a `sample` (the form for convolutional networks), or the
   * `channels` of each position (the form of transformers). The same for `[batch, channels]`. @defaultValue sample
   */
  readonly over?: 'sample' | 'channels' | undefined;
}

/** Options of {@link rmsNorm}. */
export type RMSNormOptions = Omit<NormalizationOptions, 'beta'>;

/** Options of {@link filterResponseNorm}. */
export interface FilterResponseNormOptions extends NormalizationOptions {
  /** Added to the mean square before the root; 0 or more. @defaultValue 1e-6 */
  readonly epsilon?: number | undefined;
  /** Threshold of each channel, `[channels]`: the thresholded linear unit `max(…, tau)`. Excludes `activation`. */
  readonly tau?: Tensor | undefined;
  /** A learned number, `[1]`, added to `epsilon` in the form of `epsilonForm`: for maps of a single position. */
  readonly learnedEpsilon?: Tensor | undefined;
  /** How `learnedEpsilon` becomes positive: its absolute value (derivative +1 at 0), or its exponential. @defaultValue absolute */
  readonly epsilonForm?: 'absolute' | 'exponential' | undefined;
}

interface Geometry {
  readonly batch: number;
  readonly positions: number;
  readonly channels: number;
}

/** Checks the input, the affine parameters and epsilon. */
export function geometryOf(operation: string, input: Tensor, options: NormalizationOptions): Geometry {
  checkFloat(operation, { input });
  const { shape } = input;
  const [batch, channels] = [shape[0], shape[shape.length - 1]];
  if (input.rank < 2 || batch === undefined || channels === undefined || channels === 0) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected an input [batch, …, channels] of 2 axes or more and 1 channel or more, got shape ${formatShape(shape)}`,
    );
  }
  checkChannels(operation, 'gamma', options.gamma, channels, shape);
  checkChannels(operation, 'beta', options.beta, channels, shape);
  const { epsilon } = options;
  if (epsilon !== undefined && !(Number.isFinite(epsilon) && epsilon >= 0)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: epsilon must be a finite number of 0 or more, got ${epsilon}`,
    );
  }
  let positions = 1;
  for (let axis = 1; axis < shape.length - 1; axis++) positions *= shape[axis]!;
  return { batch, positions, channels };
}

/** Checks a parameter with one value for each channel. */
export function checkChannels(
  operation: string,
  name: string,
  value: Tensor | undefined,
  channels: number,
  inputShape: readonly number[],
): void {
  if (value === undefined) return;
  checkOptionalFloat(operation, name, value);
  if (value.rank !== 1 || value.size !== channels) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: ${name} must have shape [${channels}], one value for each channel of the input ${formatShape(inputShape)}, ` +
        `got ${formatShape(value.shape)}`,
    );
  }
}

/** Checks the share of a batch in running statistics. */
export function checkMomentum(operation: string, momentum: number): void {
  if (!(momentum >= 0 && momentum <= 1)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${operation}: momentum must be in 0 to 1, got ${momentum}`);
  }
}

/** Checks running means and variances, which are given together, and how they move. */
export function checkRunning(
  operation: string,
  running: {
    readonly runningMean?: Tensor | undefined;
    readonly runningVariance?: Tensor | undefined;
    readonly momentum?: number | undefined;
  },
  channels: number,
  inputShape: readonly number[],
): void {
  const { runningMean, runningVariance, momentum = 0.1 } = running;
  checkChannels(operation, 'runningMean', runningMean, channels, inputShape);
  checkChannels(operation, 'runningVariance', runningVariance, channels, inputShape);
  if ((runningMean === undefined) !== (runningVariance === undefined)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${operation}: give both runningMean and runningVariance, or neither`);
  }
  if (runningMean !== undefined && runningMean.storage === runningVariance?.storage) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: runningMean and runningVariance must be two tensors, got one twice`,
    );
  }
  checkMomentum(operation, momentum);
}

/** The backward command of a normalization: its name, and its arguments around the tensors it saved. */
interface BackwardCommand {
  readonly operation: string;
  /** What the forward command saved: read after the output's gradient. */
  readonly saved: readonly Tensor[];
  /** What the command reads after the inputs and before `words`; not differentiated, and absent ones stay absent. */
  readonly constants?: readonly (Tensor | undefined)[];
  readonly words: readonly Argument[];
  /** Those of the words that the command changes in place. */
  readonly moves?: readonly Tensor[];
}

/**
 * Puts a normalization on the tape. `inputs` are those of the backward command in its order, all differentiable; absent ones
 * stay absent. The command fills the gradients that are wanted.
 */
export function recordNormalization(
  name: string,
  inputs: readonly (Tensor | undefined)[],
  output: Tensor,
  command: BackwardCommand,
): Tensor {
  const { operation, words, constants = [], moves = [] } = command;
  const saving: Tensor[] = [];
  // The place of each tensor of the command among those that are saved.
  const places: (number | undefined)[] = [];
  const save = (tensor: Tensor | undefined): void => {
    places.push(tensor === undefined ? undefined : saving.push(tensor) - 1);
  };
  for (const input of inputs) save(input);
  const present = saving.slice();
  for (const constant of constants) save(constant);
  const statistics = saving.length;
  saving.push(...command.saved);
  return record(name, present, output, saving, (gradient, saved, needs) => {
    const gradients = needs.map((needed, index) =>
      needed ? allocate(`${name} backward`, saved[index]!.shape) : undefined,
    );
    const read: Argument[] = [gradient, ...saved.slice(statistics)];
    for (const place of places) read.push(place === undefined ? undefined : saved[place]);
    read.push(...words);
    for (let index = 0; index < inputs.length; index++) {
      const place = places[index];
      read.push(place !== undefined && gradients[place] !== undefined);
    }
    const wanted = gradients.filter((tensor) => tensor !== undefined);
    run(operation, wanted, ...read);
    for (const moved of moves) moved.storage.version++;
    return gradients;
  });
}

/** Where the words of the command `batch_norm_inference` stand that {@link batchNorm} enqueues, for those who read commands. */
export const inferenceWords = {
  gamma: 1,
  beta: 2,
  residual: 3,
  mean: 4,
  variance: 5,
  activation: 9,
  epsilon: 12,
} as const;

const batchNormOptions = optionNames<BatchNormOptions>({
  gamma: true,
  beta: true,
  epsilon: true,
  activation: true,
  training: 'boolean',
  runningMean: true,
  runningVariance: true,
  momentum: true,
  residual: true,
});

/**
 * Batch normalization (Ioffe and Szegedy 2015): `activation((x - mean) / √(variance + epsilon) · gamma + beta + residual)`.
 *
 * `input` is `[batch, …, channels]`. In training mean and variance of each channel are the batch's, the variance biased, and the
 * running statistics become `(1 - momentum) · running + momentum · batch` in place, with the unbiased variance; nothing of them
 * moves where a statistic of the batch is not finite. Outside training the running statistics take the batch's place.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT (also for a training batch with a single value of each
 * channel, which has no variance)
 */
export function batchNorm(input: Tensor, options: BatchNormOptions): Tensor {
  checkOptions('batchNorm', options, batchNormOptions);
  const { batch, positions, channels } = geometryOf('batchNorm', input, options);
  const { gamma, beta, residual, runningMean, runningVariance, training, epsilon = 1e-5, momentum = 0.1 } = options;
  checkRunning('batchNorm', options, channels, input.shape);
  if (residual !== undefined) {
    checkFloat('batchNorm', { residual });
    if (!sameShape(residual.shape, input.shape)) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `batchNorm: residual must have the shape of the input, ${formatShape(input.shape)}, got ${formatShape(residual.shape)}`,
      );
    }
  }
  const inputs = [input, gamma, beta, residual];
  const shape = [batch, positions, channels];
  const activation = activationWords('batchNorm', options.activation ?? 'none');
  if (!training) {
    if (runningMean === undefined || runningVariance === undefined) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        'batchNorm: outside training it needs runningMean and runningVariance',
      );
    }
    const output = allocate('batchNorm', input.shape);
    const words = [...shape, ...activation, epsilon];
    run('batch_norm_inference', [output], ...inputs, runningMean, runningVariance, ...words);
    return recordNormalization('batchNorm', inputs, output, {
      operation: 'batch_norm_inference_backward',
      saved: [],
      constants: [runningMean, runningVariance],
      words,
    });
  }
  if (batch * positions === 1) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `batchNorm: a training batch of shape ${formatShape(input.shape)} has one value for each channel, which has no variance; ` +
        'use a larger batch, or a norm that does not depend on it (groupNorm, layerNorm, filterResponseNorm)',
    );
  }
  const output = allocate('batchNorm', input.shape);
  const saved = allocate('batchNorm', [3, channels]);
  const running = [runningMean, runningVariance];
  run('batch_norm', [output, saved], ...inputs, ...running, ...shape, ...activation, epsilon, momentum);
  for (const statistics of running) if (statistics !== undefined) statistics.storage.version++;
  recordNormalization('batchNorm', inputs, output, {
    operation: 'batch_norm_backward',
    saved: [saved],
    constants: [undefined, undefined],
    words: [...shape, ...activation],
  });
  saved.dispose();
  return output;
}

const groupNormOptions = optionNames<GroupNormOptions>({
  groups: true,
  gamma: true,
  beta: true,
  epsilon: true,
  activation: true,
});

/**
 * Group normalization (Wu and He 2018): `activation((x - mean) / √(variance + epsilon) · gamma + beta)` with the mean and the biased
 * variance of each sample and group of neighbouring channels, over all positions.
 *
 * `input` is `[batch, …, channels]`. No sample depends on another.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function groupNorm(input: Tensor, options: GroupNormOptions): Tensor {
  checkOptions('groupNorm', options, groupNormOptions);
  return normalizeGroups('groupNorm', input, options.groups, options);
}

const instanceNormOptions = optionNames<NormalizationOptions>({
  gamma: true,
  beta: true,
  epsilon: true,
  activation: true,
});

/**
 * Instance normalization (Ulyanov, Vedaldi and Lempitsky 2016): group normalization with every channel a group of its own.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function instanceNorm(input: Tensor, options: NormalizationOptions = {}): Tensor {
  checkOptions('instanceNorm', options, instanceNormOptions);
  return normalizeGroups('instanceNorm', input, undefined, options);
}

const layerNormOptions = optionNames<LayerNormOptions>({
  over: true,
  gamma: true,
  beta: true,
  epsilon: true,
  activation: true,
});

/**
 * Layer normalization (Ba, Kiros and Hinton 2016), over each sample (group normalization with one group) or over the channels of
 * each position.
 *
 * `input` is `[batch, …, channels]`. No sample depends on another.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function layerNorm(input: Tensor, options: LayerNormOptions = {}): Tensor {
  checkOptions('layerNorm', options, layerNormOptions);
  const over: unknown = options.over ?? 'sample';
  if (over === 'sample' && input.rank !== 2) return normalizeGroups('layerNorm', input, 1, options);
  if (over !== 'channels' && over !== 'sample') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `layerNorm: over must be 'sample' or 'channels', got '${String(over)}'`,
    );
  }
  const geometry = geometryOf('layerNorm', input, options);
  const { gamma, beta, epsilon = 1e-5 } = options;
  return normalizeRows('layerNorm', 'layer_norm', input, [gamma, beta], geometry, epsilon, options.activation, 3);
}

const rmsNormOptions = optionNames<RMSNormOptions>({ gamma: true, epsilon: true, activation: true });

/**
 * Root-mean-square normalization (Zhang and Sennrich 2019): `activation(x / √(mean(x²) + epsilon) · gamma)` over the channels of each
 * position, without centring.
 *
 * `input` is `[batch, …, channels]`. No sample depends on another.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function rmsNorm(input: Tensor, options: RMSNormOptions = {}): Tensor {
  checkOptions('rmsNorm', options, rmsNormOptions);
  const geometry = geometryOf('rmsNorm', input, options);
  const { gamma, epsilon = 1e-5 } = options;
  return normalizeRows('rmsNorm', 'rms_norm', input, [gamma, undefined], geometry, epsilon, options.activation, 1);
}

/** Statistics over positions and groups of channels; a group for each channel where `groups` is undefined. */
function normalizeGroups(
  name: string,
  input: Tensor,
  asked: number | undefined,
  options: NormalizationOptions,
): Tensor {
  const { batch, positions, channels } = geometryOf(name, input, options);
  const groups = asked ?? channels;
  if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${name}: groups must be a whole number that divides the ${channels} channels of the input ${formatShape(input.shape)}, ` +
        `got ${groups}`,
    );
  }
  const inputs = [input, options.gamma, options.beta];
  const words = [batch, positions, channels, ...activationWords(name, options.activation ?? 'none'), groups];
  const output = allocate(name, input.shape);
  const saved = allocate(name, [3, batch, groups]);
  run('group_norm', [output, saved], ...inputs, ...words, options.epsilon ?? 1e-5);
  recordNormalization(name, inputs, output, {
    operation: 'group_norm_backward',
    saved: [saved],
    words,
  });
  saved.dispose();
  return output;
}

/** Statistics over the channels of each position: `kept` numbers of each are saved. */
function normalizeRows(
  name: string,
  operation: string,
  input: Tensor,
  parameters: readonly (Tensor | undefined)[],
  { batch, positions, channels }: Geometry,
  epsilon: number,
  activationName: FusedActivation | undefined,
  kept: number,
): Tensor {
  const inputs = [input, ...parameters];
  const words = [batch, positions, channels, ...activationWords(name, activationName ?? 'none')];
  const output = allocate(name, input.shape);
  const saved = allocate(name, [kept, batch * positions]);
  run(operation, [output, saved], ...inputs, ...words, epsilon);
  recordNormalization(name, inputs, output, {
    operation: `${operation}_backward`,
    saved: [saved],
    words,
  });
  saved.dispose();
  return output;
}

const filterResponseNormOptions = optionNames<FilterResponseNormOptions>({
  gamma: true,
  beta: true,
  epsilon: true,
  activation: true,
  tau: true,
  learnedEpsilon: true,
  epsilonForm: true,
});

/**
 * Filter response normalization with its thresholded linear unit (Singh and Krishnan 2020):
 * `max(x / √(mean(x²) + epsilon) · gamma + beta, tau)`, the mean over the positions of each sample and channel, without centring.
 *
 * `input` is `[batch, …, channels]`. No sample depends on another, bit for bit. At a tie of the maximum the gradient goes to the
 * normalized value. Without `tau`, `activation` applies.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function filterResponseNorm(input: Tensor, options: FilterResponseNormOptions = {}): Tensor {
  checkOptions('filterResponseNorm', options, filterResponseNormOptions);
  const name = 'filterResponseNorm';
  const { batch, positions, channels } = geometryOf(name, input, options);
  const { gamma, beta, tau, learnedEpsilon, epsilon = 1e-6 } = options;
  checkChannels(name, 'tau', tau, channels, input.shape);
  const activationName = options.activation ?? 'none';
  if (tau !== undefined && activationName !== 'none') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${name}: give tau or an activation, not both (got '${activationName}')`,
    );
  }
  if (learnedEpsilon !== undefined) {
    checkFloat(name, { learnedEpsilon });
    if (learnedEpsilon.size !== 1) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `${name}: learnedEpsilon must have one element, got shape ${formatShape(learnedEpsilon.shape)}`,
      );
    }
  }
  const form: unknown = options.epsilonForm ?? 'absolute';
  if (form !== 'absolute' && form !== 'exponential') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${name}: epsilonForm must be 'absolute' or 'exponential', got '${String(form)}'`,
    );
  }
  const inputs = [input, gamma, beta, tau, learnedEpsilon];
  const words = [
    ...[batch, positions, channels, epsilon],
    form === 'exponential',
    ...activationWords(name, activationName),
  ];
  const output = allocate(name, input.shape);
  const saved = allocate(name, [batch, channels]);
  run('filter_response_norm', [output, saved], ...inputs, ...words);
  recordNormalization(name, inputs, output, {
    operation: 'filter_response_norm_backward',
    saved: [saved],
    words,
  });
  saved.dispose();
  return output;
}
