import { checkOptions, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { binaryWeight } from '../../tensor/operations/binary';
import { conv2d } from '../../tensor/operations/convolution';
import { type Pair, pair } from '../../tensor/operations/pair';
import { checkInteger, formatOptions, formatPair } from '../check';
import { BinaryLayer, type BinaryLayerOptions, latentNames } from './binary-layer';

/** Options of {@link BinaryWeightConv2d}. */
export interface BinaryWeightConv2dOptions
  extends Omit<BinaryLayerOptions, 'activation' | 'activationGradient' | 'activationGradientParameter'> {
  /** Channels of the input. */
  readonly inChannels: number;
  /** Channels of the output: the number of filters. */
  readonly outChannels: number;
  /** Height and width of a filter, in pixels. */
  readonly kernelSize: Pair;
  /** Step between neighbouring outputs, in input pixels. Default 1. */
  readonly stride?: Pair;
  /** Rows and columns of zeros added on each side. Default 0. */
  readonly padding?: Pair;
}

const binaryWeightConv2dOptions = optionNames<BinaryWeightConv2dOptions>({
  inChannels: true,
  outChannels: true,
  kernelSize: true,
  stride: true,
  padding: true,
  ...latentNames,
});

/**
 * Convolution of real inputs by binary weights, `conv2d(input, gain · mean|W| · sign(W))` (Rastegari et al. 2016,
 * Binary-Weight-Networks): sums and differences of the inputs, stored in one bit a weight. What the code of BN-free binary networks
 * (Chen et al. 2021) puts on shortcuts. With `binaryWeights` off, the float weight (standardized, where that is on).
 */
export class BinaryWeightConv2d extends BinaryLayer {
  /** Channels of the input. */
  readonly inChannels: number;
  /** Channels of the output. */
  readonly outChannels: number;
  /** `[height, width]` of a filter. */
  readonly kernelSize: readonly [number, number];
  /** `[vertical, horizontal]` step. */
  readonly stride: readonly [number, number];
  /** `[vertical, horizontal]` rows and columns of zeros added on each side. */
  readonly padding: readonly [number, number];

  constructor(options: BinaryWeightConv2dOptions) {
    const owner = 'BinaryWeightConv2d';
    checkOptions(owner, options, binaryWeightConv2dOptions);
    const inChannels = checkInteger(owner, 'inChannels', options.inChannels, 1);
    const outChannels = checkInteger(owner, 'outChannels', options.outChannels, 1);
    const kernelSize = pair(owner, 'kernelSize', options.kernelSize, 1);
    super(owner, [...kernelSize, inChannels, outChannels], { ...options, activation: 'none' });
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = kernelSize;
    this.stride = pair(owner, 'stride', options.stride ?? 1, 1);
    this.padding = pair(owner, 'padding', options.padding ?? 0, 0);
  }

  override forward(input: Tensor): Tensor {
    const { stride, padding } = this;
    if (!this.binaryWeights) return conv2d(input, this.floatArguments(input).weight, undefined, { stride, padding });
    const { gain, weightGradient } = this;
    return conv2d(input, binaryWeight(this.latentWeight(), { gain, weightGradient }), undefined, { stride, padding });
  }

  override multiplyAdds(_input: Tensor, output: Tensor): number {
    const [height, width] = this.kernelSize;
    return output.size * height * width * this.inChannels;
  }

  /** None: the inputs are not signs. */
  override binaryMultiplyAdds(): number {
    return 0;
  }

  override describe(): string {
    return formatOptions({
      inChannels: this.inChannels,
      outChannels: this.outChannels,
      kernelSize: formatPair(this.kernelSize),
      stride: formatPair(this.stride) === '1' ? undefined : formatPair(this.stride),
      padding: formatPair(this.padding) === '0' ? undefined : formatPair(this.padding),
      ...this.describeBinary(),
      activation: undefined,
    });
  }
}
