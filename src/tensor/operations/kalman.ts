import { EvenkeelError } from '../../errors';
import { record } from '../autograd';
import { formatShape, sameShape } from '../shape';
import { allocate, keep, run, type Tensor } from '../tensor';
import { checkFloat, checkOptions, optionNames } from './check';
import { activationWords } from './fused-activation';
import { checkChannels, checkRunning, geometryOf, type NormalizationOptions } from './normalization';

/** A weight layer that a state goes through; see {@link kalmanPredict}. */
export interface KalmanTransition extends KalmanPredictOptions {
  /** `[…, inChannels / channelGroups, outChannels]`. */
  readonly weight: Tensor;
  /** Whether a ReLU lies between the state and the layer. @defaultValue false */
  readonly rectified?: boolean | undefined;
}

/** The state of the other branch of a residual block. */
export interface KalmanShortcut {
  /** Means and variances `[2, groups, channels]`, of as many channels as the norm, or of its first. */
  readonly state: Tensor;
  /** Whether a ReLU lies behind the state. @defaultValue false */
  readonly rectified?: boolean | undefined;
}

/** Options of {@link kalmanNorm}. */
export interface KalmanNormOptions extends NormalizationOptions {
  /** Groups of neighbouring samples with statistics of their own; must divide the batch. @defaultValue 1 */
  readonly groups?: number | undefined;
  /** The predicted statistics: means and variances `[2, groups, channels]`. Given together with `priorWeight`. */
  readonly prior?: Tensor | undefined;
  /** The layer that `prior` still has to go through, as `kalmanPredict` does it; then it has that layer's channels. */
  readonly through?: KalmanTransition | undefined;
  /** The weight of the prior, 0 to 1: `[1]`, or a number. */
  readonly priorWeight?: Tensor | number | undefined;
  /** What a tensor `priorWeight` holds: the weight, or what the weight is the sigmoid of. A number is the weight. @defaultValue value */
  readonly priorWeightForm?: 'value' | 'logit' | undefined;
  /** Whether a group drops a prior whose variances are on average a hundred times the observed ones. @defaultValue false */
  readonly guarded?: boolean | undefined;
  /** Added before the activation, of the shape of the input: the shortcut of a residual block. */
  readonly residual?: Tensor | undefined;
  /** Whether `posterior` is what normalized, or what `kalmanNormalized` makes of that. @defaultValue posterior */
  readonly handsOn?: 'posterior' | 'normalized' | undefined;
  /** Added to `posterior`. */
  readonly shortcut?: KalmanShortcut | undefined;
  /** `[channels]`, updated in place. Given together with `runningVariance`. */
  readonly runningMean?: Tensor | undefined;
  /** `[channels]`; it moves towards the variance that normalized, which is biased. */
  readonly runningVariance?: Tensor | undefined;
  /** The share of the batch in the running statistics, 0 to 1. @defaultValue 0.1 */
  readonly momentum?: number | undefined;
  /** Whether only the first group moves the running statistics, as in the released code, or the mean of all. @defaultValue false */
  readonly firstGroupOnly?: boolean | undefined;
}

/** What {@link kalmanNorm} returns. */
export interface KalmanNormResult {
  /** The normalized input. */
  readonly output: Tensor;
  /** The statistics it was normalized with, or what `handsOn` and `shortcut` make of them: `[2, groups, channels]`. Differentiable. */
  readonly posterior: Tensor;
}

