import { checkOptions, optionNames } from '../../options';
import { RMSNorm, type RMSNormOptions } from '../layers/rms-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `rms`; see {@link RMSNormOptions}. */
export type RMSNormalizationOptions = Pick<RMSNormOptions, 'epsilon' | 'affine'>;

const rmsOptions = optionNames<RMSNormalizationOptions>({ epsilon: true, affine: 'boolean' });

/** Root-mean-square normalization (Zhang and Sennrich 2019) over the channels of each position, in front of every activation. */
export function rms(options: RMSNormalizationOptions = {}): Normalization {
  checkOptions('normalization rms', options, rmsOptions);
  return {
    name: 'rms',
    mixesSamples: false,
    bias: false,
    preActivation(site) {
      return fuseActivation(site, (activation) => new RMSNorm({ ...options, channels: site.channels, activation }));
    },
  };
}
