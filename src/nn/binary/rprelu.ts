import { checkOptions, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { rprelu } from '../../tensor/operations/rprelu';
import { checkFinite, checkInteger, formatOptions } from '../check';
import { constant, zeros } from '../init';
import { Module } from '../module';
import { Parameter } from '../parameter';

/** Options of {@link RPReLU}. */
export interface RPReLUOptions {
  /** Channels of the input. */
  readonly channels: number;
  /** First value of every slope. Default 0.25. */
  readonly slope?: number;
}

const rpreluOptions = optionNames<RPReLUOptions>({ channels: true, slope: true });

/**
 * RPReLU (Liu et al. 2020, "ReActNet", equation 2): a PReLU with learned shifts before and after, one of each for every channel. Input
 * and output `[..., channels]`.
 */
export class RPReLU extends Module {
  /** Added before, `[channels]`, first 0; without weight decay, as the others. */
  readonly shiftIn: Parameter;
  /** The slope where the shifted input is not positive, `[channels]`. */
  readonly slope: Parameter;
  /** Added after, `[channels]`, first 0. */
  readonly shiftOut: Parameter;

  constructor(options: RPReLUOptions) {
    super();
    checkOptions('RPReLU', options, rpreluOptions);
    const shape = [checkInteger('RPReLU', 'channels', options.channels, 1)];
    const slope = checkFinite('RPReLU', 'slope', options.slope ?? 0.25);
    this.shiftIn = new Parameter(zeros(shape), { decay: false });
    this.slope = new Parameter(constant(slope)(shape), { decay: false });
    this.shiftOut = new Parameter(zeros(shape), { decay: false });
  }

  override forward(input: Tensor): Tensor {
    const { shiftIn, slope, shiftOut } = this;
    return rprelu(input, { shiftIn, slope, shiftOut });
  }

  override describe(): string {
    return formatOptions({ channels: this.slope.size });
  }
}
