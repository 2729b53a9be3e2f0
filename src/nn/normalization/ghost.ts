import { checkOptions, optionNames } from '../../options';
import { GhostBatchNorm, type GhostBatchNormOptions } from '../layers/ghost-batch-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `ghost`; see {@link GhostBatchNormOptions}. */
export type GhostNormalizationOptions = Pick<GhostBatchNormOptions, 'groupSize' | 'epsilon' | 'momentum' | 'affine'>;

const ghostOptions = optionNames<GhostNormalizationOptions>({
  groupSize: true,
  epsilon: true,
  momentum: true,
  affine: 'boolean',
});

/** Ghost (sub-batch) batch normalization (Hoffer et al. 2017) in front of every activation. */
export function ghost(options: GhostNormalizationOptions = {}): Normalization {
  checkOptions('normalization ghost', options, ghostOptions);
  return {
    name: 'ghost',
    mixesSamples: true,
    bias: false,
    preActivation(site) {
      const { channels, activation } = site;
      if (site.sum && activation !== 'prelu') {
        const layer = new GhostBatchNorm({ ...options, channels, activation });
        return { layer, appliesActivation: true, addsShortcut: true };
      }
      return fuseActivation(site, (fused) => new GhostBatchNorm({ ...options, channels, activation: fused }));
    },
  };
}
