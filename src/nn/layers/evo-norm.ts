import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { ones, type Tensor } from '../../tensor';
import { evoNormB0, evoNormS0 } from '../../tensor/operations/evo-norm';
import { checkInteger, checkRange, formatOptions } from '../check';
import { ones as filledWithOnes } from '../init';
import { Parameter } from '../parameter';
import { NormalizationLayer, type NormalizationLayerOptions } from './affine';
import { defaultGroups } from './group-norm';

/** Options that both EvoNorms share. */
export interface EvoNormOptions extends Pick<NormalizationLayerOptions, 'channels' | 'epsilon'> {
  /** Whether the layer normalizes and is nonlinear; without it, it only scales and shifts each channel. Default `true`. */
  readonly nonlinearity?: boolean;
}

/** Options of {@link EvoNormS0}. */
export interface EvoNormS0Options extends EvoNormOptions {
  /** Number of groups of channels; must divide `channels`. Default: {@link defaultGroups}. */
  readonly groups?: number;
}

/** Options of {@link EvoNormB0}. */
export interface EvoNormB0Options extends EvoNormOptions {
  /** Weight of the new batch in the running variance. Default 0.1. */
  readonly momentum?: number;
}

/** What both EvoNorms share: scale, shift and the learned slope inside the nonlinearity. */
abstract class EvoNorm extends NormalizationLayer {
  /** Learned slope v `[channels]`, first 1, without weight decay; `undefined` without nonlinearity. */
  readonly slope: Parameter | undefined;

  constructor(owner: string, options: EvoNormOptions) {
    const { channels, epsilon = 1e-5 } = options;
    super(owner, { channels, epsilon });
    this.slope =
      (options.nonlinearity ?? true) ? new Parameter(filledWithOnes([channels]), { decay: false }) : undefined;
  }

  override forward(input: Tensor): Tensor {
    if (input.rank < 2 || input.shape.at(-1) !== this.channels) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `${this.constructor.name}: expected an input [batch, …, ${this.channels}], got shape [${input.shape.join(', ')}]`,
      );
    }
    const [gamma, beta] = [this.gamma as Parameter, this.beta as Parameter];
    if (this.slope === undefined) return input.mul(gamma).add(beta);
    return this.respond(input, this.slope, gamma, beta);
  }

  /** The normalized and nonlinear value of an input `[batch, …, channels]`, with scale and shift. */
  protected abstract respond(input: Tensor, slope: Parameter, gamma: Parameter, beta: Parameter): Tensor;

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      nonlinearity: this.slope === undefined ? false : undefined,
    });
  }
}

const evoNormS0Options = optionNames<EvoNormS0Options>({
  channels: true,
  epsilon: true,
  nonlinearity: 'boolean',
  groups: true,
});

/**
 * EvoNorm-S0 (Liu et al., "Evolving Normalization-Activation Layers", 2020), norm and activation in one:
 * `gamma · x · sigmoid(v x) / √(variance + epsilon) + beta`, with the biased variance of each sample and group of channels over all
 * positions; x itself is not centred.
 *
 * Input `[batch, ..., channels]`, output of the same shape. No sample depends on another, and training equals evaluation.
 */
export class EvoNormS0 extends EvoNorm {
  /** Number of groups. */
  readonly groups: number;

  constructor(options: EvoNormS0Options) {
    checkOptions('EvoNormS0', options, evoNormS0Options);
    super('EvoNormS0', options);
    this.groups = checkInteger('EvoNormS0', 'groups', options.groups ?? defaultGroups(this.channels), 1);
    if (this.channels % this.groups !== 0) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `EvoNormS0: ${this.channels} channels do not split into ${this.groups} groups; groups must divide channels`,
      );
    }
  }

  protected override respond(input: Tensor, slope: Parameter, gamma: Parameter, beta: Parameter): Tensor {
    const { groups, epsilon } = this;
    return evoNormS0(input, { slope, gamma, beta, groups, epsilon });
  }
}

const evoNormB0Options = optionNames<EvoNormB0Options>({
  channels: true,
  epsilon: true,
  nonlinearity: 'boolean',
  momentum: true,
});

/**
 * EvoNorm-B0 (Liu et al. 2020), norm and activation in one:
 * `gamma · x / max(√(batch variance + epsilon), v x + √(instance variance + epsilon)) + beta`, with biased variances of each channel,
 * over the batch and all positions, and over the positions of each sample; x itself is not centred. The batch's root counts as 1e-30
 * at least, so that zeros give `beta` also where `epsilon` is 0.
 *
 * Input `[batch, ..., channels]`, output of the same shape. In evaluation the running variance takes the place of the batch's; the
 * instance's stays the sample's own. At a tie of the maximum the gradient goes to the batch's part. The running variance does not
 * move with a batch that has a NaN or an infinity.
 */
export class EvoNormB0 extends EvoNorm {
  /** Running variance `[channels]`, first 1. */
  readonly runningVariance: Tensor;
  /** Weight of the new batch in the running variance. */
  readonly momentum: number;

  constructor(options: EvoNormB0Options) {
    checkOptions('EvoNormB0', options, evoNormB0Options);
    super('EvoNormB0', options);
    this.momentum = checkRange('EvoNormB0', 'momentum', options.momentum ?? 0.1, 0, 1);
    this.runningVariance = this.buffer('runningVariance', ones([this.channels]));
  }

  protected override respond(input: Tensor, slope: Parameter, gamma: Parameter, beta: Parameter): Tensor {
    const { epsilon, momentum, runningVariance, training } = this;
    return evoNormB0(input, { slope, gamma, beta, epsilon, momentum, runningVariance, training });
  }
}
