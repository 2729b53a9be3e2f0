import { checkOptions, optionNames } from '../../options';
import type { PaddingValue, Tensor } from '../../tensor';
import { binaryConv2d } from '../../tensor/operations/binary';
import { conv2d } from '../../tensor/operations/convolution';
import { pad } from '../../tensor/operations/layout';
import { type Pair, pair } from '../../tensor/operations/pair';
import { checkChoice, checkInteger, formatOptions, formatPair } from '../check';
import { BinaryLayer, type BinaryLayerOptions, binaryLayerNames } from './binary-layer';

/** Options of {@link BinaryConv2d}. */
export interface BinaryConv2dOptions extends BinaryLayerOptions {
  /** Channels of the input. */
  readonly inChannels: number;
  /** Channels of the output: the number of filters. */
  readonly outChannels: number;
  /** Height and width of a filter, in pixels. */
  readonly kernelSize: Pair;
  /** Step between neighbouring outputs, in input pixels. Default 1. */
  readonly stride?: Pair;
  /** Rows and columns added on each side. Default 0. */
  readonly padding?: Pair;
  /** Distance between neighbouring taps of a filter, in input pixels. Default 1. */
  readonly dilation?: Pair;
  /** What is added: nothing that counts (`'zero'`, as papers train), +1 or −1. Default `'zero'`. */
  readonly paddingValue?: PaddingValue;
}

const binaryConv2dOptions = optionNames<BinaryConv2dOptions>({
  inChannels: true,
  outChannels: true,
  kernelSize: true,
  stride: true,
  padding: true,
  dilation: true,
  paddingValue: true,
  ...binaryLayerNames,
});

/**
 * Convolution of signs by signs: `gain · mean|W| · conv2d(sign(input), sign(W))` for each output channel, computed on packed bits. It has
 * no bias; put {@link RPReLU} or a normalization behind it.
 *
 * Input `[batch, height, width, inChannels]`, output `[batch, outHeight, outWidth, outChannels]` as of `Conv2d`; the latent weight is
 * `[kernelHeight, kernelWidth, inChannels, outChannels]`. The signs of 0 and −0 are +1.
 *
 * XNOR-Net (Rastegari et al. 2016) by default; `{ activation: 'rsign', standardize: true }` is the layer of BN-free binary networks
 * (Chen et al. 2021).
 */
export class BinaryConv2d extends BinaryLayer {
  /** Channels of the input. */
  readonly inChannels: number;
  /** Channels of the output. */
  readonly outChannels: number;
  /** `[height, width]` of a filter. */
  readonly kernelSize: readonly [number, number];
  /** `[vertical, horizontal]` step. */
  readonly stride: readonly [number, number];
  /** `[vertical, horizontal]` rows and columns added on each side. */
  readonly padding: readonly [number, number];
  /** `[vertical, horizontal]` distance between taps. */
  readonly dilation: readonly [number, number];
  /** What is added around the image. */
  readonly paddingValue: PaddingValue;

  constructor(options: BinaryConv2dOptions) {
    checkOptions('BinaryConv2d', options, binaryConv2dOptions);
    const inChannels = checkInteger('BinaryConv2d', 'inChannels', options.inChannels, 1);
    const outChannels = checkInteger('BinaryConv2d', 'outChannels', options.outChannels, 1);
    const kernelSize = pair('BinaryConv2d', 'kernelSize', options.kernelSize, 1);
    super('BinaryConv2d', [...kernelSize, inChannels, outChannels], options);
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = kernelSize;
    this.stride = pair('BinaryConv2d', 'stride', options.stride ?? 1, 1);
    this.padding = pair('BinaryConv2d', 'padding', options.padding ?? 0, 0);
    this.dilation = pair('BinaryConv2d', 'dilation', options.dilation ?? 1, 1);
    const { paddingValue = 'zero' } = options;
    this.paddingValue = checkChoice('BinaryConv2d', 'paddingValue', paddingValue, ['zero', 'plus', 'minus']);
  }

  override forward(input: Tensor): Tensor {
    const { stride, padding, dilation, paddingValue } = this;
    if (this.binaryWeights) {
      const { weight, options } = this.binaryArguments();
      return binaryConv2d(input, weight, { ...options, stride, padding, dilation, paddingValue });
    }
    const { signs, weight } = this.floatArguments(input);
    if (paddingValue === 'zero') return conv2d(signs, weight, undefined, { stride, padding, dilation });
    const [rows, columns] = [[padding[0], padding[0]] as const, [padding[1], padding[1]] as const];
    const images = pad(signs, [[0, 0], rows, columns, [0, 0]], paddingValue === 'plus' ? 1 : -1);
    return conv2d(images, weight, undefined, { stride, dilation });
  }

  override multiplyAdds(_input: Tensor, output: Tensor): number {
    const [height, width] = this.kernelSize;
    return output.size * height * width * this.inChannels;
  }

  override describe(): string {
    const unlessDefault = (sizes: readonly [number, number], usual: number) =>
      sizes[0] === usual && sizes[1] === usual ? undefined : formatPair(sizes);
    return formatOptions({
      inChannels: this.inChannels,
      outChannels: this.outChannels,
      kernelSize: formatPair(this.kernelSize),
      stride: unlessDefault(this.stride, 1),
      padding: unlessDefault(this.padding, 0),
      dilation: unlessDefault(this.dilation, 1),
      paddingValue: this.paddingValue === 'zero' ? undefined : this.paddingValue,
      ...this.describeBinary(),
    });
  }
}
