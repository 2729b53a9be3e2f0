import { checkOptions, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { layerNorm } from '../../tensor/operations/normalization';
import { checkChoice, formatOptions } from '../check';
import { NormalizationLayer, type NormalizationLayerOptions, normalizationLayerNames } from './affine';

/** Options of {@link LayerNorm}. */
export interface LayerNormOptions extends NormalizationLayerOptions {
  /**
   * What the statistics are taken over: all positions and channels of a `'sample'` (group normalization with one group, the
   * form meant for convolutional networks by Wu and He), or the `'channels'` of each position (the form of transformers).
   * Default `'sample'`. The same thing for `[batch, channels]`.
   */
  readonly over?: 'sample' | 'channels';
}

const layerNormOptions = optionNames<LayerNormOptions>({ ...normalizationLayerNames, over: true });

/**
 * Layer normalization (Ba, Kiros and Hinton 2016): each sample, or each position of it, is brought to mean 0 and variance 1, then
 * scaled and shifted for each channel.
 *
 * Input `[batch, ..., channels]`, output of the same shape. No sample depends on another, and training equals evaluation.
 */
export class LayerNorm extends NormalizationLayer {
  /** What the statistics are taken over. */
  readonly over: 'sample' | 'channels';

  constructor(options: LayerNormOptions) {
    checkOptions('LayerNorm', options, layerNormOptions);
    super('LayerNorm', options);
    this.over = checkChoice('LayerNorm', 'over', options.over ?? 'sample', ['sample', 'channels']);
  }

  override forward(input: Tensor): Tensor {
    return layerNorm(input, {
      over: this.over,
      gamma: this.gamma,
      beta: this.beta,
      epsilon: this.epsilon,
      activation: this.activation,
    });
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      over: this.over === 'sample' ? undefined : this.over,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}
