import { EvenkeelError } from '../errors';
import {
  type ActivationName,
  type AuxiliaryNetwork,
  AvgPool2d,
  Dropout,
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
import { isGradEnabled, keep, type Tensor } from '../tensor';
import { convolutionUnit, inProportion } from './convolution-unit';
import { InceptionV3Builder } from './inception-v3-blocks';

/** Options of {@link inceptionV3}. */
export interface InceptionV3Options {
  /** Whether there is a second classifier on the 17×17 map, for training only. It needs images of 299×299. Default `true`. */
  readonly auxiliary?: boolean;
  /** Channels of the first convolution; all other layers are in proportion. Default 32. */
  readonly width?: number;
  /** Number of classes. Default 1000. */
  readonly classes?: number;
  /** Normalization method, by name or as an object. Default `'batch'`. */
  readonly norm?: NormalizationName | Normalization;
  /** Activation. Default `'relu'`. */
  readonly activation?: ActivationName;
  /** Channels of the images. Default 3. */
  readonly inChannels?: number;
  /** Chance that a feature in front of the classifier is set to 0. Default 0.2, as in the original. */
  readonly dropout?: number;
}

/** Side of the smallest map that the auxiliary head can take: its 5×5 convolution follows a 5×5 pooling of step 3. */
const auxiliaryMap = 17;

/** The second classifier of Inception-v3: a pooling, two convolutions and a linear layer (Szegedy et al. 2016, figure 8). */
class AuxiliaryHead extends Module {
  readonly pool = new AvgPool2d({ kernelSize: 5, stride: 3 });
  readonly conv1: Module;
  readonly conv2: Module;
  readonly globalPool: Module;
  /** The last layer. Another one may take its place. */
  classifier: Module;

  constructor(build: NormalizedLayers, inChannels: number, width: number, classes: number) {
    super();
    const hidden = inProportion(128, width, 32);
    const features = inProportion(768, width, 32);
    this.conv1 = convolutionUnit(build, { inChannels, outChannels: hidden, kernelSize: 1 });
    this.conv2 = convolutionUnit(build, { inChannels: hidden, outChannels: features, kernelSize: 5, spatial: false });
    this.globalPool = build.globalPool(features);
    this.classifier = build.linear({ inFeatures: features, outFeatures: classes }, 'classifier');
  }

  override forward(input: Tensor): Tensor {
    const [, height = 0, width = 0] = input.shape;
    if (Math.min(height, width) < auxiliaryMap) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `inceptionV3: the auxiliary head needs a map of ${auxiliaryMap} by ${auxiliaryMap}, as images of 299 by 299 give it, and got ` +
          `${height} by ${width}; use larger images, or build the network with auxiliary: false`,
      );
    }
    const features = this.conv2.call(this.conv1.call(this.pool.call(input)));
    return this.classifier.call(this.globalPool.call(features));
  }
}

const inceptionV3Options = optionNames<InceptionV3Options>({
  auxiliary: 'boolean',
  width: true,
  classes: true,
  norm: true,
  activation: true,
  inChannels: true,
  dropout: true,
});

/** Inception-v3; see {@link inceptionV3}. */
export class InceptionV3 extends Module implements AuxiliaryNetwork {
  readonly stem: Module;
  /** The blocks up to the one that the auxiliary head looks at. */
  readonly lower: Module;
  /** The second classifier. */
  readonly auxiliary: Module | undefined;
  /** The blocks behind it. */
  readonly upper: Module;
  readonly pool: Module;
  readonly dropout: Module;
  /** The last layer. Another one may take its place. */
  classifier: Module;
  #auxiliaryLogits: Tensor | undefined;

  constructor(options: InceptionV3Options) {
    super();
    checkOptions('inceptionV3', options, inceptionV3Options);
    const { width = 32, classes = 1000, norm = 'batch', activation = 'relu', inChannels = 3 } = options;
    checkInteger('inceptionV3', 'width', width, 1);
    checkInteger('inceptionV3', 'classes', classes, 1);
    const build = new NormalizedLayers({ norm, activation, weightInitializer: kaimingNormal() });
    const parts = new InceptionV3Builder(build, width);
    const [third, fifth] = [parts.scaled(64), parts.scaled(192)];
    this.stem = new Sequential({
      conv1: convolutionUnit(build, { inChannels, outChannels: width, kernelSize: 3, stride: 2, role: 'stem' }),
      conv2: convolutionUnit(build, { inChannels: width, outChannels: width, kernelSize: 3 }),
      conv3: convolutionUnit(build, { inChannels: width, outChannels: third, kernelSize: 3, padding: 1 }),
      pool1: new MaxPool2d({ kernelSize: 3, stride: 2 }),
      conv4: convolutionUnit(build, { inChannels: third, outChannels: parts.scaled(80), kernelSize: 1 }),
      conv5: convolutionUnit(build, { inChannels: parts.scaled(80), outChannels: fifth, kernelSize: 3 }),
      pool2: new MaxPool2d({ kernelSize: 3, stride: 2 }),
    });

    let current = fifth;
    const follow = ([block, channels]: readonly [Module, number]) => {
      current = channels;
      return block;
    };
    this.lower = new Sequential([
      ...[32, 64, 64].map((pooled) => follow(parts.square(current, pooled))),
      follow(parts.firstReduction(current)),
      ...[128, 160, 160, 192].map((inner) => follow(parts.factorized(current, inner))),
    ]);
    this.auxiliary = (options.auxiliary ?? true) ? new AuxiliaryHead(build, current, width, classes) : undefined;
    this.upper = new Sequential([
      follow(parts.secondReduction(current)),
      follow(parts.wide(current)),
      follow(parts.wide(current)),
    ]);
    this.dropout = new Dropout({ rate: options.dropout ?? 0.2 });
    this.pool = build.globalPool(current);
    this.classifier = build.linear({ inFeatures: current, outFeatures: classes }, 'classifier');
  }

  override forward(input: Tensor): Tensor {
    const middle = this.lower.call(this.stem.call(input));
    this.takeAuxiliaryLogits()?.dispose();
    if (this.training && isGradEnabled() && this.auxiliary !== undefined) {
      this.#auxiliaryLogits = keep(this.auxiliary.call(middle));
    }
    return this.classifier.call(this.dropout.call(this.pool.call(this.upper.call(middle))));
  }

  takeAuxiliaryLogits(): Tensor | undefined {
    const logits = this.#auxiliaryLogits;
    this.#auxiliaryLogits = undefined;
    return logits;
  }

  protected override release(): void {
    this.takeAuxiliaryLogits()?.dispose();
  }
}

/**
 * Inception-v3 (Szegedy et al. 2016, "Rethinking the Inception Architecture", table 1 and figures 5 to 8) with the channels of the
 * authors' code: a stem of five convolutions, three blocks on 35×35 maps, four on 17×17 and two on 8×8 with factorized convolutions, and
 * an auxiliary head for training. Means over windows leave padding out. Weights start as He normal.
 *
 * With batch normalization on 299×299×3: 27,161,264 parameters with the auxiliary head and 23,834,568 without, 5.71 billion
 * multiply-adds in evaluation.
 *
 * Input `[batch, height, width, inChannels]` with at least 75 pixels each way (299 with the auxiliary head), output logits
 * `[batch, classes]`. The `Trainer` adds 0.4 times the auxiliary loss by itself; in a loop of your own, use `nn.AuxiliaryLoss`.
 */
export function inceptionV3(options: InceptionV3Options = {}): InceptionV3 {
  return new InceptionV3(options);
}
