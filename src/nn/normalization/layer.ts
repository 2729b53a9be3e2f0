import { checkOptions, optionNames } from '../../options';
import { LayerNorm, type LayerNormOptions } from '../layers/layer-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `layer`; see {@link LayerNormOptions}. */
export type LayerNormalizationOptions = Pick<LayerNormOptions, 'over' | 'epsilon' | 'affine'>;

const layerOptions = optionNames<LayerNormalizationOptions>({ over: true, epsilon: true, affine: 'boolean' });

/** Layer normalization (Ba, Kiros and Hinton 2016) in front of every activation, over whole samples unless `over` says otherwise. */
export function layer(options: LayerNormalizationOptions = {}): Normalization {
  checkOptions('normalization layer', options, layerOptions);
  return {
    name: 'layer',
    mixesSamples: false,
    bias: false,
    preActivation(site) {
      return fuseActivation(site, (activation) => new LayerNorm({ ...options, channels: site.channels, activation }));
    },
  };
}
