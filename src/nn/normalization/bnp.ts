import { checkOptions, optionNames } from '../../options';
import { group } from './group';
import type { Normalization } from './normalization';
import {
  BatchNormPreconditioning,
  ObservedConv2d,
  ObservedLinear,
  type PreconditioningOptions,
  preconditioningNames,
} from './preconditioning';

/** Options of the method `bnp`. */
export interface BnpOptions extends PreconditioningOptions {
  /** Whether group normalization stands in front of every activation, too: what the paper does in residual networks. Default `false`. */
  readonly groupNorm?: boolean;
}

const bnpOptions = optionNames<BnpOptions>({ ...preconditioningNames, groupNorm: 'boolean' });

/**
 * Batch normalization preconditioning (Lange, Helfrich and Ye 2022): the network stays as it is, and the gradient of every weight layer is
 * changed as if the layer's input were normalized with its running statistics, before the optimizer sees it. Works at any batch size,
 * also 1. The running statistics are saved with the model; {@link gradientTransformOf} gives what has to be applied in each step.
 */
export function bnp(options: BnpOptions = {}): Normalization {
  checkOptions('normalization bnp', options, bnpOptions);
  const { groupNorm = false, ...preconditioning } = options;
  const { preActivation } = group();
  return {
    name: 'bnp',
    mixesSamples: false,
    // The gradient of the bias carries the direction of the mean.
    bias: true,
    weight: (site) => (site.kind === 'conv2d' ? new ObservedConv2d(site.options) : new ObservedLinear(site.options)),
    ...(groupNorm && preActivation !== undefined ? { preActivation } : {}),
    gradient: (model) => new BatchNormPreconditioning(model, preconditioning),
  };
}
