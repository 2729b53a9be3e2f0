import { checkNames } from '../check';
import { LayerNorm, type LayerNormOptions } from '../layers/layer-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `layer`; see {@link LayerNormOptions}. */
export type LayerNormalizationOptions = Pick<LayerNormOptions, 'over' | 'epsilon' | 'affine'>;

/** Layer normalization (Ba, Kiros and Hinton 2016) in front of every activation, over whole samples unless `over` says otherwise. */
export function layer(options: LayerNormalizationOptions = {}): Normalization {
  checkNames('normalization layer', options, ['over', 'epsilon', 'affine']);
  return {
    name: 'layer',
    mixesSamples: false,
    bias: false,
    preActivation(site) {
      return fuseActivation(site, (activation) => new LayerNorm({ ...options, channels: site.channels, activation }));
    },
  };
}
