import { checkOptions, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { instanceNorm } from '../../tensor/operations/normalization';
import { formatOptions } from '../check';
import { NormalizationLayer, type NormalizationLayerOptions, normalizationLayerNames } from './affine';

/** Options of {@link InstanceNorm}. */
export type InstanceNormOptions = NormalizationLayerOptions;

const instanceNormOptions = optionNames<InstanceNormOptions>(normalizationLayerNames);

/**
 * Instance normalization (Ulyanov, Vedaldi and Lempitsky 2016): each channel of each sample is brought to mean 0 and variance 1
 * over its positions, then scaled and shifted.
 *
 * Input `[batch, ..., channels]`, output of the same shape. No sample depends on another, and training equals evaluation. A channel
 * with a single position has no variance and comes out as `beta`.
 */
export class InstanceNorm extends NormalizationLayer {
  constructor(options: InstanceNormOptions) {
    checkOptions('InstanceNorm', options, instanceNormOptions);
    super('InstanceNorm', options);
  }

  override forward(input: Tensor): Tensor {
    return instanceNorm(input, {
      gamma: this.gamma,
      beta: this.beta,
      epsilon: this.epsilon,
      activation: this.activation,
    });
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}