function checkState(operation: string, state: Tensor): readonly [groups: number, channels: number] {
  checkFloat(operation, { state });
  const [two, groups, channels] = state.shape;
  if (state.rank !== 3 || two !== 2 || groups === undefined || channels === undefined || groups * channels === 0) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected a state [2, groups, channels] of means and variances, got shape ${formatShape(state.shape)}`,
    );
  }
  return [groups, channels];
}

const transitionNames = optionNames<KalmanTransition>({
  weight: true,
  rectified: 'boolean',
  bias: true,
  noise: true,
  channelGroups: true,
});
const shortcutNames = optionNames<KalmanShortcut>({ state: true, rectified: 'boolean' });
const kalmanNormOptions = optionNames<KalmanNormOptions>({
  gamma: true,
  beta: true,
  epsilon: true,
  activation: true,
  groups: true,
  prior: true,
  through: true,
  priorWeight: true,
  priorWeightForm: true,
  guarded: 'boolean',
  residual: true,
  handsOn: true,
  shortcut: true,
  runningMean: true,
  runningVariance: true,
  momentum: true,
  firstGroupOnly: 'boolean',
});

/**
 * Batch Kalman normalization in training (Wang et al. 2018): `activation((x - m) / √(v + epsilon) · gamma + beta + residual)` over groups
 * of samples, where the observed mean x̄ and variance S of a group and channel are corrected by a prior m⁻, v⁻ of weight q:
 * `m = q m⁻ + (1 - q) x̄` and `v = q v⁻ + (1 - q) S + q (1 - q) (x̄ - m⁻)²`. Without a prior, or with q = 0, it is batch normalization
 * of every group. Outside training use `batchNorm` with the running statistics.
 *
 * The prediction through the layer in front, the norm and what is handed on are one command forward and one backward.
 *
 * The gradient of the posterior reaches the inputs only through `output`: use both, or the output alone.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT (also for a group with a single value of each channel and no
 * prior, which has no variance)
 */
export function kalmanNorm(input: Tensor, options: KalmanNormOptions = {}): KalmanNormResult {
  checkOptions('kalmanNorm', options, kalmanNormOptions);
  if (options.through !== undefined) checkOptions('kalmanNorm through', options.through, transitionNames);
  if (options.shortcut !== undefined) checkOptions('kalmanNorm shortcut', options.shortcut, shortcutNames);
  const { batch, positions, channels } = geometryOf('kalmanNorm', input, options);
  const { gamma, beta, residual, prior, through, priorWeight, shortcut, runningMean, runningVariance } = options;
  const { groups = 1, epsilon = 1e-5, momentum = 0.1, guarded = false, firstGroupOnly = false } = options;
  checkRunning('kalmanNorm', options, channels, input.shape);
  if (!Number.isInteger(groups) || groups < 1 || batch % groups !== 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `kalmanNorm: groups must be a whole number that divides the batch of ${batch}, got ${groups}`,
    );
  }
  if (prior === undefined && batch * positions === groups) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `kalmanNorm: a group of the input ${formatShape(input.shape)} has a single value of each channel, which has no variance; use larger ` +
        'groups or give a prior',
    );
  }
  const stateShape = [2, groups, channels];
  checkPrior(options, groups, channels);
  checkShortcut(options, input.shape, groups);
  const activation = activationWords('kalmanNorm', options.activation ?? 'none');
  const learned = typeof priorWeight === 'number' ? undefined : priorWeight;
  const { weight, bias, noise } = through ?? {};
  const inputs = [input, gamma, beta, residual, prior, weight, bias, noise, learned, shortcut?.state];
  const output = allocate('kalmanNorm', input.shape);
  const posterior = allocate('kalmanNorm', stateShape);
  const saved = allocate('kalmanNorm', [8, groups, channels]);
  const words = [
    batch,
    positions,
    channels,
    groups,
    epsilon,
    prior?.shape[2] ?? 0,
    through?.channelGroups ?? 1,
    through?.rectified ?? false,
    options.priorWeightForm === 'logit',
    typeof priorWeight === 'number' ? priorWeight : 0,
    guarded,
    options.handsOn === 'normalized',
    shortcut?.rectified ?? false,
    ...activation,
  ];
  const running = [runningMean, runningVariance];
  run('kalman_norm', [output, posterior, saved], ...inputs, ...running, ...words, momentum, firstGroupOnly);
  for (const statistics of running) if (statistics !== undefined) statistics.storage.version++;
  recordBoth(inputs, output, posterior, saved, words);
  saved.dispose();
  return { output, posterior };
}

function checkPrior({ prior, through, priorWeight }: KalmanNormOptions, groups: number, channels: number): void {
  if ((prior === undefined) !== (priorWeight === undefined)) {
    throw new EvenkeelError('INVALID_ARGUMENT', 'kalmanNorm: give both prior and priorWeight, or neither');
  }
  if (prior === undefined && through !== undefined) {
    throw new EvenkeelError('INVALID_ARGUMENT', 'kalmanNorm: through needs a prior that goes through it');
  }
  if (prior === undefined || priorWeight === undefined) return;
  if (typeof priorWeight === 'number') {
    if (!(priorWeight >= 0 && priorWeight <= 1)) {
      throw new EvenkeelError('INVALID_ARGUMENT', `kalmanNorm: priorWeight must be in 0 to 1, got ${priorWeight}`);
    }
  } else {
    checkFloat('kalmanNorm', { priorWeight });
  }
  checkFloat('kalmanNorm', { prior });
  if (through !== undefined) checkTransition('kalmanNorm', prior, through.weight, through);
  const leads = through === undefined ? prior.shape[2] : through.weight.shape.at(-1);
  const fits = prior.rank === 3 && prior.shape[0] === 2 && prior.shape[1] === groups && leads === channels;
  if (!fits || (typeof priorWeight !== 'number' && priorWeight.size !== 1)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `kalmanNorm: expected a prior of shape [2, ${groups}, ${channels}] and a priorWeight of one element, got ` +
        `${formatShape(prior.shape)}${through === undefined ? '' : ` through ${formatShape(through.weight.shape)}`} and ` +
        `${typeof priorWeight === 'number' ? 'a number' : formatShape(priorWeight.shape)}`,
    );
  }
}

function checkShortcut({ residual, shortcut }: KalmanNormOptions, inputShape: readonly number[], groups: number): void {
  checkFloat('kalmanNorm', {}, { residual });
  if (residual !== undefined && !sameShape(residual.shape, inputShape)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `kalmanNorm: residual must have the shape of the input, ${formatShape(inputShape)}, got ${formatShape(residual.shape)}`,
    );
  }
  if (shortcut === undefined) return;
  checkFloat('kalmanNorm', { shortcut: shortcut.state });
  const channels = inputShape[inputShape.length - 1]!;
  const { rank, shape } = shortcut.state;
  if (rank !== 3 || shape[0] !== 2 || shape[1] !== groups || !(shape[2]! <= channels)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `kalmanNorm: expected the state of the shortcut to be [2, ${groups}, at most ${channels}], got ${formatShape(shape)}`,
    );
  }
}

/**
 * Puts both results on the tape, with one backward pass over the input: the posterior hangs behind the output, so that its gradient is
 * complete, and noted, when that of the output is asked for.
 */
function recordBoth(
  inputs: readonly (Tensor | undefined)[],
  output: Tensor,
  posterior: Tensor,
  saved: Tensor,
  words: readonly (number | boolean)[],
): void {
  const present = inputs.filter((input) => input !== undefined);
  const isPresent = inputs.map((input) => input !== undefined);
  let noted: Tensor | undefined;
  record('kalmanNorm', present, output, [...present, saved], (gradient, kept, needs) => {
    const gradients = present.map(({ shape }, index) =>
      needs[index] === true ? allocate('kalmanNorm backward', shape) : undefined,
    );
    let next = 0;
    const places = isPresent.map((there) => (there ? next++ : undefined));
    run(
      'kalman_norm_backward',
      gradients.filter((tensor) => tensor !== undefined),
      gradient,
      kept[present.length],
      noted,
      ...places.map((place) => (place === undefined ? undefined : kept[place])),
      ...words,
      ...places.map((place) => place !== undefined && gradients[place] !== undefined),
    );
    noted?.dispose();
    noted = undefined;
    return gradients;
  });
  record('kalmanNorm posterior', [output], posterior, [], (gradient) => {
    noted?.dispose();
    noted = keep(gradient.alias());
    return [undefined];
  });
}

/** Options of {@link kalmanPredict}. */
export interface KalmanPredictOptions {
  /** Added to the means: `[outChannels]`. */
  readonly bias?: Tensor | undefined;
  /** `softplus` of it is added to the variances: `[outChannels]`. */
  readonly noise?: Tensor | undefined;
  /** Groups of channels of the layer. @defaultValue 1 */
  readonly channelGroups?: number | undefined;
}

const kalmanPredictOptions = optionNames<KalmanPredictOptions>({ bias: true, noise: true, channelGroups: true });

/**
 * The statistics `[2, groups, outChannels]` behind a linear layer, from those in front of it: `m' = Σ m K1 + bias` and
 * `v' = Σ v K2 + softplus(noise)`, with the sums over kernel positions of the weight and of its square. Channels are taken as independent
 * and borders are left aside.
 *
 * `weight` is `[…, inChannels / channelGroups, outChannels]`: a convolution's HWIO, a linear layer's, or a learned matrix.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function kalmanPredict(state: Tensor, weight: Tensor, options: KalmanPredictOptions = {}): Tensor {
  checkOptions('kalmanPredict', options, kalmanPredictOptions);
  const [groups, inChannels, outChannels] = checkTransition('kalmanPredict', state, weight, options);
  const { bias, noise, channelGroups = 1 } = options;
  const words = [groups, inChannels, outChannels, channelGroups];
  const output = allocate('kalmanPredict', [2, groups, outChannels]);
  run('kalman_predict', [output], state, weight, bias, noise, ...words);
  return recordState('kalmanPredict', 'kalman_predict_backward', [state, weight, bias, noise], output, words);
}

/** Checks a state and the layer it goes through. */
function checkTransition(
  operation: string,
  state: Tensor,
  weight: Tensor,
  { bias, noise, channelGroups = 1 }: KalmanPredictOptions,
): readonly [groups: number, inChannels: number, outChannels: number] {
  const [groups, inChannels] = checkState(operation, state);
  checkFloat(operation, { weight }, { bias, noise });
  if (!Number.isInteger(channelGroups) || channelGroups < 1) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: channelGroups must be a whole number of 1 or more, got ${channelGroups}`,
    );
  }
  const outChannels = weight.shape[weight.rank - 1] ?? 0;
  const rows = weight.shape[weight.rank - 2] ?? 0;
  const fits = rows * channelGroups === inChannels && outChannels % channelGroups === 0 && weight.size > 0;
  for (const vector of [bias, noise]) {
    if (!fits || (vector !== undefined && !sameShape(vector.shape, [outChannels]))) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `${operation}: a state of ${inChannels} channels needs a weight […, ${inChannels} / channelGroups, outChannels] and vectors ` +
          `[outChannels]; got a weight ${formatShape(weight.shape)} in ${channelGroups} groups, bias ` +
          `${bias === undefined ? 'none' : formatShape(bias.shape)}, noise ${noise === undefined ? 'none' : formatShape(noise.shape)}`,
      );
    }
  }
  return [groups, inChannels, outChannels];
}

/** Records an operation on states whose backward command wants a truth value for each input. */
function recordState(
  name: string,
  operation: string,
  inputs: readonly (Tensor | undefined)[],
  output: Tensor,
  words: readonly number[],
): Tensor {
  const present = inputs.filter((input) => input !== undefined);
  const shapes = present.map(({ shape }) => shape);
  let next = 0;
  const places = inputs.map((input) => (input === undefined ? undefined : next++));
  return record(name, present, output, present, (gradient, kept, needs) => {
    const gradients = shapes.map((shape, index) =>
      needs[index] === true ? allocate(`${name} backward`, shape) : undefined,
    );
    run(
      operation,
      gradients.filter((tensor) => tensor !== undefined),
      gradient,
      ...places.map((place) => (place === undefined ? undefined : kept[place])),
      ...words,
      ...places.map((place) => place !== undefined && gradients[place] !== undefined),
    );
    return gradients;
  });
}

/**
 * The statistics behind a ReLU, from those in front of it, as if the channels were Gaussian. Variances are at least 1e-8.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function kalmanRectify(state: Tensor): Tensor {
  checkState('kalmanRectify', state);
  const output = allocate('kalmanRectify', state.shape);
  run('kalman_rectify', [output], state);
  return record('kalmanRectify', [state], output, [state], (gradient, [kept]) => {
    const stateGradient = allocate('kalmanRectify backward', gradient.shape);
    run('kalman_rectify_backward', [stateGradient], gradient, kept!);
    return [stateGradient];
  });
}

const kalmanNormalizedOptions = optionNames<Omit<NormalizationOptions, 'activation'>>({
  gamma: true,
  beta: true,
  epsilon: true,
});

/**
 * The statistics of what a normalization with these statistics puts out: means `beta`, variances `gamma² v / (v + epsilon)`.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function kalmanNormalized(state: Tensor, options: Omit<NormalizationOptions, 'activation'> = {}): Tensor {
  checkOptions('kalmanNormalized', options, kalmanNormalizedOptions);
  const [, channels] = checkState('kalmanNormalized', state);
  const { gamma, beta, epsilon = 1e-5 } = options;
  checkChannels('kalmanNormalized', 'gamma', gamma, channels, state.shape);
  checkChannels('kalmanNormalized', 'beta', beta, channels, state.shape);
  const output = allocate('kalmanNormalized', state.shape);
  run('kalman_normalized', [output], state, gamma, beta, channels, epsilon);
  return recordState('kalmanNormalized', 'kalman_normalized_backward', [state, gamma, beta], output, [
    channels,
    epsilon,
  ]);
}
