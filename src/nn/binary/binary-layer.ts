import { EvenkeelError } from '../../errors';
import type { OptionNames } from '../../options';
import { type ActivationGradient, binarize, noGrad, type Tensor, type WeightGradient } from '../../tensor';
import { surrogateOf } from '../../tensor/operations/sign';
import { scaledWeightStandardize } from '../../tensor/operations/standardize';
import { checkChoice, checkRange } from '../check';
import { defaultWeight, type Initializer, ones, zeros } from '../init';
import { initialValue } from '../initial-value';
import { Module } from '../module';
import { Parameter } from '../parameter';

/** Options of the surrogate gradient of a sign. */
export interface SignOptions {
  /** What the gradient of the sign is taken for. Default `'approxSign'`. */
  readonly activationGradient?: ActivationGradient;
  /** The bound of `steClip` (default 1), the β of `swishSign` (5) or the δ of `sigmoidMask` (3). */
  readonly activationGradientParameter?: number;
}

/** Options that {@link BinaryConv2d} and {@link BinaryLinear} share. */
export interface BinaryLayerOptions extends SignOptions {
  /**
   * How the input becomes signs: `'sign'` takes its sign, `'rsign'` that of the input plus a learned shift for each channel, and
   * `'none'` expects ±1 (from {@link RSign}) and passes the gradient on unchanged. Default `'sign'`.
   */
  readonly activation?: 'sign' | 'rsign' | 'none';
  /**
   * Whether the latent weights are standardized before their sign is taken (Chen et al. 2021, "BNN − BN = ?"): half the signs of each
   * filter are then +1, and a network trains without normalization. Default `false`: the scaled signs of XNOR-Net.
   */
  readonly standardize?: boolean;
  /** Added to the standard deviation of an output's weights. Default 1e-5. */
  readonly standardizationEpsilon?: number;
  /** Whether each output gets a learned factor. Default: as `standardize`. */
  readonly gain?: boolean;
  /** How the gradient passes from the scaled sign to the latent weight. Default `'clip'`. */
  readonly weightGradient?: WeightGradient;
  /**
   * Whether weights are binary. `false` is the first step of two-step training: the input's signs meet float weights (standardized,
   * where that is on). {@link BinaryLayer.binaryWeights} changes it later; parameters stay the same. Default `true`.
   */
  readonly binaryWeights?: boolean;
  /** First value of the latent weight. Default: even over `±1 / √fanIn`. */
  readonly weightInitializer?: Initializer;
}

/** For the layers that take signs. */
export const signNames: OptionNames<SignOptions> = { activationGradient: true, activationGradientParameter: true };

/** Those of a layer that takes no signs of its input. */
export const latentNames: OptionNames<Omit<BinaryLayerOptions, 'activation' | keyof SignOptions>> = {
  standardize: 'boolean',
  standardizationEpsilon: true,
  gain: 'boolean',
  weightGradient: true,
  binaryWeights: 'boolean',
  weightInitializer: true,
};

/** For the layers that extend this one. */
export const binaryLayerNames: OptionNames<BinaryLayerOptions> = { activation: true, ...signNames, ...latentNames };

/** What binary layers share: a latent weight, its signs, and the signs of the input. */
export abstract class BinaryLayer extends Module {
  /** The latent weight, in float: what is trained. */
  readonly weight: Parameter;
  /** Learned factor of each output, first 1, without weight decay. */
  readonly gain: Parameter | undefined;
  /** Learned shift of each input channel, first 0, without weight decay; with activation `'rsign'`. */
  readonly shift: Parameter | undefined;
  /** How the input becomes signs. */
  readonly activation: 'sign' | 'rsign' | 'none';
  /** What stands in for the gradient of the input's sign. */
  readonly activationGradient: ActivationGradient;
  /** The parameter of that, where it is not the default. */
  readonly activationGradientParameter: number | undefined;
  /** Whether the latent weight is standardized. */
  readonly standardize: boolean;
  /** Added to the standard deviation of an output's weights. */
  readonly standardizationEpsilon: number;
  /** How the gradient passes to the latent weight. */
  readonly weightGradient: WeightGradient;
  /** Whether weights are binary; `false` in the first step of two-step training. */
  binaryWeights: boolean;

