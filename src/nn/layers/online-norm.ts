import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { ones, type Tensor, zeros } from '../../tensor';
import type { FusedActivation } from '../../tensor/operations/fused-activation';
import { batchNorm, rmsNorm } from '../../tensor/operations/normalization';
import { onlineNorm } from '../../tensor/operations/online-norm';
import { checkChoice, checkRange, formatOptions } from '../check';
import type { Module } from '../module';
import { createActivation } from './activations';
import { NormalizationLayer, type NormalizationLayerOptions, normalizationLayerNames } from './affine';

/** What keeps the errors of the running statistics from growing along the layers; see {@link OnlineNormOptions.guard}. */
export type OnlineNormGuard = 'layer-scaling' | 'clamp' | 'none';

/** Options of {@link OnlineNorm}. */
export interface OnlineNormOptions extends NormalizationLayerOptions {
  /** Weight of the old running statistics when a sample comes (α of the forward pass), in 0 to 1. Default 0.999. */
  readonly keep?: number;
  /** Weight of the old control variables when the gradient of a sample comes (α of the backward pass), in 0 to 1. Default 0.99. */
  readonly gradientKeep?: number;
  /**
   * What is done to the scaled and shifted result: `'layer-scaling'` divides each sample by its root mean square, as in the paper;
   * `'clamp'` limits values to −5 … 5, the default of the authors' code. Default `'layer-scaling'`.
   */
  readonly guard?: OnlineNormGuard;
}

/** Where {@link OnlineNorm} clamps. */
const CLAMP = 5;

const onlineNormOptions = optionNames<OnlineNormOptions>({
  ...normalizationLayerNames,
  keep: true,
  gradientKeep: true,
  guard: true,
});

/**
 * Online Normalization (Chiley et al., "Online Normalization for Training Neural Networks", 2019): every sample is normalized with running
 * statistics of the samples before it, those of its own batch included, so any batch size will do, also 1. A batch gives the same as its
 * samples one after another.
 *
 * Input `[batch, ..., channels]`, output of the same shape. The backward pass is not the derivative: two control variables for each channel
 * keep the gradients, averaged over the samples seen, orthogonal to the normalized values and to the constant, which is what the
 * derivative of batch normalization does within a batch. It moves these variables, so call `backward` once for each output. Statistics
 * and control variables do not move with a batch that has a NaN or an infinity. Evaluation leaves them all alone.
 */
export class OnlineNorm extends NormalizationLayer {
  /** Running mean `[channels]`, first 0. */
  readonly runningMean: Tensor;
  /** Running biased variance `[channels]`, first 1. */
  readonly runningVariance: Tensor;
  /** Accumulated projection of the gradients on the normalized values, `[channels]`, first 0. */
  readonly outputControl: Tensor;
  /** Accumulated sum of the input's gradients, `[channels]`, first 0. */
  readonly meanControl: Tensor;
  /** Weight of the old running statistics for each sample. */
  readonly keep: number;
  /** Weight of the old control variables for each sample. */
  readonly gradientKeep: number;
  /** What limits errors. */
  readonly guard: OnlineNormGuard;
  /** The activation that follows. */
  readonly activate: Module;

  constructor(options: OnlineNormOptions) {
    checkOptions('OnlineNorm', options, onlineNormOptions);
    const owner = 'OnlineNorm';
    super(owner, options);
    this.keep = checkRange(owner, 'keep', options.keep ?? 0.999, 0, 1);
    this.gradientKeep = checkRange(owner, 'gradientKeep', options.gradientKeep ?? 0.99, 0, 1);
    this.guard = checkChoice(owner, 'guard', options.guard ?? 'layer-scaling', ['layer-scaling', 'clamp', 'none']);
    this.activate = createActivation(this.activation, this.channels);
    this.runningMean = this.buffer('runningMean', zeros([this.channels]));
    this.runningVariance = this.buffer('runningVariance', ones([this.channels]));
    this.outputControl = this.buffer('outputControl', zeros([this.channels]));
    this.meanControl = this.buffer('meanControl', zeros([this.channels]));
  }

  override forward(input: Tensor): Tensor {
    if (input.rank < 2 || input.shape.at(-1) !== this.channels) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `OnlineNorm: expected an input [batch, …, ${this.channels}], got shape [${input.shape.join(', ')}]`,
      );
    }
    if (input.size === 0) return input.mul(1);
    // Clamping comes before the activation; the other guards are done, with the activation, by the norm.
    if (this.guard === 'clamp') {
      return this.activate.call(this.#normalize(input, 'none').clamp({ min: -CLAMP, max: CLAMP }));
    }
    return this.#normalize(input, this.activation);
  }

  #normalize(input: Tensor, activation: FusedActivation): Tensor {
    const { gamma, beta, epsilon, runningMean, runningVariance } = this;
    const layerScaling = this.guard === 'layer-scaling';
    const options = { gamma, beta, epsilon, runningMean, runningVariance };
    if (this.training) {
      const { outputControl, meanControl, keep, gradientKeep } = this;
      return onlineNorm(input, {
        ...options,
        outputControl,
        meanControl,
        keep,
        gradientKeep,
        layerScaling,
        activation,
      });
    }
    if (!layerScaling) return batchNorm(input, { ...options, training: false, activation });
    const rows = input.shape[0] ?? 0;
    return rmsNorm(batchNorm(input, { ...options, training: false }).reshape([rows, input.size / rows]), {
      epsilon,
      activation,
    }).reshape(input.shape);
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      keep: this.keep === 0.999 ? undefined : this.keep,
      gradientKeep: this.gradientKeep === 0.99 ? undefined : this.gradientKeep,
      guard: this.guard === 'layer-scaling' ? undefined : this.guard,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}
