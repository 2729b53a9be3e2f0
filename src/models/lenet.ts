import {
  type ActivationName,
  Flatten,
  kaimingNormal,
  MaxPool2d,
  Module,
  type Normalization,
  type NormalizationName,
  NormalizedLayers,
} from '../nn';
import { checkInteger } from '../nn/check';
import { checkOptions, optionNames } from '../options';
import type { Tensor } from '../tensor';
import { checkImageShape } from './image-shape';

/** Options of {@link lenet}. */
export interface LenetOptions {
  /** Shape of one image, `[height, width, channels]`, at least 8 pixels each way. Default `[28, 28, 1]`. */
  readonly inputShape?: readonly number[];
  /** Number of classes. Default 10. */
  readonly classes?: number;
  /** Normalization method, by name or as an object. Default `'batch'`. */
  readonly norm?: NormalizationName | Normalization;
  /** Activation of the hidden layers. Default `'relu'`; the original used a scaled tanh. */
  readonly activation?: ActivationName;
}

const lenetOptions = optionNames<LenetOptions>({ inputShape: true, classes: true, norm: true, activation: true });

/** LeNet-5; see {@link lenet}. */
export class Lenet extends Module {
  readonly conv1: Module;
  readonly norm1: Module;
  readonly pool1 = new MaxPool2d({ kernelSize: 2 });
  readonly conv2: Module;
  readonly norm2: Module;
  readonly pool2 = new MaxPool2d({ kernelSize: 2 });
  readonly flatten = new Flatten();
  readonly linear1: Module;
  readonly norm3: Module;
  readonly linear2: Module;
  readonly norm4: Module;
  /** The last layer. Another one may take its place. */
  classifier: Module;

  constructor(options: LenetOptions) {
    super();
    checkOptions('lenet', options, lenetOptions);
    const { inputShape = [28, 28, 1], classes = 10, norm = 'batch', activation = 'relu' } = options;
    const [height, width, channels] = checkImageShape('lenet', inputShape, 8);
    checkInteger('lenet', 'classes', classes, 1);
    const [first, second] = paddings(Math.min(height, width));
    const mapSize = (size: number) => halved(halved(size, first), second);
    const features = mapSize(height) * mapSize(width) * 16;

    const build = new NormalizedLayers({ norm, activation, weightInitializer: kaimingNormal() });
    this.conv1 = build.conv2d({ inChannels: channels, outChannels: 6, kernelSize: 5, padding: first }, 'stem');
    this.norm1 = build.unit({ channels: 6 });
    this.conv2 = build.conv2d({ inChannels: 6, outChannels: 16, kernelSize: 5, padding: second });
    this.norm2 = build.unit({ channels: 16 });
    this.linear1 = build.linear({ inFeatures: features, outFeatures: 120 });
    this.norm3 = build.unit({ channels: 120, spatial: false });
    this.linear2 = build.linear({ inFeatures: 120, outFeatures: 84 });
    this.norm4 = build.unit({ channels: 84, spatial: false });
    this.classifier = build.linear({ inFeatures: 84, outFeatures: classes }, 'classifier');
  }

  override forward(input: Tensor): Tensor {
    const first = this.pool1.call(this.norm1.call(this.conv1.call(input)));
    const second = this.pool2.call(this.norm2.call(this.conv2.call(first)));
    const hidden = this.norm3.call(this.linear1.call(this.flatten.call(second)));
    return this.classifier.call(this.norm4.call(this.linear2.call(hidden)));
  }
}

/** Padding of both 5×5 convolutions: as in the original for 28 and 32 pixels; smaller maps are padded so that they stay. */
function paddings(size: number): readonly [first: number, second: number] {
  const first = size < 32 ? 2 : 0;
  return [first, halved(size, first) < 10 ? 2 : 0];
}

/** Size of a map after a 5×5 convolution with this padding and a 2×2 pooling. */
function halved(size: number, padding: number): number {
  return Math.floor((size + 2 * padding - 4) / 2);
}

/**
 * LeNet-5 (LeCun et al. 1998) with max pooling: two 5×5 convolutions (6 and 16 channels) and three linear layers (120, 84,
 * `classes`), with normalization and activation after each but the last. Weights start as He normal. Input
 * `[batch, height, width, channels]`, output logits `[batch, classes]`. 61,706 parameters on 28×28×1 without normalization.
 */
export function lenet(options: LenetOptions = {}): Lenet {
  return new Lenet(options);
}
