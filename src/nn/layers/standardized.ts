import { checkOptions, type OptionNames, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { linear } from '../../tensor/operations/matmul';
import { scaledWeightStandardize, weightStandardize } from '../../tensor/operations/standardize';
import { checkRange } from '../check';
import { ones } from '../init';
import { Parameter } from '../parameter';
import { Conv2d, type Conv2dOptions, conv2dNames } from './conv2d';
import { Linear, type LinearOptions, linearNames } from './linear';

/** Options of {@link WeightStandardizedConv2d}. */
export interface WeightStandardizedConv2dOptions extends Conv2dOptions {
  /** Added to the variance of a filter's weights before the root. Default 1e-5. */
  readonly standardizationEpsilon?: number;
}

const weightStandardizedConv2dOptions = optionNames<WeightStandardizedConv2dOptions>({
  ...conv2dNames,
  standardizationEpsilon: true,
});

/**
 * Convolution whose filters have mean 0 and variance 1 (Qiao et al. 2019): the stored weight is standardized in every call, and
 * gradients go through that. For layers in front of a normalization, which takes the filters' size out of the result again.
 */
export class WeightStandardizedConv2d extends Conv2d {
  /** Added to the variance of a filter's weights before the root. */
  readonly standardizationEpsilon: number;

  constructor(options: WeightStandardizedConv2dOptions) {
    checkOptions('WeightStandardizedConv2d', options, weightStandardizedConv2dOptions);
    const { standardizationEpsilon = 1e-5, ...convolution } = options;
    super(convolution);
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

const standardizationNames: OptionNames<ScaledStandardizationOptions> = {
  gain: 'boolean',
  variancePreservingFactor: true,
  standardizationEpsilon: true,
};
const scaledStandardizedConv2dOptions = optionNames<ScaledStandardizedConv2dOptions>({
  ...conv2dNames,
  ...standardizationNames,
});
const scaledStandardizedLinearOptions = optionNames<ScaledStandardizedLinearOptions>({
  ...linearNames,
  ...standardizationNames,
});

/** What a scaled standardized layer keeps besides its weight. */
interface Standardization {
  readonly gain: Parameter | undefined;
  readonly factor: number;
  readonly epsilon: number;
}

function standardization(
  owner: string,
  outputs: number,
  gain = true,
  variancePreservingFactor = 1,
  standardizationEpsilon = 1e-5,
): Standardization {
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
    checkOptions('ScaledStandardizedConv2d', options, scaledStandardizedConv2dOptions);
    const { gain, variancePreservingFactor, standardizationEpsilon, ...rest } = options;
    super(rest);
    const given = [gain, variancePreservingFactor, standardizationEpsilon] as const;
    const own = standardization('ScaledStandardizedConv2d', this.outChannels, ...given);
    this.gain = own.gain;
    this.variancePreservingFactor = own.factor;
    this.standardizationEpsilon = own.epsilon;
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
    checkOptions('ScaledStandardizedLinear', options, scaledStandardizedLinearOptions);
    const { gain, variancePreservingFactor, standardizationEpsilon, ...rest } = options;
    super(rest);
    const given = [gain, variancePreservingFactor, standardizationEpsilon] as const;
    const own = standardization('ScaledStandardizedLinear', this.outFeatures, ...given);
    this.gain = own.gain;
    this.variancePreservingFactor = own.factor;
    this.standardizationEpsilon = own.epsilon;
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
