import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { groupNorm } from '../../tensor/operations/normalization';
import { checkInteger, formatOptions } from '../check';
import { NormalizationLayer, type NormalizationLayerOptions, normalizationLayerNames } from './affine';

/** Options of {@link GroupNorm}. */
export interface GroupNormOptions extends NormalizationLayerOptions {
  /** Number of groups; must divide `channels`. Default: {@link defaultGroups}. */
  readonly groups?: number;
}

/**
 * The number of groups used when none is given: the largest divisor of `channels` that is at most 32 (the value of the paper) and
 * leaves at least four channels to a group, so that narrow layers do not fall back to instance normalization. 16 channels make 4
 * groups, 64 make 16, 128 and more make 32.
 *
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function defaultGroups(channels: number): number {
  checkInteger('defaultGroups', 'channels', channels, 1);
  let groups = Math.max(1, Math.min(32, Math.floor(channels / 4)));
  while (channels % groups !== 0) groups -= 1;
  return groups;
}

const groupNormOptions = optionNames<GroupNormOptions>({ ...normalizationLayerNames, groups: true });

/**
 * Group normalization (Wu and He 2018): each sample is brought to mean 0 and variance 1 within each group of channels, over all
 * positions, then scaled and shifted for each channel.
 *
 * Input `[batch, ..., channels]`, output of the same shape. No sample depends on another, and training equals evaluation.
 */
export class GroupNorm extends NormalizationLayer {
  /** Number of groups. */
  readonly groups: number;

  constructor(options: GroupNormOptions) {
    checkOptions('GroupNorm', options, groupNormOptions);
    super('GroupNorm', options);
    this.groups = checkInteger('GroupNorm', 'groups', options.groups ?? defaultGroups(this.channels), 1);
    if (this.channels % this.groups !== 0) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `GroupNorm: ${this.channels} channels do not split into ${this.groups} groups; groups must divide channels`,
      );
    }
  }

  override forward(input: Tensor): Tensor {
    return groupNorm(input, {
      groups: this.groups,
      gamma: this.gamma,
      beta: this.beta,
      epsilon: this.epsilon,
      activation: this.activation,
    });
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      groups: this.groups,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}
