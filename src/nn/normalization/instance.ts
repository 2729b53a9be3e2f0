import { checkOptions, optionNames } from '../../options';
import { InstanceNorm, type InstanceNormOptions } from '../layers/instance-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `instance`; see {@link InstanceNormOptions}. */
export type InstanceNormalizationOptions = Pick<InstanceNormOptions, 'epsilon' | 'affine'>;

const instanceOptions = optionNames<InstanceNormalizationOptions>({ epsilon: true, affine: 'boolean' });

/**
 * Instance normalization (Ulyanov, Vedaldi and Lempitsky 2016) in front of every activation of a map. Features without positions
 * are left as they are: each is a single value, whose instance statistics would turn it into a constant.
 */
export function instance(options: InstanceNormalizationOptions = {}): Normalization {
  checkOptions('normalization instance', options, instanceOptions);
  return {
    name: 'instance',
    mixesSamples: false,
    bias: false,
    preActivation(site) {
      if (!site.spatial) return undefined;
      return fuseActivation(
        site,
        (activation) => new InstanceNorm({ ...options, channels: site.channels, activation }),
      );
    },
  };
}
