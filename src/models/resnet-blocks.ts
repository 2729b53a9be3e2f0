import { Module, type NormalizedLayers, type ResidualPair, type ResidualSum } from '../nn';
import type { Tensor } from '../tensor';
import { convolutionUnit } from './convolution-unit';
import { SubsampleShortcut } from './subsample-shortcut';

/** How a residual block passes its input on where the shape changes. */
export type ShortcutKind =
  /** Option A of He et al. 2016: every second pixel, with zeros for the new channels; no parameters. */
  | 'A'
  /**
   * A 1×1 convolution of the block's input: option B. With a normalization behind it in version 1, as in torchvision and timm; without
   * one in version 2, where the sum is normalized by the next block.
   */
  | 'projection';

/** Options of one residual block. */
export interface BlockOptions {
  /** Where the block's layers come from. */
  readonly build: NormalizedLayers;
  /** Channels of the block's input. */
  readonly inChannels: number;
  /** Channels of the convolutions inside the block. */
  readonly channels: number;
  /** Channels of the block's output. */
  readonly outChannels: number;
  /** Step of the block's first convolution. */
  readonly stride: number;
  /** Number of the stage, from 0. */
  readonly stage: number;
  /** Number of the block in its stage, from 0. */
  readonly block: number;
  /** How the input is passed on where the shape changes. */
  readonly shortcut: ShortcutKind;
  /**
   * Which convolution of a bottleneck makes the step: the first 1×1, or the 3×3, which sees every pixel and costs more. Default
   * `'first'`.
   */
  readonly strideOn?: 'first' | 'middle';
}

/** The branch-independent parts of a block: its addition and its shortcut. */
abstract class ResidualBlock extends Module {
  /** The addition. */
  readonly sum: ResidualSum;
  /** What passes the input on where the shape changes; `undefined` for the identity. */
  readonly shortcut: Module | undefined;

  constructor(options: BlockOptions, normalizedShortcut: boolean) {
    super();
    const { build, inChannels, outChannels, stride, stage, block } = options;
    const transition = stride !== 1 || inChannels !== outChannels;
    this.sum = build.residual({ channels: outChannels, stage, block, transition });
    this.shortcut = transition ? createShortcut(options, normalizedShortcut) : undefined;
  }

  /** The shortcut's end, given the block's input and what the addition made of it. */
  protected pass(input: Tensor, entered: Tensor): Tensor {
    return this.shortcut?.call(entered) ?? input;
  }
}

function createShortcut(options: BlockOptions, normalized: boolean): Module {
  const { build, inChannels, outChannels, stride } = options;
  if (options.shortcut === 'A') return new SubsampleShortcut({ inChannels, outChannels, stride });
  const projection = { inChannels, outChannels, kernelSize: 1, stride };
  return normalized
    ? convolutionUnit(build, { ...projection, role: 'shortcut', activation: 'none' })
    : build.conv2d(projection, 'shortcut');
}

/** The steps of a bottleneck's first and second convolution. */
function bottleneckStrides({ stride, strideOn = 'first' }: BlockOptions): readonly [first: number, middle: number] {
  return strideOn === 'first' ? [stride, 1] : [1, stride];
}

/** Block of ResNet v1: conv, norm, activation, conv, norm, then activation of the sum (He et al. 2016a, figure 2). */
export class BasicBlock extends ResidualBlock {
  readonly conv1: Module;
  readonly norm1: Module;
  readonly conv2: Module;
  readonly norm2: Module<ResidualPair>;

  constructor(options: BlockOptions) {
    super(options, true);
    const { build, inChannels, channels, outChannels, stride } = options;
    this.conv1 = build.conv2d({ inChannels, outChannels: channels, kernelSize: 3, stride, padding: 1 });
    this.norm1 = build.unit({ channels });
    this.conv2 = build.conv2d({ inChannels: channels, outChannels, kernelSize: 3, padding: 1 });
    this.norm2 = build.sumUnit({ channels: outChannels }, this.sum);
  }

  override forward(input: Tensor): Tensor {
    const entered = this.sum.enter(input);
    const hidden = this.norm1.call(this.conv1.call(entered));
    return this.norm2.call([this.conv2.call(hidden), this.pass(input, entered)]);
  }
}

