import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { ones, type Tensor, zeros } from '../../tensor';
import { switchableNorm } from '../../tensor/operations/switchable-norm';
import { checkRange, formatOptions } from '../check';
import { ones as filledWithOnes } from '../init';
import { Parameter } from '../parameter';
import { NormalizationLayer, type NormalizationLayerOptions, normalizationLayerNames } from './affine';

/** Options of {@link SwitchableNorm}. */
export interface SwitchableNormOptions extends NormalizationLayerOptions {
  /** Weight of the new batch in the running statistics. Default 0.1. */
  readonly momentum?: number;
}

const switchableNormOptions = optionNames<SwitchableNormOptions>({ ...normalizationLayerNames, momentum: true });

/**
 * Switchable Normalization (Luo et al., "Differentiable Learning-to-Normalize via Switchable Normalization", 2018): mean and variance
 * are mixtures of those of instance, layer and batch normalization, in this order, with weights that are the softmax of learned
 * numbers, one triple for the mean and one for the variance.
 *
 * Input `[batch, ..., channels]`, output of the same shape. All variances are biased. In evaluation running statistics take the
 * place of the batch's; they do not move with a batch that has a NaN or an infinity.
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

  constructor(options: SwitchableNormOptions) {
    checkOptions('SwitchableNorm', options, switchableNormOptions);
    super('SwitchableNorm', options);
    this.momentum = checkRange('SwitchableNorm', 'momentum', options.momentum ?? 0.1, 0, 1);
    this.meanLogits = new Parameter(filledWithOnes([3]), { decay: false });
    this.varianceLogits = new Parameter(filledWithOnes([3]), { decay: false });
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
    const { gamma, beta, meanLogits, varianceLogits, runningMean, runningVariance } = this;
    const { epsilon, momentum, activation, training } = this;
    const statistics = { meanLogits, varianceLogits, runningMean, runningVariance, momentum, training };
    return switchableNorm(input, { gamma, beta, epsilon, activation, ...statistics });
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}
