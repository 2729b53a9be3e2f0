import { checkNames } from '../check';
import { RMSNorm, type RMSNormOptions } from '../layers/rms-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `rms`; see {@link RMSNormOptions}. */
export type RMSNormalizationOptions = Pick<RMSNormOptions, 'epsilon' | 'affine'>;

/** Root-mean-square normalization (Zhang and Sennrich 2019) over the channels of each position, in front of every activation. */
export function rms(options: RMSNormalizationOptions = {}): Normalization {
  checkNames('normalization rms', options, ['epsilon', 'affine']);
  return {
    name: 'rms',
    mixesSamples: false,
    bias: false,
    preActivation(site) {
      return fuseActivation(site, (activation) => new RMSNorm({ ...options, channels: site.channels, activation }));
    },
  };
}
