import { EvenkeelError } from '../../errors';
import { checkOptions, type OptionNames, optionNames, show } from '../../options';
import type { Tensor } from '../../tensor';
import { conv2d } from '../../tensor/operations/convolution';
import { type Pair, pair } from '../../tensor/operations/pair';
import { checkInteger, formatOptions, formatPair } from '../check';
import { defaultBias, defaultWeight, type Initializer } from '../init';
import { initialValue } from '../initial-value';
import { Module } from '../module';
import { Parameter } from '../parameter';

/** Options of {@link Conv2d}. */
export interface Conv2dOptions {
  /** Channels of the input. */
  readonly inChannels: number;
  /** Channels of the output: the number of filters. */
  readonly outChannels: number;
  /** Height and width of a filter, in pixels. */
  readonly kernelSize: Pair;
  /** Step between neighbouring outputs, in input pixels. Default 1. */
  readonly stride?: Pair;
  /**
   * Rows and columns of zeros added on each side, or `'same'`: as many as keep the size at stride 1 (odd kernels only).
   * Default 0.
   */
  readonly padding?: Pair | 'same';
  /** Distance between neighbouring taps of a filter, in input pixels. Default 1. */
  readonly dilation?: Pair;
  /** Number of groups that channels are split into; `inChannels` makes a depthwise convolution. Default 1. */
  readonly groups?: number;
  /** Whether a learned number is added to each output channel. Default `true`. */
  readonly bias?: boolean;
  /** First value of the weight. Default: even over `±1 / √fanIn`, as in PyTorch. */
  readonly weightInitializer?: Initializer;
  /** First value of the bias. Default: even over `±1 / √fanIn`, as in PyTorch. */
  readonly biasInitializer?: Initializer;
}

/** For the layers that extend this one. */
export const conv2dNames: OptionNames<Conv2dOptions> = {
  inChannels: true,
  outChannels: true,
  kernelSize: true,
  stride: true,
  padding: true,
  dilation: true,
  groups: true,
  bias: 'boolean',
  weightInitializer: true,
  biasInitializer: true,
};
const conv2dOptions = optionNames<Conv2dOptions>(conv2dNames);

/**
 * Convolution of images (cross-correlation, as in every deep-learning library).
 *
 * Input `[batch, height, width, inChannels]`, output `[batch, outHeight, outWidth, outChannels]` with
 * `outHeight = ⌊(height + 2·padding − dilation·(kernelHeight − 1) − 1) / stride⌋ + 1`. The weight is
 * `[kernelHeight, kernelWidth, inChannels / groups, outChannels]`.
 */
export class Conv2d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;
  /** Channels of the input. */
  readonly inChannels: number;
  /** Channels of the output. */
  readonly outChannels: number;
  /** `[height, width]` of a filter. */
  readonly kernelSize: readonly [number, number];
  /** `[vertical, horizontal]` step. */
  readonly stride: readonly [number, number];
  /** `[vertical, horizontal]` zeros added on each side. */
  readonly padding: readonly [number, number];
  /** `[vertical, horizontal]` distance between taps. */
  readonly dilation: readonly [number, number];
  /** Number of channel groups. */
  readonly groups: number;

  constructor(options: Conv2dOptions) {
    super();
    checkOptions('Conv2d', options, conv2dOptions);
    this.inChannels = checkInteger('Conv2d', 'inChannels', options.inChannels, 1);
    this.outChannels = checkInteger('Conv2d', 'outChannels', options.outChannels, 1);
    this.kernelSize = pair('Conv2d', 'kernelSize', options.kernelSize, 1);
    this.stride = pair('Conv2d', 'stride', options.stride ?? 1, 1);
    this.dilation = pair('Conv2d', 'dilation', options.dilation ?? 1, 1);
    this.padding = resolvePadding(options.padding ?? 0, this.kernelSize, this.dilation);
    this.groups = checkInteger('Conv2d', 'groups', options.groups ?? 1, 1);
    if (this.inChannels % this.groups !== 0 || this.outChannels % this.groups !== 0) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `Conv2d: ${this.inChannels} input and ${this.outChannels} output channels do not split into ${this.groups} groups; ` +
          'groups must divide both',
      );
    }
    const shape = [...this.kernelSize, this.inChannels / this.groups, this.outChannels];
    this.weight = new Parameter(
      initialValue('Conv2d', 'weightInitializer', options.weightInitializer ?? defaultWeight, shape),
    );
    const { biasInitializer = defaultBias(shape) } = options;
    this.bias =
      (options.bias ?? true)
        ? new Parameter(initialValue('Conv2d', 'biasInitializer', biasInitializer, [this.outChannels]), {
            decay: false,
          })
        : undefined;
  }

  override forward(input: Tensor): Tensor {
    return this.convolve(input, this.weight);
  }

  /** The convolution by a weight in place of the stored one. */
  protected convolve(input: Tensor, weight: Tensor): Tensor {
    return conv2d(input, weight, this.bias, {
      stride: this.stride,
      padding: this.padding,
      dilation: this.dilation,
      groups: this.groups,
    });
  }

  override multiplyAdds(_input: Tensor, output: Tensor): number {
    const [height, width] = this.kernelSize;
    return output.size * height * width * (this.inChannels / this.groups);
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
      groups: this.groups === 1 ? undefined : this.groups,
      bias: this.bias === undefined ? false : undefined,
    });
  }
}

function resolvePadding(
  padding: Pair | 'same',
  kernelSize: readonly [number, number],
  dilation: readonly [number, number],
): readonly [number, number] {
  if (typeof padding === 'string' && padding !== 'same') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `Conv2d: padding is ${show(padding)}; give 'same', a whole number of at least 0, or two of them`,
    );
  }
  if (padding !== 'same') return pair('Conv2d', 'padding', padding, 0);
  if (kernelSize.some((size) => size % 2 === 0)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `Conv2d: padding 'same' needs an odd kernel, given ${formatPair(kernelSize)}; give the padding as a number`,
    );
  }
  return [((kernelSize[0] - 1) / 2) * dilation[0], ((kernelSize[1] - 1) / 2) * dilation[1]];
}
