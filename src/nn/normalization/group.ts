import { checkOptions, optionNames } from '../../options';
import { GroupNorm, type GroupNormOptions } from '../layers/group-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `group`; see {@link GroupNormOptions}. */
export type GroupNormalizationOptions = Pick<GroupNormOptions, 'groups' | 'epsilon' | 'affine'>;

/** For the methods that build on this one. */
export const groupOptions = optionNames<GroupNormalizationOptions>({ groups: true, epsilon: true, affine: 'boolean' });

/** Group normalization (Wu and He 2018) in front of every activation. Without `groups`, each layer takes its own `defaultGroups`. */
export function group(options: GroupNormalizationOptions = {}): Normalization {
  checkOptions('normalization group', options, groupOptions);
  return {
    name: 'group',
    mixesSamples: false,
    bias: false,
    preActivation(site) {
      return fuseActivation(site, (activation) => new GroupNorm({ ...options, channels: site.channels, activation }));
    },
  };
}
