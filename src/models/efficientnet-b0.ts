import {
  type ActivationName,
  Dropout,
  kaimingNormal,
  Module,
  type Normalization,
  type NormalizationName,
  NormalizedLayers,
} from '../nn';
import { checkInteger } from '../nn/check';
import { checkOptions, optionNames } from '../options';
import type { Tensor } from '../tensor';
import { convolutionUnit, inProportion } from './convolution-unit';
import { InvertedBottleneck } from './inverted-bottleneck';

/** Options of {@link efficientnetB0}. */
export interface EfficientnetB0Options {
  /** Channels of the first convolution; all other layers are in proportion. Default 32. */
  readonly width?: number;
  /** Number of classes. Default 1000. */
  readonly classes?: number;
  /** Normalization method, by name or as an object. Default `'batch'`. */
  readonly norm?: NormalizationName | Normalization;
  /** Activation. Default `'silu'`. */
  readonly activation?: ActivationName;
  /** Channels of the images. Default 3. */
  readonly inChannels?: number;
  /** Chance that a feature in front of the classifier is set to 0. Default 0.2. */
  readonly dropout?: number;
  /** Chance that the last residual branch is left out for a sample; earlier ones in proportion to their place. Default 0.2. */
  readonly stochasticDepth?: number;
}

interface Stage {
  readonly expansion: number;
  readonly kernelSize: number;
  readonly channels: number;
  readonly blocks: number;
  readonly stride: number;
}

/** The stages of inverted bottlenecks (Tan and Le 2019, table 1, stages 2 to 8). */
const stages: readonly Stage[] = [
  { expansion: 1, kernelSize: 3, channels: 16, blocks: 1, stride: 1 },
  { expansion: 6, kernelSize: 3, channels: 24, blocks: 2, stride: 2 },
  { expansion: 6, kernelSize: 5, channels: 40, blocks: 2, stride: 2 },
  { expansion: 6, kernelSize: 3, channels: 80, blocks: 3, stride: 2 },
  { expansion: 6, kernelSize: 5, channels: 112, blocks: 3, stride: 1 },
  { expansion: 6, kernelSize: 5, channels: 192, blocks: 4, stride: 2 },
  { expansion: 6, kernelSize: 3, channels: 320, blocks: 1, stride: 1 },
];

const totalBlocks = stages.reduce((sum, stage) => sum + stage.blocks, 0);

const efficientnetB0Options = optionNames<EfficientnetB0Options>({
  width: true,
  classes: true,
  norm: true,
  activation: true,
  inChannels: true,
  dropout: true,
  stochasticDepth: true,
});

/** EfficientNet-B0; see {@link efficientnetB0}. */
export class EfficientnetB0 extends Module {
  readonly stem: Module;
  readonly blocks: readonly Module[];
  readonly head: Module;
  readonly pool: Module;
  readonly dropout: Module;
  /** The last layer. Another one may take its place. */
  classifier: Module;

  constructor(options: EfficientnetB0Options) {
    super();
    checkOptions('efficientnetB0', options, efficientnetB0Options);
    const { width = 32, classes = 1000, norm = 'batch', activation = 'silu', inChannels = 3 } = options;
    const { stochasticDepth = 0.2, dropout = 0.2 } = options;
    checkInteger('efficientnetB0', 'width', width, 1);
    checkInteger('efficientnetB0', 'classes', classes, 1);
    const build = new NormalizedLayers({ norm, activation, weightInitializer: kaimingNormal() });

    this.stem = convolutionUnit(build, {
      inChannels,
      outChannels: width,
      kernelSize: 3,
      stride: 2,
      padding: 1,
      role: 'stem',
    });
    const blocks: Module[] = [];
    let current = width;
    for (const [stage, { expansion, kernelSize, channels, blocks: count, stride }] of stages.entries()) {
      const outChannels = inProportion(channels, width, 32);
      for (let block = 0; block < count; block += 1) {
        blocks.push(
          new InvertedBottleneck({
            build,
            inChannels: current,
            outChannels,
            expansion,
            kernelSize,
            stride: block === 0 ? stride : 1,
            stage,
            block,
            activation,
            dropRate: (stochasticDepth * blocks.length) / totalBlocks,
          }),
        );
        current = outChannels;
      }
    }
    this.blocks = blocks;
    const features = inProportion(1280, width, 32);
    this.head = convolutionUnit(build, { inChannels: current, outChannels: features, kernelSize: 1 });
    this.dropout = new Dropout({ rate: dropout });
    this.pool = build.globalPool(features);
    this.classifier = build.linear({ inFeatures: features, outFeatures: classes }, 'classifier');
  }

  override forward(input: Tensor): Tensor {
    let value = this.stem.call(input);
    for (const block of this.blocks) value = block.call(value);
    return this.classifier.call(this.dropout.call(this.pool.call(this.head.call(value))));
  }
}

/**
 * EfficientNet-B0 (Tan and Le 2019, table 1): a 3×3 convolution of step 2, 16 inverted bottlenecks with squeeze and excitation, a 1×1
 * convolution to 1280 channels, global average pooling, dropout and a linear classifier. Weights start as He normal. Maps are padded
 * alike on all sides, as in torchvision; the original pads strided convolutions on the lower right only.
 *
 * With batch normalization on 224×224×3: 5,288,548 parameters and 386 million multiply-adds (the paper says 0.39 billion). Input
 * `[batch, height, width, inChannels]` of any size, output logits `[batch, classes]`.
 */
export function efficientnetB0(options: EfficientnetB0Options = {}): EfficientnetB0 {
  return new EfficientnetB0(options);
}
