import { AvgPool2d, Module, type NormalizedLayers } from '../nn';
import { checkOptions, optionNames } from '../options';
import { concatenate, type Tensor } from '../tensor';
import { type LatentOptions, normBehind } from './binary-options';

/** Halves a map by the mean of 2×2 pixels, at an odd edge of those that are there: `[batch, ⌈h / 2⌉, ⌈w / 2⌉, channels]`. */
export function halvingPool(): AvgPool2d {
  return new AvgPool2d({ kernelSize: 2, stride: 2, ceilMode: true, countIncludePadding: false });
}

/** The 1×1 convolution on the shortcut of a binary block: float, or binary weights that meet real values. */
export type DownsampleKind = 'float' | 'binary-weight';

/** Options of {@link DownsampleShortcut}. */
export interface DownsampleOptions {
  /** Where the layers come from. */
  readonly build: NormalizedLayers;
  /** Channels of the block's input. */
  readonly inChannels: number;
  /** Channels of the block's output. */
  readonly outChannels: number;
  /** Step of the block: 1 or 2. */
  readonly stride: number;
  /** The convolution. */
  readonly downsample: DownsampleKind;
  /** What binary weights are like. */
  readonly latent: LatentOptions;
}

const downsampleOptions = optionNames<DownsampleOptions>({
  build: true,
  inChannels: true,
  outChannels: true,
  stride: true,
  downsample: true,
  latent: true,
});

/**
 * The shortcut of a binary block that changes the shape: 2×2 average pooling where the map is halved, a 1×1 convolution of the real
 * values, and a normalization where the method has one (Liu et al. 2018, Bi-Real Net, section 3.1).
 */
export class DownsampleShortcut extends Module {
  /** Average pooling; `undefined` for a step of 1. */
  readonly pool: AvgPool2d | undefined;
  /** `BinaryWeightConv2d`, or the float convolution of the method: `Conv2d`, or `ScaledStandardizedConv2d` for `bn-free`. */
  readonly conv: Module;
  /** The normalization behind the convolution (`BatchNorm` for `batch`); `undefined` if the method has none. */
  readonly norm: Module | undefined;

  constructor(options: DownsampleOptions) {
    super();
    checkOptions('DownsampleShortcut', options, downsampleOptions);
    const { build, inChannels, outChannels, stride, downsample, latent } = options;
    this.pool = stride === 1 ? undefined : halvingPool();
    this.conv =
      downsample === 'float'
        ? build.conv2d({ inChannels, outChannels, kernelSize: 1, bias: false }, 'shortcut')
        : build.binaryWeightConv2d({ ...latent, inChannels, outChannels, kernelSize: 1 });
    this.norm = normBehind(build, outChannels);
  }

  override forward(input: Tensor): Tensor {
    const value = this.conv.call(this.pool?.call(input) ?? input);
    return this.norm?.call(value) ?? value;
  }
}

/** Passes a value on twice, side by side: `[..., channels]` to `[..., 2 · channels]` (ReActNet-A, where the channels double). */
export class DuplicateChannels extends Module {
  override forward(input: Tensor): Tensor {
    return concatenate([input, input], -1);
  }
}
