import { checkOptions, optionNames } from '../../options';
import { SwitchableNorm, type SwitchableNormOptions } from '../layers/switchable-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `switchable`; see {@link SwitchableNormOptions}. */
export type SwitchableNormalizationOptions = Pick<SwitchableNormOptions, 'epsilon' | 'momentum' | 'affine'>;

const switchableOptions = optionNames<SwitchableNormalizationOptions>({
  epsilon: true,
  momentum: true,
  affine: 'boolean',
});

/** Switchable Normalization (Luo et al. 2018) in front of every activation. */
export function switchable(options: SwitchableNormalizationOptions = {}): Normalization {
  checkOptions('normalization switchable', options, switchableOptions);
  return {
    name: 'switchable',
    mixesSamples: true,
    bias: false,
    preActivation(site) {
      const { channels } = site;
      return fuseActivation(site, (activation) => new SwitchableNorm({ ...options, channels, activation }));
    },
  };
}
