import { checkNames } from '../check';
import { OnlineNorm, type OnlineNormOptions } from '../layers/online-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `online`; see {@link OnlineNormOptions}. */
export type OnlineNormalizationOptions = Pick<
  OnlineNormOptions,
  'keep' | 'gradientKeep' | 'guard' | 'epsilon' | 'affine'
>;

/** Online Normalization (Chiley et al. 2019) in front of every activation. */
export function online(options: OnlineNormalizationOptions = {}): Normalization {
  checkNames('normalization online', options, ['keep', 'gradientKeep', 'guard', 'epsilon', 'affine']);
  return {
    name: 'online',
    mixesSamples: true,
    bias: false,
    preActivation(site) {
      return fuseActivation(site, (activation) => new OnlineNorm({ ...options, channels: site.channels, activation }));
    },
  };
}
