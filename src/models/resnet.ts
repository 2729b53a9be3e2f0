import { EvenkeelError } from '../errors';
import {
  type ActivationName,
  kaimingNormal,
  MaxPool2d,
  Module,
  type Normalization,
  type NormalizationName,
  NormalizedLayers,
} from '../nn';
import { checkInteger } from '../nn/check';
import { checkOptions, optionNames, show } from '../options';
import type { Tensor } from '../tensor';
import { BasicBlock, Bottleneck, PreActivationBlock, PreActivationBottleneck } from './resnet-blocks';

/** The depths of {@link resnet}. */
export type ResnetDepth = 18 | 34 | 50 | 101 | 152;

/** Options of {@link resnet}. */
export interface ResnetOptions {
  /** Number of weight layers. Up to 34 with blocks of two 3×3 convolutions, from 50 on with bottlenecks. */
  readonly depth: ResnetDepth;
  /** 1: activation after the addition (He et al. 2016a); 2: before the convolutions (He et al. 2016b). Default 1. */
  readonly version?: 1 | 2;
  /** Channels of the stem; the stages have 1, 2, 4 and 8 times as many inside their blocks. Default 64. */
  readonly width?: number;
  /** Number of classes. Default 1000. */
  readonly classes?: number;
  /** Normalization method, by name or as an object. Default `'batch'`. */
  readonly norm?: NormalizationName | Normalization;
  /** Activation. Default `'relu'`. */
  readonly activation?: ActivationName;
  /** Channels of the images. Default 3. */
  readonly inChannels?: number;
}

/** Blocks of each stage (He et al. 2016a, table 1). */
const stageBlocks: Readonly<Record<ResnetDepth, readonly number[]>> = {
  18: [2, 2, 2, 2],
  34: [3, 4, 6, 3],
  50: [3, 4, 6, 3],
  101: [3, 4, 23, 3],
  152: [3, 8, 36, 3],
};

/** The depths of {@link resnet}, ascending. */
export const resnetDepths: readonly ResnetDepth[] = [18, 34, 50, 101, 152];

const resnetOptions = optionNames<ResnetOptions>({
  depth: true,
  version: true,
  width: true,
  classes: true,
  norm: true,
  activation: true,
  inChannels: true,
});

/** A residual network for ImageNet; see {@link resnet}. */
export class Resnet extends Module {
  readonly stem: Module;
  readonly stemNorm: Module;
  readonly stemPool = new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 });
  readonly blocks: readonly Module[];
  readonly finalNorm: Module | undefined;
  readonly pool: Module;
  /** The last layer. Another one may take its place. */
  classifier: Module;

  constructor(options: ResnetOptions) {
    super();
    checkOptions('resnet', options, resnetOptions);
    const { depth, version = 1, width = 64, classes = 1000, norm = 'batch', inChannels = 3 } = options;
    const perStage = Object.hasOwn(stageBlocks, depth) ? stageBlocks[depth] : undefined;
    if (perStage === undefined) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `resnet: there is no depth ${show(depth)}; give ${resnetDepths.join(', ')}, or use resnetCifar for other depths`,
      );
    }
    if (version !== 1 && version !== 2) {
      throw new EvenkeelError('INVALID_ARGUMENT', `resnet: version is ${String(version)}; give 1 or 2`);
    }
    checkInteger('resnet', 'width', width, 1);
    checkInteger('resnet', 'classes', classes, 1);
    const bottleneck = depth >= 50;
    const blockClass =
      version === 1
        ? bottleneck
          ? Bottleneck
          : BasicBlock
        : bottleneck
          ? PreActivationBottleneck
          : PreActivationBlock;
    const build = new NormalizedLayers({
      norm,
      activation: options.activation ?? 'relu',
      weightInitializer: kaimingNormal({ mode: 'fanOut' }),
    });

    this.stem = build.conv2d({ inChannels, outChannels: width, kernelSize: 7, stride: 2, padding: 3 }, 'stem');
    this.stemNorm = build.unit({ channels: width });
    const blocks: Module[] = [];
    let current = width;
    for (const [stage, count] of perStage.entries()) {
      const channels = width * 2 ** stage;
      const outChannels = bottleneck ? 4 * channels : channels;
      for (let block = 0; block < count; block += 1) {
        blocks.push(
          new blockClass({
            build,
            inChannels: current,
            channels,
            outChannels,
            stride: stage > 0 && block === 0 ? 2 : 1,
            stage,
            block,
            shortcut: 'projection',
            strideOn: 'middle',
          }),
        );
        current = outChannels;
      }
    }
    this.blocks = blocks;
    this.finalNorm = version === 2 ? build.unit({ channels: current }) : undefined;
    this.pool = build.globalPool(current);
    this.classifier = build.linear({ inFeatures: current, outFeatures: classes }, 'classifier');
  }

  override forward(input: Tensor): Tensor {
    let value = this.stemPool.call(this.stemNorm.call(this.stem.call(input)));
    for (const block of this.blocks) value = block.call(value);
    return this.classifier.call(this.pool.call(this.finalNorm?.call(value) ?? value));
  }
}

/**
 * Residual network for ImageNet (He et al. 2016a, table 1; version 2: He et al. 2016b): a 7×7 convolution of step 2, a 3×3 max pooling
 * of step 2, four stages of residual blocks that halve the map and double the channels, global average pooling and a linear classifier.
 * Where the shape changes, a 1×1 convolution passes the input on (option B), with a normalization behind it in version 1. Bottlenecks
 * make their step in the 3×3 convolution, as torchvision, timm and the authors' later code do, and not in the first 1×1 as the paper.
 * Weights start as He normal by fan out.
 *
 * With batch normalization on 224×224×3:
 *
 * | depth | parameters v1 | parameters v2 | multiply-adds |
 * |---|---|---|---|
 * | 18 | 11,689,512 | 11,687,720 | 1.81 G |
 * | 34 | 21,797,672 | 21,795,880 | 3.66 G |
 * | 50 | 25,557,032 | 25,549,352 | 4.09 G |
 * | 101 | 44,549,160 | 44,541,480 | 7.80 G |
 * | 152 | 60,192,808 | 60,185,128 | 11.51 G |
 *
 * Input `[batch, height, width, inChannels]` of any size, output logits `[batch, classes]`.
 */
export function resnet(options: ResnetOptions): Resnet {
  return new Resnet(options);
}
