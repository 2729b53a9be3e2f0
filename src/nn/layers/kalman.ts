import { EvenkeelError } from '../../errors';
import { checkOptions, type OptionNames, optionNames } from '../../options';
import { concatenate, ones, randn, Tensor, zeros } from '../../tensor';
import { type KalmanNormOptions, type KalmanTransition, kalmanNorm } from '../../tensor/operations/kalman';
import { batchNorm } from '../../tensor/operations/normalization';
import { checkChoice, checkInteger, checkRange, formatOptions } from '../check';
import { constant } from '../init';
import { Parameter } from '../parameter';
import { attachState, type ChainState, predictedState, StateHolder, stateOf } from '../statistics-chain';
import {
  NormalizationLayer,
  type NormalizationLayerOptions,
  normalizationLayerNames,
  type ResidualPair,
} from './affine';
import { Conv2d, type Conv2dOptions, conv2dNames } from './conv2d';
import { Linear, type LinearOptions, linearNames } from './linear';

/**
 * How the statistics of one layer predict those of the next.
 *
 * - `'learned'`: through a learned matrix A and learned noise, the equations of the paper.
 * - `'tied-raw'`: through ReLU and the layer's own weights, from the statistics before normalization: what the released code does, in
 *   closed form instead of by pseudo-samples. Its priors are far off in a network that has not been trained.
 * - `'tied-norm'`: as before, from the statistics behind normalization, scale and shift.
 */
export type KalmanMode = 'learned' | 'tied-norm' | 'tied-raw';

/** A prior, or the statistics in front of the layer that it is predicted through. */
interface Source {
  readonly before: Tensor;
  readonly through: KalmanTransition | undefined;
}

/** Options of {@link BatchKalmanNorm}. */
export interface BatchKalmanNormOptions extends NormalizationLayerOptions {
  /** Samples that share statistics: neighbours in the batch. Default: the whole batch. */
  readonly groupSize?: number;
  /** How the statistics are handed on. Default `'learned'`. */
  readonly mode?: KalmanMode;
  /** q, the weight of the prior, 0 (batch normalization) to 1. Default 0.1 where it is learned, 0.9 otherwise. */
  readonly priorWeight?: number;
  /** Whether q is learned (as the sigmoid of a parameter); then it must be between 0 and 1. Default: in the mode `'learned'`. */
  readonly learnPriorWeight?: boolean;
  /**
   * Whether a group drops a prior whose variances are on average a hundred times what it sees, as the released code does. Default: in the
   * mode `'tied-raw'`.
   */
  readonly guarded?: boolean;
  /** Weight of the new batch in the running statistics. Default 0.1. */
  readonly momentum?: number;
  /** Whether only the first group moves the running statistics, as in the released code. Default `false`: the mean of all groups. */
  readonly firstGroupOnly?: boolean;
  /**
   * Whether no gradient flows from a norm into its prior: neither to the statistics of the layers before, nor to the weights that
   * predicted from them. Not for the mode `'learned'`, whose transition could then not learn. Default `false`, as in the released code.
   */
  readonly stopChainGradient?: boolean;
}

const batchKalmanNormOptions = optionNames<BatchKalmanNormOptions>({
  ...normalizationLayerNames,
  groupSize: true,
  mode: true,
  priorWeight: true,
  learnPriorWeight: 'boolean',
  guarded: 'boolean',
  momentum: true,
  firstGroupOnly: 'boolean',
  stopChainGradient: 'boolean',
});

/**
 * Batch Kalman normalization (Wang et al. 2018, "Batch Kalman Normalization" and "Kalman Normalization"): batch normalization over small
 * groups of samples, whose statistics are corrected by a prediction from the layer before.
 *
 * Input `[batch, ..., channels]`; the batch must be a multiple of `groupSize`, or smaller. The prediction comes with the input, from
 * {@link KalmanConv2d} or {@link KalmanLinear}; without one (the first layer, behind max pooling) the layer is batch normalization of
 * every group. Evaluation uses the running statistics, as batch normalization does.
 *
 * Instead of one tensor it takes a pair `[x, shortcut]` and returns `activation(norm(x) + shortcut)` in the same pass: the end of
 * a residual block. Its statistics are then those of the sum, branch and shortcut taken as independent.
 */
