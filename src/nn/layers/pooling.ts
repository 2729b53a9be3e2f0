import { checkOptions, type OptionNames, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { type Pair, pair } from '../../tensor/operations/pair';
import { avgPool2d, globalAvgPool, maxPool2d } from '../../tensor/operations/pooling';
import { formatOptions, formatPair } from '../check';
import { Module } from '../module';
import { carryState } from '../statistics-chain';

/** Options of {@link MaxPool2d}; {@link AvgPool2d} has one more. */
export interface Pool2dOptions {
  /** Height and width of the window, in pixels. */
  readonly kernelSize: Pair;
  /** Step between windows, in pixels. Default: `kernelSize`. */
  readonly stride?: Pair;
  /** Rows and columns added on each side, at most half the window; they never win a maximum. Default 0. */
  readonly padding?: Pair;
  /** Whether a last window that hangs over the padded edge counts. Default `false`. */
  readonly ceilMode?: boolean;
}

/** Options of {@link AvgPool2d}. */
export interface AvgPool2dOptions extends Pool2dOptions {
  /** Whether padding counts in the divisor. Default `true`. */
  readonly countIncludePadding?: boolean;
}

const pool2dNames: OptionNames<Pool2dOptions> = { kernelSize: true, stride: true, padding: true, ceilMode: 'boolean' };
const pool2dOptions = optionNames<Pool2dOptions>(pool2dNames);
const avgPool2dOptions = optionNames<AvgPool2dOptions>({ ...pool2dNames, countIncludePadding: 'boolean' });

abstract class Pool2d extends Module {
  /** `[height, width]` of the window. */
  readonly kernelSize: readonly [number, number];
  /** `[vertical, horizontal]` step. */
  readonly stride: readonly [number, number];
  /** `[vertical, horizontal]` border added on each side. */
  readonly padding: readonly [number, number];
  /** Whether a last window that hangs over the padded edge counts. */
  readonly ceilMode: boolean;

  constructor(owner: string, options: Pool2dOptions) {
    super();
    this.kernelSize = pair(owner, 'kernelSize', options.kernelSize, 1);
    this.stride = pair(owner, 'stride', options.stride ?? options.kernelSize, 1);
    this.padding = pair(owner, 'padding', options.padding ?? 0, 0);
    this.ceilMode = options.ceilMode ?? false;
  }

  override describe(): string {
    return formatOptions({
      kernelSize: formatPair(this.kernelSize),
      stride: formatPair(this.stride),
      padding: this.padding[0] === 0 && this.padding[1] === 0 ? undefined : formatPair(this.padding),
      ceilMode: this.ceilMode ? true : undefined,
    });
  }
}

/** Largest value of each window. `[batch, height, width, channels]` to `[batch, outHeight, outWidth, channels]`. */
export class MaxPool2d extends Pool2d {
  constructor(options: Pool2dOptions) {
    checkOptions('MaxPool2d', options, pool2dOptions);
    super('MaxPool2d', options);
  }

  override forward(input: Tensor): Tensor {
    const { kernelSize, stride, padding, ceilMode } = this;
    return maxPool2d(input, { kernelSize, stride, padding, ceilMode });
  }
}

/** Mean of each window. `[batch, height, width, channels]` to `[batch, outHeight, outWidth, channels]`. */
export class AvgPool2d extends Pool2d {
  /** Whether padding counts in the divisor. */
  readonly countIncludePadding: boolean;

  constructor(options: AvgPool2dOptions) {
    checkOptions('AvgPool2d', options, avgPool2dOptions);
    super('AvgPool2d', options);
    this.countIncludePadding = options.countIncludePadding ?? true;
  }

  override forward(input: Tensor): Tensor {
    const { kernelSize, stride, padding, ceilMode, countIncludePadding } = this;
    return carryState(input, avgPool2d(input, { kernelSize, stride, padding, ceilMode, countIncludePadding }));
  }
}

/** Mean over all pixels. `[batch, height, width, channels]` to `[batch, channels]`. */
export class GlobalAvgPool extends Module {
  override forward(input: Tensor): Tensor {
    return carryState(input, globalAvgPool(input));
  }
}
