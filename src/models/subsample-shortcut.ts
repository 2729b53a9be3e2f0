import { Module } from '../nn';
import { formatOptions } from '../nn/check';
import { carryState } from '../nn/statistics-chain';
import type { Tensor } from '../tensor';
import { pad } from '../tensor/operations/layout';
import { avgPool2d } from '../tensor/operations/pooling';

/** Options of {@link SubsampleShortcut}. */
export interface SubsampleShortcutOptions {
  /** Channels of the input. */
  readonly inChannels: number;
  /** Channels of the output, at least as many. */
  readonly outChannels: number;
  /** Step between the pixels that are kept. */
  readonly stride: number;
}

/**
 * Option A of He et al. 2016a: the identity on every `stride`-th pixel, with zeros for the channels that the input does not have. No
 * parameters.
 */
export class SubsampleShortcut extends Module {
  /** Channels of the input. */
  readonly inChannels: number;
  /** Channels of the output. */
  readonly outChannels: number;
  /** Step between the pixels that are kept. */
  readonly stride: number;

  constructor(options: SubsampleShortcutOptions) {
    super();
    this.inChannels = options.inChannels;
    this.outChannels = options.outChannels;
    this.stride = options.stride;
  }

  override forward(input: Tensor): Tensor {
    // The mean of a single pixel is that pixel.
    const kept = this.stride === 1 ? input : avgPool2d(input, { kernelSize: 1, stride: this.stride });
    const added = this.outChannels - this.inChannels;
    // Statistics of fewer channels than the output has are those of the first.
    if (added === 0) return carryState(input, kept);
    return carryState(
      input,
      pad(kept, [
        [0, 0],
        [0, 0],
        [0, 0],
        [0, added],
      ]),
    );
  }

  override describe(): string {
    return formatOptions({ inChannels: this.inChannels, outChannels: this.outChannels, stride: this.stride });
  }
}