export class BatchKalmanNorm extends NormalizationLayer<Tensor | ResidualPair> {
  /** Running mean `[channels]`, first 0. */
  readonly runningMean: Tensor;
  /** Running variance `[channels]`, first 1; of the statistics that normalized, so it is biased. */
  readonly runningVariance: Tensor;
  /** What the sigmoid turns into q, `[1]`; `undefined` where q is fixed. */
  readonly priorWeightLogit: Parameter | undefined;
  /** q, where it is fixed; its first value otherwise. */
  readonly priorWeight: number;
  /** Samples that share statistics; `undefined` for all. */
  readonly groupSize: number | undefined;
  /** How the statistics are handed on. */
  readonly mode: KalmanMode;
  /** Whether implausible priors are dropped. */
  readonly guarded: boolean;
  /** Weight of the new batch in the running statistics. */
  readonly momentum: number;
  /** Whether only the first group moves the running statistics. */
  readonly firstGroupOnly: boolean;
  /** Whether no gradient flows into priors. */
  readonly stopChainGradient: boolean;
  readonly #holder = new StateHolder();

  constructor(options: BatchKalmanNormOptions) {
    checkOptions('BatchKalmanNorm', options, batchKalmanNormOptions);
    super('BatchKalmanNorm', options);
    const { mode = 'learned', learnPriorWeight = mode === 'learned', groupSize } = options;
    this.mode = checkMode('BatchKalmanNorm', mode);
    this.groupSize = groupSize === undefined ? undefined : checkInteger('BatchKalmanNorm', 'groupSize', groupSize, 1);
    const least = learnPriorWeight ? Number.EPSILON : 0;
    const q = options.priorWeight ?? (learnPriorWeight ? 0.1 : 0.9);
    this.priorWeight = checkRange('BatchKalmanNorm', 'priorWeight', q, least, 1 - least);
    this.guarded = options.guarded ?? mode === 'tied-raw';
    this.momentum = checkRange('BatchKalmanNorm', 'momentum', options.momentum ?? 0.1, 0, 1);
    this.firstGroupOnly = options.firstGroupOnly ?? false;
    this.stopChainGradient = options.stopChainGradient ?? false;
    if (this.stopChainGradient && mode === 'learned') {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        "BatchKalmanNorm: without gradients into the prior the transitions of the mode 'learned' cannot learn; use 'tied-norm' or 'tied-raw'",
      );
    }
    this.priorWeightLogit = learnPriorWeight
      ? new Parameter(constant(Math.log(q / (1 - q)))([1]), { decay: false })
      : undefined;
    this.runningMean = this.buffer('runningMean', zeros([this.channels]));
    this.runningVariance = this.buffer('runningVariance', ones([this.channels]));
  }

  protected override release(): void {
    this.#holder.dispose();
  }

  override forward(input: Tensor | ResidualPair): Tensor {
    const [x, residual] = input instanceof Tensor ? [input, undefined] : input;
    const { gamma, beta, runningMean, runningVariance, epsilon, momentum, activation, priorWeightLogit } = this;
    if (!this.training) {
      const options = { gamma, beta, runningMean, runningVariance, epsilon, activation, residual, training: false };
      return batchNorm(x, options);
    }
    const groups = this.#groups(x.shape[0] ?? 0);
    const source = this.#source(x, groups);
    const shortcut = residual === undefined ? undefined : this.#shortcutState(residual, groups);
    const { output, posterior } = kalmanNorm(x, {
      gamma,
      beta,
      residual,
      activation,
      epsilon,
      groups,
      prior: source?.before,
      through: source?.through,
      priorWeight: source === undefined ? undefined : (priorWeightLogit ?? this.priorWeight),
      priorWeightForm: priorWeightLogit === undefined ? 'value' : 'logit',
      guarded: this.guarded,
      handsOn: this.mode === 'tied-norm' ? 'normalized' : 'posterior',
      shortcut,
      runningMean,
      runningVariance,
      momentum,
      firstGroupOnly: this.firstGroupOnly,
    });
    if (residual !== undefined && shortcut === undefined) return output;
    return this.#holder.attach(output, posterior, activation === 'relu');
  }

  /** The statistics that came with the input, where they fit, and the layer that they still have to go through. */
  #source(input: Tensor, groups: number): Source | undefined {
    const found = stateOf(input);
    if (found === undefined) return undefined;
    const before = found.prediction?.before ?? found.state;
    const through = found.prediction?.through;
    if (before.shape[1] !== groups || channelsOf(found) !== this.channels) return undefined;
    if (!this.stopChainGradient) return { before, through };
    const detached = (value: Tensor | undefined) => value?.detach();
    return {
      before: before.detach(),
      through: through && {
        ...through,
        weight: through.weight.detach(),
        bias: detached(through.bias),
        noise: detached(through.noise),
      },
    };
  }

  /** The statistics of the shortcut, where they fit; the released code leaves a ReLU out here, and a learned transition makes up for it. */
  #shortcutState(shortcut: Tensor, groups: number): KalmanNormOptions['shortcut'] {
    const found = stateOf(shortcut);
    if (found === undefined) return undefined;
    const { state, rectified } = found;
    if (state.shape[1] !== groups || (state.shape[2] ?? 0) > this.channels) return undefined;
    return { state, rectified: rectified && this.mode === 'tied-norm' };
  }

  #groups(batch: number): number {
    const size = Math.min(this.groupSize ?? batch, batch);
    if (size === 0) return 1;
    if (batch % size !== 0) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `BatchKalmanNorm: a batch of ${batch} samples does not split into groups of ${size}; give a multiple (or drop the last batch of ` +
          'an epoch)',
      );
    }
    return batch / size;
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      mode: this.mode,
      groupSize: this.groupSize,
      priorWeight: this.priorWeight,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}

