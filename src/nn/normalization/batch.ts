import { checkOptions, optionNames } from '../../options';
import { BatchNorm, type BatchNormOptions } from '../layers/batch-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `batch`; see {@link BatchNormOptions}. */
export type BatchNormalizationOptions = Pick<BatchNormOptions, 'epsilon' | 'momentum' | 'affine'>;

const batchOptions = optionNames<BatchNormalizationOptions>({ epsilon: true, momentum: true, affine: 'boolean' });

/** Batch normalization (Ioffe and Szegedy 2015) in front of every activation. */
export function batch(options: BatchNormalizationOptions = {}): Normalization {
  checkOptions('normalization batch', options, batchOptions);
  return {
    name: 'batch',
    mixesSamples: true,
    bias: false,
    preActivation(site) {
      const { channels, activation } = site;
      if (site.sum && activation !== 'prelu') {
        const layer = new BatchNorm({ ...options, channels, activation });
        return { layer, appliesActivation: true, addsShortcut: true };
      }
      return fuseActivation(site, (fused) => new BatchNorm({ ...options, channels, activation: fused }));
    },
  };
}
