import {
  type ActivationName,
  kaimingNormal,
  Module,
  type Normalization,
  type NormalizationName,
  NormalizedLayers,
  Sequential,
} from '../nn';
import { checkInteger } from '../nn/check';
import { checkOptions, optionNames } from '../options';
import type { Tensor } from '../tensor';
import { convolutionUnit, inProportion } from './convolution-unit';

/** Options of {@link mobilenetV1}. */
export interface MobilenetV1Options {
  /** Channels of the first convolution, 32 times the paper's width multiplier; all other layers are in proportion. Default 32. */
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

/** Output channels and step of each depthwise separable block (Howard et al. 2017, table 1). */
const blocks: readonly (readonly [channels: number, stride: number])[] = [
  [64, 1],
  [128, 2],
  [128, 1],
  [256, 2],
  [256, 1],
  [512, 2],
  [512, 1],
  [512, 1],
  [512, 1],
  [512, 1],
  [512, 1],
  [1024, 2],
  [1024, 1],
];

const mobilenetV1Options = optionNames<MobilenetV1Options>({
  width: true,
  classes: true,
  norm: true,
  activation: true,
  inChannels: true,
});

/** MobileNet; see {@link mobilenetV1}. */
export class MobilenetV1 extends Module {
  readonly stem: Module;
  readonly blocks: readonly Module[];
  readonly pool: Module;
  /** The last layer. Another one may take its place. */
  classifier: Module;

  constructor(options: MobilenetV1Options) {
    super();
    checkOptions('mobilenetV1', options, mobilenetV1Options);
    const { width = 32, classes = 1000, norm = 'batch', activation = 'relu', inChannels = 3 } = options;
    checkInteger('mobilenetV1', 'width', width, 1);
    checkInteger('mobilenetV1', 'classes', classes, 1);
    const build = new NormalizedLayers({ norm, activation, weightInitializer: kaimingNormal() });

    this.stem = convolutionUnit(build, {
      inChannels,
      outChannels: width,
      kernelSize: 3,
      stride: 2,
      padding: 1,
      role: 'stem',
    });
    let current = width;
    this.blocks = blocks.map(([channels, stride]) => {
      const outChannels = inProportion(channels, width, 32);
      const depthwise = convolutionUnit(build, {
        inChannels: current,
        outChannels: current,
        kernelSize: 3,
        stride,
        padding: 1,
        groups: current,
      });
      const pointwise = convolutionUnit(build, { inChannels: current, outChannels, kernelSize: 1 });
      current = outChannels;
      return new Sequential({ depthwise, pointwise });
    });
    this.pool = build.globalPool(current);
    this.classifier = build.linear({ inFeatures: current, outFeatures: classes }, 'classifier');
  }

  override forward(input: Tensor): Tensor {
    let value = this.stem.call(input);
    for (const block of this.blocks) value = block.call(value);
    return this.classifier.call(this.pool.call(value));
  }
}

/**
 * MobileNet (Howard et al. 2017): a 3×3 convolution of step 2 and 13 depthwise separable blocks, each a 3×3 depthwise and a 1×1
 * convolution with normalization and activation behind both; global average pooling and a linear classifier. Weights start as He normal.
 *
 * With batch normalization on 224×224×3: 4,231,976 parameters and 569 million multiply-adds. Input `[batch, height, width, inChannels]`
 * of any size, output logits `[batch, classes]`.
 */
export function mobilenetV1(options: MobilenetV1Options = {}): MobilenetV1 {
  return new MobilenetV1(options);
}