  /** @param options - Already checked for names that the layer does not have. */
  protected constructor(owner: string, shape: readonly number[], options: BinaryLayerOptions) {
    super();
    const { activation = 'sign', standardize = false, gain = standardize } = options;
    checkChoice(owner, 'activation', activation, ['sign', 'rsign', 'none']);
    if (activation === 'none' && options.activationGradient !== undefined) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `${owner}: with activation 'none' no sign is taken, so activationGradient has no meaning; give it to RSign`,
      );
    }
    surrogateOf(owner, options);
    const { weightInitializer = defaultWeight } = options;
    this.weight = new Parameter(initialValue(owner, 'weightInitializer', weightInitializer, shape));
    this.gain = gain ? new Parameter(ones([shape.at(-1)!]), { decay: false }) : undefined;
    this.shift = activation === 'rsign' ? new Parameter(zeros([shape.at(-2)!]), { decay: false }) : undefined;
    this.activation = activation;
    this.activationGradient = activation === 'none' ? 'identity' : (options.activationGradient ?? 'approxSign');
    this.activationGradientParameter = options.activationGradientParameter;
    this.standardize = standardize;
    this.standardizationEpsilon = checkRange(
      owner,
      'standardizationEpsilon',
      options.standardizationEpsilon ?? 1e-5,
      0,
      Number.MAX_VALUE,
    );
    this.weightGradient = options.weightGradient ?? 'clip';
    this.binaryWeights = options.binaryWeights ?? true;
  }

  /** The weight whose signs count: the latent one, standardized where that is on. */
  latentWeight(): Tensor {
    if (!this.standardize) return this.weight;
    return scaledWeightStandardize(this.weight, { epsilon: this.standardizationEpsilon });
  }

  /** The signs of the weights as ±1, in the shape of {@link BinaryLayer.weight}; without a gradient. */
  weightSigns(): Tensor {
    return noGrad(() => binarize(this.latentWeight()));
  }

  /** The options of the binary operations, and the latent weight whose signs they take. */
  protected binaryArguments() {
    const { shift, gain, activationGradient, activationGradientParameter, weightGradient } = this;
    return {
      weight: this.latentWeight(),
      options: { shift, gain, activationGradient, activationGradientParameter, weightGradient },
    };
  }

  /** The signs of the input in float, and the float weight that they meet in the first step of two-step training. */
  protected floatArguments(input: Tensor): { readonly signs: Tensor; readonly weight: Tensor } {
    const { shift, activationGradient, activationGradientParameter } = this;
    const signs =
      this.activation === 'none' ? input : binarize(input, { shift, activationGradient, activationGradientParameter });
    if (this.standardize) {
      const { gain, standardizationEpsilon: epsilon } = this;
      return { signs, weight: scaledWeightStandardize(this.weight, { gain, epsilon }) };
    }
    return { signs, weight: this.gain === undefined ? this.weight : this.weight.mul(this.gain) };
  }

  /** Those of {@link Module.multiplyAdds} that are of signs by signs. */
  binaryMultiplyAdds(input: Tensor, output: Tensor): number {
    return this.binaryWeights ? this.multiplyAdds(input, output) : 0;
  }

  /** What {@link Module.describe} says of a binary layer, where it is not the default. */
  protected describeBinary(): Readonly<Record<string, string | boolean | undefined>> {
    return {
      activation: this.activation === 'sign' ? undefined : this.activation,
      activationGradient:
        this.activation === 'none' || this.activationGradient === 'approxSign' ? undefined : this.activationGradient,
      standardize: this.standardize || undefined,
      gain: (this.gain !== undefined) === this.standardize ? undefined : this.gain !== undefined,
      binaryWeights: this.binaryWeights ? undefined : false,
    };
  }
}
