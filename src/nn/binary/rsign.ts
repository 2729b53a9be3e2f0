import { checkOptions, optionNames } from '../../options';
import type { ActivationGradient, Tensor } from '../../tensor';
import { rsign, surrogateOf } from '../../tensor/operations/sign';
import { checkInteger, formatOptions } from '../check';
import { zeros } from '../init';
import { Module } from '../module';
import { Parameter } from '../parameter';
import { type SignOptions, signNames } from './binary-layer';

/** Options of {@link RSign}. */
export interface RSignOptions extends SignOptions {
  /** Channels of the input. */
  readonly channels: number;
}

const rsignOptions = optionNames<RSignOptions>({ channels: true, ...signNames });

/**
 * RSign (Liu et al. 2020, "ReActNet", equation 1): the sign of the input plus a learned shift for each channel, as ±1, with a
 * surrogate gradient. Input and output `[..., channels]`.
 *
 * In front of a single {@link BinaryConv2d}, its activation `'rsign'` does the same without writing the signs as floats.
 */
export class RSign extends Module {
  /** `[channels]`, first 0; without weight decay. */
  readonly shift: Parameter;
  /** What stands in for the gradient of the sign. */
  readonly activationGradient: ActivationGradient;
  /** The parameter of that, where it is not the default. */
  readonly activationGradientParameter: number | undefined;

  constructor(options: RSignOptions) {
    super();
    checkOptions('RSign', options, rsignOptions);
    surrogateOf('RSign', options);
    this.shift = new Parameter(zeros([checkInteger('RSign', 'channels', options.channels, 1)]), { decay: false });
    this.activationGradient = options.activationGradient ?? 'approxSign';
    this.activationGradientParameter = options.activationGradientParameter;
  }

  override forward(input: Tensor): Tensor {
    const { activationGradient, activationGradientParameter } = this;
    return rsign(input, this.shift, { activationGradient, activationGradientParameter });
  }

  override describe(): string {
    return formatOptions({
      channels: this.shift.size,
      activationGradient: this.activationGradient === 'approxSign' ? undefined : this.activationGradient,
    });
  }
}
