import {
  type ActivationName,
  createActivation,
  Dropout,
  Flatten,
  kaimingNormal,
  MaxPool2d,
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
import { checkImageShape } from './image-shape';

/** Options of {@link vggA}. */
export interface VggAOptions {
  /** Shape of one image, `[height, width, channels]`, at least 32 pixels each way. Default `[224, 224, 3]`. */
  readonly inputShape?: readonly number[];
  /** Channels of the first convolution; all other layers are in proportion. Default 64. */
  readonly width?: number;
  /** Number of classes. Default 1000. */
  readonly classes?: number;
  /** Normalization method, by name or as an object. Default `'batch'`. */
  readonly norm?: NormalizationName | Normalization;
  /**
   * Whether the two hidden linear layers are normalized, too, as Singh and Krishnan 2020 do for Filter Response Normalization. Default
   * `false`, as in torchvision.
   */
  readonly normalizeLinear?: boolean;
  /** Activation. Default `'relu'`. */
  readonly activation?: ActivationName;
  /** Chance that a hidden feature of a linear layer is set to 0. Default 0.5. */
  readonly dropout?: number;
}

/** Convolutions of each stage (Simonyan and Zisserman 2015, table 1, column A). */
const stages = [[64], [128], [256, 256], [512, 512], [512, 512]];

const vggAOptions = optionNames<VggAOptions>({
  inputShape: true,
  width: true,
  classes: true,
  norm: true,
  normalizeLinear: 'boolean',
  activation: true,
  dropout: true,
});

/** VGG with 11 weight layers; see {@link vggA}. */
export class VggA extends Module {
  readonly stages: readonly Module[];
  readonly pool = new MaxPool2d({ kernelSize: 2 });
  readonly flatten = new Flatten();
  readonly linear1: Module;
  readonly norm1: Module;
  readonly dropout1: Module;
  readonly linear2: Module;
  readonly norm2: Module;
  readonly dropout2: Module;
  /** The last layer. Another one may take its place. */
  classifier: Module;

  constructor(options: VggAOptions) {
    super();
    checkOptions('vggA', options, vggAOptions);
    const { inputShape = [224, 224, 3], width = 64, classes = 1000, norm = 'batch', activation = 'relu' } = options;
    const [height, across, inChannels] = checkImageShape('vggA', inputShape, 32);
    checkInteger('vggA', 'width', width, 1);
    checkInteger('vggA', 'classes', classes, 1);
    const build = new NormalizedLayers({ norm, activation, weightInitializer: kaimingNormal() });

    let current = inChannels;
    this.stages = stages.map((convolutions, stage) => {
      const units = convolutions.map((channels, index) => {
        const outChannels = inProportion(channels, width, 64);
        const unit = convolutionUnit(build, {
          inChannels: current,
          outChannels,
          kernelSize: 3,
          padding: 1,
          bias: true,
          role: stage === 0 && index === 0 ? 'stem' : 'body',
        });
        current = outChannels;
        return unit;
      });
      return new Sequential(units);
    });
    const features = Math.floor(height / 32) * Math.floor(across / 32) * current;
    const hidden = inProportion(4096, width, 64);
    const rate = options.dropout ?? 0.5;
    // Methods that act elsewhere than between weight and activation do so here, too.
    const whole = (options.normalizeLinear ?? false) || build.normalization.preActivation === undefined;
    const behind = () =>
      whole ? build.unit({ channels: hidden, spatial: false }) : createActivation(activation, hidden);
    this.linear1 = build.linear({ inFeatures: features, outFeatures: hidden, bias: true });
    this.norm1 = behind();
    this.dropout1 = new Dropout({ rate });
    this.linear2 = build.linear({ inFeatures: hidden, outFeatures: hidden, bias: true });
    this.norm2 = behind();
    this.dropout2 = new Dropout({ rate });
    this.classifier = build.linear({ inFeatures: hidden, outFeatures: classes }, 'classifier');
  }

  override forward(input: Tensor): Tensor {
    let value = input;
    for (const stage of this.stages) value = this.pool.call(stage.call(value));
    const first = this.dropout1.call(this.norm1.call(this.linear1.call(this.flatten.call(value))));
    return this.classifier.call(this.dropout2.call(this.norm2.call(this.linear2.call(first))));
  }
}

/**
 * VGG with 11 weight layers, configuration A (Simonyan and Zisserman 2015): eight 3×3 convolutions in five stages with max pooling
 * behind each, and three linear layers (4096, 4096, `classes`) with dropout. Convolutions and linear layers keep their bias with every
 * method, as in torchvision. Weights start as He normal.
 *
 * On 224×224×3: 132,863,336 parameters without normalization, 132,868,840 with batch normalization behind the convolutions, 7.61
 * billion multiply-adds. Input `[batch, ...inputShape]`, output logits `[batch, classes]`.
 */
export function vggA(options: VggAOptions = {}): VggA {
  return new VggA(options);
}
