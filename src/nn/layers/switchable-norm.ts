import { EvenkeelError } from '../../errors';
import { ones, type Tensor, zeros } from '../../tensor';
import { checkRange, formatOptions } from '../check';
import { ones as filledWithOnes } from '../init';
import type { Module } from '../module';
import { Parameter } from '../parameter';
import { createActivation } from './activations';
import { NormalizationLayer, type NormalizationLayerOptions } from './affine';
import { moveRunning } from './running';

/** Options of {@link SwitchableNorm}. */
export interface SwitchableNormOptions extends NormalizationLayerOptions {
  /** Weight of the new batch in the running statistics. Default 0.1. */
  readonly momentum?: number;
}

/** Mean and variance, of shapes that broadcast to `[batch, 1, channels]`. */
interface Moments {
  readonly mean: Tensor;
  readonly variance: Tensor;
}

/**
 * Switchable Normalization (Luo et al., "Differentiable Learning-to-Normalize via Switchable Normalization", 2018): mean and variance
 * are mixtures of those of instance, layer and batch normalization, in this order, with weights that are the softmax of learned
 * numbers, one triple for the mean and one for the variance.
 *
 * Input `[batch, ..., channels]`, output of the same shape. All variances are biased. In evaluation running statistics take the
 * place of the batch's; they do not move with a batch that has a NaN or an infinity. The sum of squares is formed in float32, so
 * inputs must stay below 1e18.
 */
export class SwitchableNorm extends NormalizationLayer {
  /** What the weights of the three means are the softmax of, `[3]`, first 1, without weight decay. */
  readonly meanLogits: Parameter;
  /** What the weights of the three variances are the softmax of, `[3]`, first 1, without weight decay. */
  readonly varianceLogits: Parameter;
  /** Running mean `[channels]`, first 0. */
  readonly runningMean: Tensor;
  /** Running biased variance `[channels]`, first 1. */
  readonly runningVariance: Tensor;
  /** Weight of the new batch in the running statistics. */
  readonly momentum: number;
  /** The activation that follows. */
  readonly activate: Module;

  constructor(options: SwitchableNormOptions) {
    super('SwitchableNorm', options);
    this.momentum = checkRange('SwitchableNorm', 'momentum', options.momentum ?? 0.1, 0, 1);
    this.meanLogits = new Parameter(filledWithOnes([3]), { decay: false });
    this.varianceLogits = new Parameter(filledWithOnes([3]), { decay: false });
    this.activate = createActivation(this.activation, this.channels);
    this.runningMean = this.buffer('runningMean', zeros([this.channels]));
    this.runningVariance = this.buffer('runningVariance', ones([this.channels]));
  }

  override forward(input: Tensor): Tensor {
    if (input.rank < 2 || input.shape.at(-1) !== this.channels) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `SwitchableNorm: expected an input [batch, …, ${this.channels}], got shape [${input.shape.join(', ')}]`,
      );
    }
    const flat = input.reshape([input.shape[0] ?? 0, -1, this.channels]);
    const own = momentsOf(flat);
    const all = [own, pool(own, 2), this.training ? this.#measured(own) : this.#running()];
    const mean = mixture(
      this.meanLogits,
      all.map((moments) => moments.mean),
    );
    const variance = mixture(
      this.varianceLogits,
      all.map((moments) => moments.variance),
    );
    const normalized = flat.sub(mean).mul(variance.add(this.epsilon).sqrt().reciprocal());
    const { gamma, beta } = this;
    const scaled = gamma === undefined || beta === undefined ? normalized : normalized.mul(gamma).add(beta);
    return this.activate.call(scaled.reshape(input.shape));
  }

  /** The batch's moments, which also move the running ones. */
  #measured(own: Moments): Moments {
    const batch = pool(own, 0);
    moveRunning(this.momentum, [
      [this.runningMean, batch.mean.reshape([this.channels])],
      [this.runningVariance, batch.variance.reshape([this.channels])],
    ]);
    return batch;
  }

  #running(): Moments {
    const shape = [1, 1, this.channels];
    return { mean: this.runningMean.reshape(shape), variance: this.runningVariance.reshape(shape) };
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}

/** Moments of each sample and channel, over the positions of `[batch, positions, channels]`. */
function momentsOf(input: Tensor): Moments {
  const mean = input.mean({ axes: 1, keepDims: true });
  return { mean, variance: input.sub(mean).square().mean({ axes: 1, keepDims: true }) };
}

/**
 * Moments of the union along an axis, all parts being of the same size: the mean variance within plus the variance of the means. The
 * shorter form with squared means would lose the variance of inputs far from 0.
 */
function pool(parts: Moments, axis: number): Moments {
  const options = { axes: axis, keepDims: true };
  const mean = parts.mean.mean(options);
  return { mean, variance: parts.variance.mean(options).add(parts.mean.sub(mean).square().mean(options)) };
}

/** The sum of the values with the softmax of the logits as weights. */
function mixture(logits: Tensor, values: readonly Tensor[]): Tensor {
  const weights = logits.softmax();
  return values
    .map((value, index) => value.mul(weights.slice({ starts: [index], ends: [index + 1] })))
    .reduce((sum, term) => sum.add(term));
}
