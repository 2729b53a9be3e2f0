import type { Tensor } from '../../tensor';
import { linear } from '../../tensor/operations/matmul';
import { scaledWeightStandardize, weightStandardize } from '../../tensor/operations/standardize';
import { checkRange } from '../check';
import { ones } from '../init';
import { Parameter } from '../parameter';
import { Conv2d, type Conv2dOptions } from './conv2d';
import { Linear, type LinearOptions } from './linear';

/** Options of {@link WeightStandardizedConv2d}. */
export interface WeightStandardizedConv2dOptions extends Conv2dOptions {
  /** Added to the variance of a filter's weights before the root. Default 1e-5. */
  readonly standardizationEpsilon?: number;
}

/**
 * Convolution whose filters have mean 0 and variance 1 (Qiao et al. 2019): the stored weight is standardized in every call, and
 * gradients go through that. For layers in front of a normalization, which takes the filters' size out of the result again.
 */
export class WeightStandardizedConv2d extends Conv2d {
  /** Added to the variance of a filter's weights before the root. */
  readonly standardizationEpsilon: number;

  constructor(options: WeightStandardizedConv2dOptions) {
    super(options);
    const { standardizationEpsilon = 1e-5 } = options;
    this.standardizationEpsilon = checkEpsilon('WeightStandardizedConv2d', standardizationEpsilon);
  }

  override forward(input: Tensor): Tensor {
    const weight = weightStandardize(this.weight, { epsilon: this.standardizationEpsilon });
    return this.convolve(input, weight);
  }
}

/** Options of scaled weight standardization. */
export interface ScaledStandardizationOptions {
  /** Whether each output gets a learned factor `gain`. Default `true`. */
  readonly gain?: boolean;
  /**
   * What makes up for the variance that the activation in front takes away: 1.7128585504 after ReLU. Default 1.
   */
  readonly variancePreservingFactor?: number;
  /** Added to the standard deviation of an output's weights. Default 1e-5. */
  readonly standardizationEpsilon?: number;
}

/** Options of {@link ScaledStandardizedConv2d}. */
export interface ScaledStandardizedConv2dOptions extends Conv2dOptions, ScaledStandardizationOptions {}

/** Options of {@link ScaledStandardizedLinear}. */
export interface ScaledStandardizedLinearOptions extends LinearOptions, ScaledStandardizationOptions {}

/** What a scaled standardized layer keeps besides its weight. */
interface Standardization {
  readonly gain: Parameter | undefined;
  readonly factor: number;
  readonly epsilon: number;
}

function standardization(owner: string, outputs: number, options: ScaledStandardizationOptions): Standardization {
  const { gain = true, variancePreservingFactor = 1, standardizationEpsilon = 1e-5 } = options;
  return {
    gain: gain ? new Parameter(ones([outputs]), { decay: false }) : undefined,
    factor: checkRange(owner, 'variancePreservingFactor', variancePreservingFactor, Number.MIN_VALUE, Number.MAX_VALUE),
    epsilon: checkEpsilon(owner, standardizationEpsilon),
  };
}

/**
 * Convolution with scaled weight standardization (Brock, De and Smith 2021, "Characterizing signal propagation"): filters are
 * centred and scaled so that the output keeps the variance of the input, `gain · γ · (W − mean) / (deviation + ε) / √fanIn`.
 * What takes the place of normalization in networks without it.
 */
export class ScaledStandardizedConv2d extends Conv2d {
  /** Learned factor of each output channel `[outChannels]`, first 1, without weight decay. */
  readonly gain: Parameter | undefined;
  /** γ, which makes up for the activation in front. */
  readonly variancePreservingFactor: number;
  /** Added to the standard deviation. */
  readonly standardizationEpsilon: number;

  constructor(options: ScaledStandardizedConv2dOptions) {
    super(options);
    const { gain, factor, epsilon } = standardization('ScaledStandardizedConv2d', this.outChannels, options);
    this.gain = gain;
    this.variancePreservingFactor = factor;
    this.standardizationEpsilon = epsilon;
  }

  override forward(input: Tensor): Tensor {
    const weight = scaledWeightStandardize(this.weight, {
      gain: this.gain,
      gamma: this.variancePreservingFactor,
      epsilon: this.standardizationEpsilon,
    });
    return this.convolve(input, weight);
  }
}

/** Linear layer with scaled weight standardization; see {@link ScaledStandardizedConv2d}. */
export class ScaledStandardizedLinear extends Linear {
  /** Learned factor of each output `[outFeatures]`, first 1, without weight decay. */
  readonly gain: Parameter | undefined;
  /** γ, which makes up for the activation in front. */
  readonly variancePreservingFactor: number;
  /** Added to the standard deviation. */
  readonly standardizationEpsilon: number;

  constructor(options: ScaledStandardizedLinearOptions) {
    super(options);
    const { gain, factor, epsilon } = standardization('ScaledStandardizedLinear', this.outFeatures, options);
    this.gain = gain;
    this.variancePreservingFactor = factor;
    this.standardizationEpsilon = epsilon;
  }

  override forward(input: Tensor): Tensor {
    const weight = scaledWeightStandardize(this.weight, {
      gain: this.gain,
      gamma: this.variancePreservingFactor,
      epsilon: this.standardizationEpsilon,
    });
    return linear(input, weight, this.bias);
  }
}

function checkEpsilon(owner: string, epsilon: number): number {
  return checkRange(owner, 'standardizationEpsilon', epsilon, 0, Number.MAX_VALUE);
}
