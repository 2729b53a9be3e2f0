import { BatchNorm, type BinaryConv2d, Module, type ResidualPair, ResidualSum, RPReLU, ScaledResidualSum } from '../nn';
import { checkOptions, optionNames } from '../options';
import type { Tensor } from '../tensor';
import { type BinaryBuild, normBehind } from './binary-options';
import { DownsampleShortcut, DuplicateChannels, halvingPool } from './binary-shortcuts';

/** Options of {@link BinaryBlock}. */
export interface BinaryBlockOptions {
  /** What the blocks of the network have in common. */
  readonly binary: BinaryBuild;
  /** Channels of the input. */
  readonly inChannels: number;
  /** Channels of the output. */
  readonly outChannels: number;
  /** Height and width of the binary convolution's filters. Default 3. */
  readonly kernelSize?: 1 | 3;
  /** Step of the block: 1 or 2. Default 1. */
  readonly stride?: number;
  /**
   * How the input is passed on where the shape changes: by {@link DownsampleShortcut}, or without weights, by pooling and by repeating
   * the channels as ReActNet-A. Default `'convolution'`.
   */
  readonly shortcut?: 'convolution' | 'plain';
  /** ReActNet's learned shifts: RSign in front of the convolution and RPReLU behind the sum. Default `true`. */
  readonly shifts?: boolean;
  /** Number of the stage, from 0. */
  readonly stage: number;
  /** Number of the block in its stage, from 0. */
  readonly block: number;
  /** Whether the block, or the one that this is half of, changes the shape. Default: whether this one does. */
  readonly transition?: boolean;
  /** Which half of a block of two sums this is. */
  readonly half?: 'first' | 'second';
}

const binaryBlockOptions = optionNames<BinaryBlockOptions>({
  binary: true,
  inChannels: true,
  outChannels: true,
  kernelSize: true,
  stride: true,
  shortcut: true,
  shifts: 'boolean',
  stage: true,
  block: true,
  transition: 'boolean',
  half: true,
});

/**
 * The one block that all binary networks here are made of: one binary convolution around which the real values pass (Liu et al. 2018,
 * Bi-Real Net).
 *
 * ```
 * entered  = x / β
 * branch   = norm(conv(sign(entered + shift)))
 * out      = activation(α · branch + r)      r = x, shortcut(entered), or x twice
 * ```
 *
 * Where the shapes of x and `out` are the same, r is x itself, without the factor; a shortcut of pooling or convolution starts from
 * `entered` (as the code of Chen et al. 2021 does). Everything is a public property, so that an exporter can walk the block.
 */
export class BinaryBlock extends Module {
  /** The binary convolution: its signs with the learned shift (`conv.shift`, with shifts), latent weight, gain and padding. */
  readonly conv: BinaryConv2d;
  /** The normalization behind the convolution (`BatchNorm` for `batch`); `undefined` if the method has none. */
  readonly norm: Module<Tensor | ResidualPair> | undefined;
  /** The residual sum: a `ScaledResidualSum` for `bn-free`, else a plain one. */
  readonly sum: ResidualSum;
  /**
   * What passes the input on: `undefined` for the identity; a {@link DownsampleShortcut}; an `AvgPool2d`; or {@link DuplicateChannels},
   * which is given x and not `entered`.
   */
  readonly shortcut: Module | undefined;
  /** The activation behind the sum, with shifts; `undefined` without: the next block's sign is the activation then. */
  readonly activation: RPReLU | undefined;
  /** α, the factor of the branch; 1 where the method has none. */
  readonly alpha: number;
  /** β, what the input is divided by; 1 where the method has none. */
  readonly beta: number;

  constructor(options: BinaryBlockOptions) {
    super();
    checkOptions('BinaryBlock', options, binaryBlockOptions);
    const { binary, inChannels, outChannels, kernelSize = 3, stride = 1, shifts = true, stage, block, half } = options;
    const { build, latent, signs, padding } = binary;
    const changes = stride !== 1 || inChannels !== outChannels;
    this.sum = build.residual({
      channels: outChannels,
      stage,
      block,
      transition: options.transition ?? changes,
      binary: true,
      ...(half === undefined ? {} : { half }),
    });
    const scaled = this.sum instanceof ScaledResidualSum ? this.sum : undefined;
    this.alpha = scaled?.alpha ?? 1;
    this.beta = scaled?.beta ?? 1;
    this.conv = build.binaryConv2d({
      ...latent,
      ...signs,
      activation: shifts ? 'rsign' : 'sign',
      inChannels,
      outChannels,
      kernelSize,
      stride,
      padding: (kernelSize - 1) / 2,
      paddingValue: padding,
    });
    this.norm = normBehind(build, outChannels) as Module<Tensor | ResidualPair> | undefined;
    this.shortcut = changes ? createShortcut(options) : undefined;
    this.activation = shifts ? new RPReLU({ channels: outChannels }) : undefined;
  }

  override forward(input: Tensor): Tensor {
    const entered = this.sum.enter(input);
    const branch = this.conv.call(entered);
    const from = this.shortcut instanceof DuplicateChannels ? input : entered;
    const passed = this.shortcut?.call(from) ?? input;
    const value = this.#add(branch, passed);
    return this.activation?.call(value) ?? value;
  }

  #add(branch: Tensor, passed: Tensor): Tensor {
    if (this.norm === undefined) return this.sum.call([branch, passed]);
    // Batch norm and a plain sum in one pass.
    if (this.norm instanceof BatchNorm && this.sum.constructor === ResidualSum) return this.norm.call([branch, passed]);
    return this.sum.call([this.norm.call(branch), passed]);
  }
}

function createShortcut({ binary, shortcut = 'convolution', ...options }: BinaryBlockOptions): Module {
  const { inChannels, outChannels, stride = 1 } = options;
  if (shortcut === 'plain') return stride === 1 ? new DuplicateChannels() : halvingPool();
  const { build, latent, downsample } = binary;
  return new DownsampleShortcut({ build, latent, downsample, inChannels, outChannels, stride });
}
