import {
  type ActivationName,
  Module,
  type NormalizedLayers,
  type ResidualSum,
  SqueezeExcitation,
  StochasticDepth,
} from '../nn';
import type { Tensor } from '../tensor';
import { convolutionUnit } from './convolution-unit';

/** Options of {@link InvertedBottleneck}. */
export interface InvertedBottleneckOptions {
  /** Where the block's layers come from. */
  readonly build: NormalizedLayers;
  /** Channels of the block's input. */
  readonly inChannels: number;
  /** Channels of the block's output. */
  readonly outChannels: number;
  /** How many times as many channels there are inside; 1 leaves out the first convolution. */
  readonly expansion: number;
  /** Height and width of the depthwise filters, odd. */
  readonly kernelSize: number;
  /** Step of the depthwise convolution. */
  readonly stride: number;
  /** Number of the stage, from 0. */
  readonly stage: number;
  /** Number of the block in its stage, from 0. */
  readonly block: number;
  /** Activation of the squeeze and excitation. */
  readonly activation: ActivationName;
  /** Chance that the branch is left out for a sample. */
  readonly dropRate: number;
}

/**
 * Inverted bottleneck (Sandler et al. 2018) with squeeze and excitation (Tan et al. 2019): a 1×1 convolution to more channels, a
 * depthwise convolution, a gate for each channel and a 1×1 convolution back, with a normalization but no activation behind it. The
 * input is added where the shape stays.
 */
export class InvertedBottleneck extends Module {
  /** The addition; `undefined` where the shape changes. */
  readonly sum: ResidualSum | undefined;
  readonly expand: Module | undefined;
  readonly depthwise: Module;
  readonly gate: Module;
  readonly project: Module;
  readonly drop: Module;

  constructor(options: InvertedBottleneckOptions) {
    super();
    const { build, inChannels, outChannels, expansion, kernelSize, stride, stage, block } = options;
    const inner = inChannels * expansion;
    if (stride === 1 && inChannels === outChannels) {
      this.sum = build.residual({ channels: outChannels, stage, block, transition: false });
    } else {
      // Without a shortcut nothing of the earlier sums is left: the variance is that of the branch.
      build.context.expectedVariance = 1;
      this.sum = undefined;
    }
    this.expand =
      expansion === 1 ? undefined : convolutionUnit(build, { inChannels, outChannels: inner, kernelSize: 1 });
    this.depthwise = convolutionUnit(build, {
      inChannels: inner,
      outChannels: inner,
      kernelSize,
      stride,
      padding: 'same',
      groups: inner,
    });
    this.gate = new SqueezeExcitation({
      channels: inner,
      hidden: Math.max(1, Math.floor(inChannels / 4)),
      activation: options.activation,
    });
    this.project = convolutionUnit(build, { inChannels: inner, outChannels, kernelSize: 1, activation: 'none' });
    this.drop = new StochasticDepth({ rate: options.dropRate });
  }

  override forward(input: Tensor): Tensor {
    const entered = this.sum?.enter(input) ?? input;
    const expanded = this.expand?.call(entered) ?? entered;
    const branch = this.project.call(this.gate.call(this.depthwise.call(expanded)));
    return this.sum === undefined ? branch : this.sum.call([this.drop.call(branch), input]);
  }
}
