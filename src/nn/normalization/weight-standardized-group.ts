import { checkOptions } from '../../options';
import { WeightStandardizedConv2d } from '../layers/standardized';
import { type GroupNormalizationOptions, group, groupOptions } from './group';
import type { Normalization } from './normalization';

/**
 * Group normalization of convolutions with standardized weights (Qiao et al. 2019, "Micro-Batch Training with Batch-Channel
 * Normalization and Weight Standardization"). Linear layers and the classifier stay as they are;
 * binary layers take the signs of standardized weights.
 */
export function weightStandardizedGroup(options: GroupNormalizationOptions = {}): Normalization {
  checkOptions('normalization weight-standardized-group', options, groupOptions);
  return {
    ...group(options),
    name: 'weight-standardized-group',
    binaryWeight: { standardize: true, gain: false },
    weight: ({ kind, options: layer }) => (kind === 'conv2d' ? new WeightStandardizedConv2d(layer) : undefined),
  };
}
