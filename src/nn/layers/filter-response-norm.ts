import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { addThreshold, type Tensor } from '../../tensor';
import { filterResponseNorm } from '../../tensor/operations/normalization';
import { checkChoice, checkInteger, checkRange, formatOptions } from '../check';
import { constant, zeros } from '../init';
import { Module } from '../module';
import { Parameter } from '../parameter';
import {
  NormalizationLayer,
  type NormalizationLayerOptions,
  normalizationLayerNames,
  type ResidualPair,
} from './affine';

/** Options of {@link FilterResponseNorm}. */
export interface FilterResponseNormOptions extends NormalizationLayerOptions {
  /** Fixed part of the number added to the mean square. Default 1e-6. */
  readonly epsilon?: number;
  /**
   * Whether a learned part is added to `epsilon`, first 1e-4. For layers whose maps are 1×1 pixels, where a small fixed epsilon turns
   * the layer into the sign of its input. Default `false`.
   */
  readonly learnedEpsilon?: boolean;
  /**
   * How the learned part becomes positive: by its absolute value, as in the paper, or by its exponential, which keeps its gradient
   * small where the learning rate is large. Default `'absolute'`.
   */
  readonly epsilonForm?: 'absolute' | 'exponential';
  /**
   * What the learned part's learning rate is multiplied with. Its gradient can be thousands of times that of other parameters in the
   * absolute form, and is small in the exponential one. Default 1e-3 for `'absolute'`, 1 for `'exponential'`.
   */
  readonly epsilonLearningRateScale?: number;
  /** Whether the layer applies its own {@link ThresholdedLinearUnit}, in the same pass. Excludes `activation`. Default `true`. */
  readonly threshold?: boolean;
  /** Whether the threshold has a learned slope, too: `max(y, alpha y + tau)`; in a pass of its own. Default `false`. */
  readonly affineThreshold?: boolean;
}

const filterResponseNormOptions = optionNames<FilterResponseNormOptions>({
  ...normalizationLayerNames,
  learnedEpsilon: 'boolean',
  epsilonForm: true,
  epsilonLearningRateScale: true,
  threshold: 'boolean',
  affineThreshold: 'boolean',
});

/**
 * Filter Response Normalization with its Thresholded Linear Unit (Singh and Krishnan 2020, section 3).
 *
 * For each sample and channel, `x / √(mean(x²) + ε)` over the positions, without centring, then `gamma · … + beta`, then
 * `max(…, tau)`. Input `[batch, ..., channels]`, output of the same shape. No sample depends on another, and training equals
 * evaluation. At a tie of the maximum the gradient goes to the normalized value.
 */
export class FilterResponseNorm extends NormalizationLayer {
  /** Learned threshold `[channels]`, first 0, without weight decay; `undefined` without threshold, or where `unit` has it. */
  readonly tau: Parameter | undefined;
  /** The thresholded linear unit with a slope; `undefined` unless asked for. */
  readonly unit: ThresholdedLinearUnit | undefined;
  /** Learned part of epsilon `[1]` (or its logarithm), without weight decay; `undefined` unless asked for. */
  readonly epsilonOffset: Parameter | undefined;
  /** How the learned part of epsilon becomes positive. */
  readonly epsilonForm: 'absolute' | 'exponential';

  constructor(options: FilterResponseNormOptions) {
    checkOptions('FilterResponseNorm', options, filterResponseNormOptions);
    super('FilterResponseNorm', { ...options, epsilon: options.epsilon ?? 1e-6 });
    const threshold = options.threshold ?? this.activation === 'none';
    if (threshold && this.activation !== 'none') {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `FilterResponseNorm: the threshold is its activation; give threshold: false to use '${this.activation}'`,
      );
    }
    const affine = options.affineThreshold ?? false;
    if (affine && !threshold) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        'FilterResponseNorm: affineThreshold is a kind of threshold, and threshold is false; leave one of them out',
      );
    }
    this.unit = affine ? new ThresholdedLinearUnit({ channels: this.channels, affine: true }) : undefined;
    this.tau = threshold && !affine ? new Parameter(zeros([this.channels]), { decay: false }) : undefined;
    const { epsilonForm = 'absolute' } = options;
    this.epsilonForm = checkChoice('FilterResponseNorm', 'epsilonForm', epsilonForm, ['absolute', 'exponential']);
    const offset = this.epsilonForm === 'exponential' ? Math.log(1e-4) : 1e-4;
    const learningRateScale = checkRange(
      'FilterResponseNorm',
      'epsilonLearningRateScale',
      options.epsilonLearningRateScale ?? (this.epsilonForm === 'exponential' ? 1 : 1e-3),
      Number.MIN_VALUE,
      Number.MAX_VALUE,
    );
    this.epsilonOffset =
      (options.learnedEpsilon ?? false)
        ? new Parameter(constant(offset)([1]), { decay: false, learningRateScale })
        : undefined;
  }

  override forward(input: Tensor): Tensor {
    const output = filterResponseNorm(input, {
      gamma: this.gamma,
      beta: this.beta,
      tau: this.tau,
      epsilon: this.epsilon,
      learnedEpsilon: this.epsilonOffset,
      epsilonForm: this.epsilonForm,
      activation: this.activation,
    });
    return this.unit === undefined ? output : this.unit.call(output);
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      learnedEpsilon: this.epsilonOffset === undefined ? undefined : true,
      threshold: this.tau === undefined && this.unit === undefined ? false : undefined,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}

/** Options of {@link ThresholdedLinearUnit}. */
export interface ThresholdedLinearUnitOptions {
  /** Channels of the input. */
  readonly channels: number;
  /** Whether there is a learned slope alpha: `max(x, alpha x + tau)`. Default `false`. */
  readonly affine?: boolean;
}

const thresholdedLinearUnitOptions = optionNames<ThresholdedLinearUnitOptions>({ channels: true, affine: 'boolean' });

/**
 * `max(x, tau)`, or `max(x, alpha x + tau)`, with a learned threshold for each channel (Singh and Krishnan 2020, section 3.2). With `tau = 0`, its first
 * value, it is ReLU. At a tie the gradient goes to `x`.
 *
 * Called with a pair of tensors of one shape, a branch and its shortcut, it takes their sum for `x`, in one pass unless it has a slope.
 */
export class ThresholdedLinearUnit extends Module<Tensor | ResidualPair> {
  /** Learned threshold `[channels]`, without weight decay. */
  readonly tau: Parameter;
  /** Learned slope `[channels]`, first 0, without weight decay; `undefined` unless asked for. */
  readonly alpha: Parameter | undefined;

  constructor(options: ThresholdedLinearUnitOptions) {
    super();
    checkOptions('ThresholdedLinearUnit', options, thresholdedLinearUnitOptions);
    const channels = checkInteger('ThresholdedLinearUnit', 'channels', options.channels, 1);
    this.tau = new Parameter(zeros([channels]), { decay: false });
    this.alpha = (options.affine ?? false) ? new Parameter(zeros([channels]), { decay: false }) : undefined;
  }

  override forward(input: Tensor | ResidualPair): Tensor {
    if (!isPair(input)) return input.maximum(this.alpha === undefined ? this.tau : input.mul(this.alpha).add(this.tau));
    const [branch, shortcut] = input;
    return this.alpha === undefined ? addThreshold(branch, shortcut, this.tau) : this.forward(branch.add(shortcut));
  }

  override describe(): string {
    return formatOptions({ channels: this.tau.size, affine: this.alpha === undefined ? undefined : true });
  }
}

function isPair(input: Tensor | ResidualPair): input is ResidualPair {
  return Array.isArray(input);
}