/** Throws `INVALID_ARGUMENT` for an unknown mode. */
export function checkMode(owner: string, mode: KalmanMode): KalmanMode {
  return checkChoice(owner, 'mode', mode, ['learned', 'tied-norm', 'tied-raw']);
}

/** Options that weight layers in a chain of statistics have besides their own. */
export interface KalmanTransitionOptions {
  /** How statistics go through the layer. Default `'learned'`. */
  readonly mode?: KalmanMode;
  /**
   * How a convolution of a tied mode predicts: in `'closed-form'`, or by `'monte-carlo'` as the released code does, from one map of
   * random values for each group, drawn with the statistics in front and sent through ReLU and the convolution itself, borders included.
   * Results with a single position, and linear layers, take the closed form. Default `'closed-form'`.
   */
  readonly prediction?: KalmanPrediction;
}

const transitionNames: OptionNames<KalmanTransitionOptions> = { mode: true, prediction: true };
const kalmanConv2dOptions = optionNames<Conv2dOptions & KalmanTransitionOptions>({
  ...conv2dNames,
  ...transitionNames,
});
const kalmanLinearOptions = optionNames<LinearOptions & KalmanTransitionOptions>({
  ...linearNames,
  ...transitionNames,
});

/** See {@link KalmanTransitionOptions.prediction}. */
export type KalmanPrediction = 'closed-form' | 'monte-carlo';

