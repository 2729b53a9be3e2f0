import { checkOptions, type OptionNames, optionNames } from '../../options';
import { ones, Tensor, zeros } from '../../tensor';
import { batchNorm } from '../../tensor/operations/normalization';
import { checkRange, formatOptions } from '../check';
import {
  NormalizationLayer,
  type NormalizationLayerOptions,
  normalizationLayerNames,
  type ResidualPair,
} from './affine';

/** Options of {@link BatchNorm}. */
export interface BatchNormOptions extends NormalizationLayerOptions {
  /** Weight of the new batch in the running statistics: `running ← (1 − momentum) · running + momentum · batch`. Default 0.1. */
  readonly momentum?: number;
}

/** For the layers that extend this one. */
export const batchNormNames: OptionNames<BatchNormOptions> = { ...normalizationLayerNames, momentum: true };
const batchNormOptions = optionNames<BatchNormOptions>(batchNormNames);

/**
 * Batch normalization (Ioffe and Szegedy 2015): each channel is brought to mean 0 and variance 1 over the batch and all
 * positions, then scaled and shifted.
 *
 * Input `[batch, ..., channels]`, output of the same shape. Training uses the batch's own statistics (the biased variance) and
 * moves the running statistics towards them (with the unbiased variance, as PyTorch does); evaluation uses the running statistics.
 *
 * Instead of one tensor it takes a pair `[x, shortcut]` and returns `activation(norm(x) + shortcut)` in the same pass: the end of
 * a residual block.
 */
export class BatchNorm extends NormalizationLayer<Tensor | ResidualPair> {
  /** Running mean `[channels]`, first 0. */
  readonly runningMean: Tensor;
  /** Running variance `[channels]`, first 1. */
  readonly runningVariance: Tensor;
  /** Weight of the new batch in the running statistics. */
  readonly momentum: number;

  constructor(options: BatchNormOptions) {
    checkOptions('BatchNorm', options, batchNormOptions);
    super('BatchNorm', options);
    this.momentum = checkRange('BatchNorm', 'momentum', options.momentum ?? 0.1, 0, 1);
    this.runningMean = this.buffer('runningMean', zeros([this.channels]));
    this.runningVariance = this.buffer('runningVariance', ones([this.channels]));
  }

  override forward(input: Tensor | ResidualPair): Tensor {
    const [x, residual] = input instanceof Tensor ? [input, undefined] : input;
    return batchNorm(x, {
      gamma: this.gamma,
      beta: this.beta,
      runningMean: this.runningMean,
      runningVariance: this.runningVariance,
      training: this.training,
      momentum: this.momentum,
      epsilon: this.epsilon,
      activation: this.activation,
      residual,
    });
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      epsilon: this.epsilon === 1e-5 ? undefined : this.epsilon,
      momentum: this.momentum === 0.1 ? undefined : this.momentum,
      affine: this.gamma === undefined ? false : undefined,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}
