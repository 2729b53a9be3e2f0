import { checkOptions, optionNames } from '../../options';
import { checkChoice } from '../check';
import {
  FilterResponseNorm,
  type FilterResponseNormOptions,
  ThresholdedLinearUnit,
} from '../layers/filter-response-norm';
import { fuseActivation } from './fusion';
import type { Normalization } from './normalization';

/** Options of the method `frn`. */
export interface FilterResponseNormalizationOptions
  extends Pick<
    FilterResponseNormOptions,
    'epsilon' | 'affine' | 'epsilonForm' | 'epsilonLearningRateScale' | 'affineThreshold'
  > {
  /**
   * Which layers add a learned part to epsilon: `'features'` (values without positions, as in the paper), or `'all'`, or `'none'`.
   * Default `'features'`.
   */
  readonly learnedEpsilon?: 'features' | 'all' | 'none';
  /**
   * At the end of a residual block of ResNet v1, whether the norm keeps its threshold before the shortcut is added, with another
   * threshold after it, as the public implementations do; otherwise there is only the one after it. The paper has no such block.
   * Default `true`.
   */
  readonly thresholdBeforeSum?: boolean;
}

const frnOptions = optionNames<FilterResponseNormalizationOptions>({
  epsilon: true,
  affine: 'boolean',
  epsilonForm: true,
  epsilonLearningRateScale: true,
  affineThreshold: 'boolean',
  learnedEpsilon: true,
  thresholdBeforeSum: 'boolean',
});

/**
 * Filter Response Normalization (Singh and Krishnan 2020): every `norm, ReLU` becomes FRN with a Thresholded Linear Unit. In a model
 * that asks for an activation other than ReLU, FRN is used as a norm alone, in front of that activation.
 *
 * The paper recommends to start training with a learning rate that rises from 0.
 */
export function frn(options: FilterResponseNormalizationOptions = {}): Normalization {
  checkOptions('normalization frn', options, frnOptions);
  const { learnedEpsilon = 'features', thresholdBeforeSum = true, affineThreshold = false, ...layerOptions } = options;
  checkChoice('normalization frn', 'learnedEpsilon', learnedEpsilon, ['features', 'all', 'none']);
  return {
    name: 'frn',
    mixesSamples: false,
    bias: false,
    preActivation(site) {
      const common = {
        ...layerOptions,
        channels: site.channels,
        learnedEpsilon: learnedEpsilon === 'all' || (learnedEpsilon === 'features' && !site.spatial),
      };
      if (site.activation !== 'relu') {
        return fuseActivation(
          site,
          (activation) => new FilterResponseNorm({ ...common, activation, threshold: false }),
        );
      }
      if (site.sum) {
        const threshold = thresholdBeforeSum;
        return {
          layer: new FilterResponseNorm({ ...common, threshold, affineThreshold: threshold && affineThreshold }),
        };
      }
      return {
        layer: new FilterResponseNorm({ ...common, threshold: true, affineThreshold }),
        appliesActivation: true,
      };
    },
    activation(site) {
      return site.activation === 'relu'
        ? new ThresholdedLinearUnit({ channels: site.channels, affine: affineThreshold })
        : undefined;
    },
  };
}