/** Throws `INVALID_ARGUMENT` for an unknown prediction, or one that the mode does not have. */
export function checkPrediction(owner: string, mode: KalmanMode, prediction: KalmanPrediction): KalmanPrediction {
  checkChoice(owner, 'prediction', prediction, ['closed-form', 'monte-carlo']);
  if (prediction === 'monte-carlo' && mode === 'learned') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: the mode 'learned' predicts with a matrix of its own, and has no monte-carlo form; use 'tied-raw' or 'tied-norm'`,
    );
  }
  return prediction;
}

/** The learned transition of a layer: A `[inChannels, outChannels]`, first 0, and noise `[outChannels]`, whose softplus is first 1. */
interface LearnedTransition {
  readonly transition: Parameter;
  readonly noise: Parameter;
}

function learnedTransition(mode: KalmanMode, inputs: number, outputs: number): LearnedTransition | undefined {
  if (mode !== 'learned') return undefined;
  return {
    transition: new Parameter(zeros([inputs, outputs]), { decay: false }),
    noise: new Parameter(constant(Math.log(Math.E - 1))([outputs]), { decay: false }),
  };
}

/** The channels of statistics, without computing them. */
function channelsOf(known: ChainState): number | undefined {
  const weight = known.prediction?.through.weight;
  return weight === undefined ? known.state.shape[2] : weight.shape.at(-1);
}

/** The statistics behind a layer, to be computed by the norm that reads them; `holder` keeps what they are computed from. */
function predict(
  before: ChainState,
  learned: LearnedTransition | undefined,
  layer: { readonly weight: Tensor; readonly bias: Tensor | undefined; readonly groups?: number },
  holder: StateHolder,
): ChainState {
  const { rectified } = before;
  const through: KalmanTransition =
    learned === undefined
      ? { weight: layer.weight, bias: layer.bias, channelGroups: layer.groups, rectified }
      : { weight: learned.transition, noise: learned.noise };
  // What was computed just now has nobody else to keep it alive.
  return predictedState(before.prediction === undefined ? before.state : holder.hold(before.state), through);
}

/** Convolution that also predicts the statistics of its output, for {@link BatchKalmanNorm}, from those that come with its input. */
export class KalmanConv2d extends Conv2d {
  /** A of the mode `'learned'`, `[inChannels, outChannels]`, first 0, without weight decay. */
  readonly transition: Parameter | undefined;
  /** Noise of the mode `'learned'`, `[outChannels]`: its softplus, first 1, is added to the variances. Without weight decay. */
  readonly noise: Parameter | undefined;
  /** How statistics go through the layer. */
  readonly mode: KalmanMode;
  /** How a tied mode predicts. */
  readonly prediction: KalmanPrediction;
  readonly #learned: LearnedTransition | undefined;
  readonly #holder = new StateHolder();

  constructor(options: Conv2dOptions & KalmanTransitionOptions) {
    checkOptions('KalmanConv2d', options, kalmanConv2dOptions);
    const { mode = 'learned', prediction = 'closed-form', ...convolution } = options;
    super(convolution);
    this.mode = checkMode('KalmanConv2d', mode);
    this.prediction = checkPrediction('KalmanConv2d', this.mode, prediction);
    this.#learned = learnedTransition(this.mode, this.inChannels, this.outChannels);
    this.transition = this.#learned?.transition;
    this.noise = this.#learned?.noise;
  }

  protected override release(): void {
    this.#holder.dispose();
  }

  override forward(input: Tensor): Tensor {
    const output = super.forward(input);
    const before = this.training ? stateOf(input) : undefined;
    if (before === undefined || channelsOf(before) !== this.inChannels) return output;
    const sampled = this.prediction === 'monte-carlo' && output.size > (output.shape[0] ?? 0) * this.outChannels;
    if (sampled) return this.#holder.attach(output, this.#sample(before, input.shape), false);
    return attachState(output, predict(before, this.#learned, this, this.#holder));
  }

  /** The statistics of the layer's output for one random map a group with the statistics in front. */
  #sample({ state, rectified }: ChainState, [, height = 0, width = 0]: readonly number[]): Tensor {
    const [, groups = 0, channels = 0] = state.shape;
    const row = (index: number): Tensor =>
      state.slice({ starts: [index], ends: [index + 1] }).reshape([groups, 1, 1, channels]);
    const drawn = randn([groups, height, width, channels]).mul(row(1).add(1e-8).sqrt()).add(row(0));
    const output = super.forward(rectified ? drawn.relu() : drawn);
    const over = { axes: [1, 2], keepDims: true } as const;
    const mean = output.mean(over);
    const variance = output.sub(mean).square().mean(over);
    return concatenate([mean, variance], 0).reshape([2, groups, this.outChannels]);
  }
}

/** Linear layer that also predicts the statistics of its output; see {@link KalmanConv2d}. */
export class KalmanLinear extends Linear {
  /** A of the mode `'learned'`, `[inFeatures, outFeatures]`, first 0, without weight decay. */
  readonly transition: Parameter | undefined;
  /** Noise of the mode `'learned'`, `[outFeatures]`: its softplus, first 1, is added to the variances. Without weight decay. */
  readonly noise: Parameter | undefined;
  /** How statistics go through the layer. */
  readonly mode: KalmanMode;
  readonly #learned: LearnedTransition | undefined;
  readonly #holder = new StateHolder();

  constructor(options: LinearOptions & KalmanTransitionOptions) {
    checkOptions('KalmanLinear', options, kalmanLinearOptions);
    const { mode = 'learned', prediction: _, ...linear } = options;
    super(linear);
    this.mode = checkMode('KalmanLinear', mode);
    this.#learned = learnedTransition(this.mode, this.inFeatures, this.outFeatures);
    this.transition = this.#learned?.transition;
    this.noise = this.#learned?.noise;
  }

  protected override release(): void {
    this.#holder.dispose();
  }

  override forward(input: Tensor): Tensor {
    const output = super.forward(input);
    const before = this.training ? stateOf(input) : undefined;
    if (before === undefined || channelsOf(before) !== this.inFeatures) return output;
    return attachState(output, predict(before, this.#learned, this, this.#holder));
  }
}
