import { checkOptions, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { rmsNorm } from '../../tensor/operations/normalization';
import { formatOptions } from '../check';
import { NormalizationLayer, type NormalizationLayerOptions, normalizationLayerNames } from './affine';

/** Options of {@link RMSNorm}. */
export type RMSNormOptions = NormalizationLayerOptions;

const rmsNormOptions = optionNames<RMSNormOptions>(normalizationLayerNames);

/**
 * Root-mean-square normalization (Zhang and Sennrich 2019): each position is divided by the root of the mean square over its
 * channels, without centring, then scaled for each channel. It has a scale `gamma` and no shift.
 *
 * Input `[batch, ..., channels]`, output of the same shape. No sample depends on another, and training equals evaluation.
 */
export class RMSNorm extends NormalizationLayer {
  constructor(options: RMSNormOptions) {
    checkOptions('RMSNorm', options, rmsNormOptions);
    super('RMSNorm', options, false);
  }

  override forward(input: Tensor): Tensor {
    return rmsNorm(input, { gamma: this.gamma, epsilon: this.epsilon, activation: this.activation });
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}
