import { EvenkeelError } from '../../errors';
import type { Tensor } from '../../tensor';
import { filterResponseNorm } from '../../tensor/operations/normalization';
import { checkInteger, formatOptions } from '../check';
import { constant, zeros } from '../init';
import { Module } from '../module';
import { Parameter } from '../parameter';
import { NormalizationLayer, type NormalizationLayerOptions } from './affine';

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
  /** Whether the layer applies its own {@link ThresholdedLinearUnit}, in the same pass. Excludes `activation`. Default `true`. */
  readonly threshold?: boolean;
}

/**
 * Filter Response Normalization with its Thresholded Linear Unit (Singh and Krishnan 2020, section 3).
 *
 * For each sample and channel, `x / √(mean(x²) + ε)` over the positions, without centring, then `gamma · … + beta`, then
 * `max(…, tau)`. Input `[batch, ..., channels]`, output of the same shape. No sample depends on another, and training equals
 * evaluation. At a tie of the maximum the gradient goes to the normalized value.
 */
export class FilterResponseNorm extends NormalizationLayer {
  /** Learned threshold `[channels]`, first 0, without weight decay; `undefined` without threshold. */
  readonly tau: Parameter | undefined;
  /** Learned part of epsilon `[1]` (or its logarithm), without weight decay; `undefined` unless asked for. */
  readonly epsilonOffset: Parameter | undefined;
  /** How the learned part of epsilon becomes positive. */
  readonly epsilonForm: 'absolute' | 'exponential';

  constructor(options: FilterResponseNormOptions) {
    super('FilterResponseNorm', { ...options, epsilon: options.epsilon ?? 1e-6 });
    const threshold = options.threshold ?? this.activation === 'none';
    if (threshold && this.activation !== 'none') {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `FilterResponseNorm: the threshold is its activation; give threshold: false to use '${this.activation}'`,
      );
    }
    this.tau = threshold ? new Parameter(zeros([this.channels]), { decay: false }) : undefined;
    this.epsilonForm = options.epsilonForm ?? 'absolute';
    const offset = this.epsilonForm === 'exponential' ? Math.log(1e-4) : 1e-4;
    this.epsilonOffset =
      (options.learnedEpsilon ?? false) ? new Parameter(constant(offset)([1]), { decay: false }) : undefined;
  }

  override forward(input: Tensor): Tensor {
    return filterResponseNorm(input, {
      gamma: this.gamma,
      beta: this.beta,
      tau: this.tau,
      epsilon: this.epsilon,
      learnedEpsilon: this.epsilonOffset,
      epsilonForm: this.epsilonForm,
      activation: this.activation,
    });
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      learnedEpsilon: this.epsilonOffset === undefined ? undefined : true,
      threshold: this.tau === undefined ? false : undefined,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}

/** Options of {@link ThresholdedLinearUnit}. */
export interface ThresholdedLinearUnitOptions {
  /** Channels of the input. */
  readonly channels: number;
}

/**
 * `max(x, tau)` with a learned threshold for each channel (Singh and Krishnan 2020, section 3.2). With `tau = 0`, its first
 * value, it is ReLU. At a tie the gradient goes to `x`.
 */
export class ThresholdedLinearUnit extends Module {
  /** Learned threshold `[channels]`, without weight decay. */
  readonly tau: Parameter;

  constructor(options: ThresholdedLinearUnitOptions) {
    super();
    const channels = checkInteger('ThresholdedLinearUnit', 'channels', options.channels, 1);
    this.tau = new Parameter(zeros([channels]), { decay: false });
  }

  override forward(input: Tensor): Tensor {
    return input.maximum(this.tau);
  }

  override describe(): string {
    return formatOptions({ channels: this.tau.size });
  }
}
