import { checkNames } from '../check';
import { BatchRenorm, type BatchRenormOptions } from '../layers/batch-renorm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `batch-renorm`; see {@link BatchRenormOptions}. */
export type BatchRenormalizationOptions = Omit<BatchRenormOptions, 'channels' | 'activation' | 'initialScale'>;

/** Batch Renormalization (Ioffe 2017) in front of every activation. */
export function batchRenorm(options: BatchRenormalizationOptions = {}): Normalization {
  checkNames('normalization batch-renorm', options, [
    'epsilon',
    'momentum',
    'affine',
    'maximumScale',
    'maximumShift',
    'plainSteps',
    'scaleSteps',
    'shiftSteps',
  ]);
  return {
    name: 'batch-renorm',
    mixesSamples: true,
    bias: false,
    preActivation(site) {
      return fuseActivation(site, (activation) => new BatchRenorm({ ...options, channels: site.channels, activation }));
    },
  };
}
