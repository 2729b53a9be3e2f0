import { checkOptions, optionNames } from '../../options';
import { BatchRenorm, type BatchRenormOptions } from '../layers/batch-renorm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `batch-renorm`; see {@link BatchRenormOptions}. */
export type BatchRenormalizationOptions = Omit<BatchRenormOptions, 'channels' | 'activation' | 'initialScale'>;

const batchRenormOptions = optionNames<BatchRenormalizationOptions>({
  epsilon: true,
  momentum: true,
  affine: 'boolean',
  maximumScale: true,
  maximumShift: true,
  plainSteps: true,
  scaleSteps: true,
  shiftSteps: true,
});

/** Batch Renormalization (Ioffe 2017) in front of every activation. */
export function batchRenorm(options: BatchRenormalizationOptions = {}): Normalization {
  checkOptions('normalization batch-renorm', options, batchRenormOptions);
  return {
    name: 'batch-renorm',
    mixesSamples: true,
    bias: false,
    preActivation(site) {
      return fuseActivation(site, (activation) => new BatchRenorm({ ...options, channels: site.channels, activation }));
    },
  };
}
