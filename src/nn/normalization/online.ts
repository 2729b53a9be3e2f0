import { checkOptions, optionNames } from '../../options';
import { OnlineNorm, type OnlineNormOptions } from '../layers/online-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `online`; see {@link OnlineNormOptions}. */
export type OnlineNormalizationOptions = Pick<
  OnlineNormOptions,
  'keep' | 'gradientKeep' | 'guard' | 'epsilon' | 'affine'
>;

const onlineOptions = optionNames<OnlineNormalizationOptions>({
  keep: true,
  gradientKeep: true,
  guard: true,
  epsilon: true,
  affine: 'boolean',
});

/** Online Normalization (Chiley et al. 2019) in front of every activation. */
export function online(options: OnlineNormalizationOptions = {}): Normalization {
  checkOptions('normalization online', options, onlineOptions);
  return {
    name: 'online',
    mixesSamples: true,
    bias: false,
    preActivation(site) {
      return fuseActivation(site, (activation) => new OnlineNorm({ ...options, channels: site.channels, activation }));
    },
  };
}