/** Bottleneck block of ResNet v1: a 1×1, a 3×3 and a 1×1 convolution (He et al. 2016a, figure 5). */
export class Bottleneck extends ResidualBlock {
  readonly conv1: Module;
  readonly norm1: Module;
  readonly conv2: Module;
  readonly norm2: Module;
  readonly conv3: Module;
  readonly norm3: Module<ResidualPair>;

  constructor(options: BlockOptions) {
    super(options, true);
    const { build, inChannels, channels, outChannels } = options;
    const [first, middle] = bottleneckStrides(options);
    this.conv1 = build.conv2d({ inChannels, outChannels: channels, kernelSize: 1, stride: first });
    this.norm1 = build.unit({ channels });
    this.conv2 = build.conv2d({
      inChannels: channels,
      outChannels: channels,
      kernelSize: 3,
      stride: middle,
      padding: 1,
    });
    this.norm2 = build.unit({ channels });
    this.conv3 = build.conv2d({ inChannels: channels, outChannels, kernelSize: 1 });
    this.norm3 = build.sumUnit({ channels: outChannels }, this.sum);
  }

  override forward(input: Tensor): Tensor {
    const entered = this.sum.enter(input);
    const first = this.norm1.call(this.conv1.call(entered));
    const second = this.norm2.call(this.conv2.call(first));
    return this.norm3.call([this.conv3.call(second), this.pass(input, entered)]);
  }
}

/**
 * Block of ResNet v2: norm and activation in front of each of two 3×3 convolutions; nothing after the sum (He et al. 2016b,
 * figure 4e). The very first block has no norm of its own, because the stem ends with one.
 */
export class PreActivationBlock extends ResidualBlock {
  readonly norm1: Module | undefined;
  readonly conv1: Module;
  readonly norm2: Module;
  readonly conv2: Module;

  constructor(options: BlockOptions) {
    super(options, false);
    const { build, inChannels, channels, outChannels, stride, stage, block } = options;
    this.norm1 = stage === 0 && block === 0 ? undefined : build.unit({ channels: inChannels });
    this.conv1 = build.conv2d({ inChannels, outChannels: channels, kernelSize: 3, stride, padding: 1 });
    this.norm2 = build.unit({ channels });
    this.conv2 = build.conv2d({ inChannels: channels, outChannels, kernelSize: 3, padding: 1 });
  }

  override forward(input: Tensor): Tensor {
    const entered = this.sum.enter(input);
    const hidden = this.conv1.call(this.norm1?.call(entered) ?? entered);
    return this.sum.call([this.conv2.call(this.norm2.call(hidden)), this.pass(input, entered)]);
  }
}

/** Bottleneck block of ResNet v2: norm and activation in front of a 1×1, a 3×3 and a 1×1 convolution. */
export class PreActivationBottleneck extends ResidualBlock {
  readonly norm1: Module | undefined;
  readonly conv1: Module;
  readonly norm2: Module;
  readonly conv2: Module;
  readonly norm3: Module;
  readonly conv3: Module;

  constructor(options: BlockOptions) {
    super(options, false);
    const { build, inChannels, channels, outChannels, stage, block } = options;
    const [first, middle] = bottleneckStrides(options);
    this.norm1 = stage === 0 && block === 0 ? undefined : build.unit({ channels: inChannels });
    this.conv1 = build.conv2d({ inChannels, outChannels: channels, kernelSize: 1, stride: first });
    this.norm2 = build.unit({ channels });
    this.conv2 = build.conv2d({
      inChannels: channels,
      outChannels: channels,
      kernelSize: 3,
      stride: middle,
      padding: 1,
    });
    this.norm3 = build.unit({ channels });
    this.conv3 = build.conv2d({ inChannels: channels, outChannels, kernelSize: 1 });
  }

  override forward(input: Tensor): Tensor {
    const entered = this.sum.enter(input);
    const first = this.conv1.call(this.norm1?.call(entered) ?? entered);
    const second = this.conv2.call(this.norm2.call(first));
    return this.sum.call([this.conv3.call(this.norm3.call(second)), this.pass(input, entered)]);
  }
}
