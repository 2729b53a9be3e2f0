import {
  type ActivationName,
  AvgPool2d,
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
import { Branches } from './branches';
import { convolutionUnit, inProportion } from './convolution-unit';

/** Options of {@link inceptionV2}. */
export interface InceptionV2Options {
  /** Channels of the first convolution; all other layers are in proportion. Default 64. */
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

/** The channels of one block; a block without `single` and `projection` halves the map. */
interface Row {
  /** The 1×1 branch. */
  readonly single?: number;
  /** The 1×1 and the 3×3 convolution of the second branch. */
  readonly one: readonly [reduced: number, channels: number];
  /** The 1×1 convolution and the two 3×3 convolutions of the third branch. */
  readonly two: readonly [reduced: number, channels: number];
  /** The 3×3 pooling of the fourth branch and the 1×1 convolution behind it. */
  readonly pool: 'average' | 'max';
  readonly projection?: number;
}

/** Blocks 3a to 5b (Ioffe and Szegedy 2015, figure 5). */
const rows: readonly Row[] = [
  { single: 64, one: [64, 64], two: [64, 96], pool: 'average', projection: 32 },
  { single: 64, one: [64, 96], two: [64, 96], pool: 'average', projection: 64 },
  { one: [128, 160], two: [64, 96], pool: 'max' },
  { single: 224, one: [64, 96], two: [96, 128], pool: 'average', projection: 128 },
  { single: 192, one: [96, 128], two: [96, 128], pool: 'average', projection: 128 },
  { single: 160, one: [128, 160], two: [128, 160], pool: 'average', projection: 128 },
  { single: 96, one: [128, 192], two: [160, 192], pool: 'average', projection: 128 },
  { one: [128, 192], two: [192, 256], pool: 'max' },
  { single: 352, one: [192, 320], two: [160, 224], pool: 'average', projection: 128 },
  { single: 352, one: [192, 320], two: [192, 224], pool: 'max', projection: 128 },
];

/** Builds one block; also returns the channels of its output. */
function createBlock(build: NormalizedLayers, row: Row, inChannels: number, width: number): [Module, number] {
  const scaled = (channels: number) => inProportion(channels, width, 64);
  const stride = row.single === undefined ? 2 : 1;
  const point = (outChannels: number) => convolutionUnit(build, { inChannels, outChannels, kernelSize: 1 });
  const square = (from: number, to: number, step: number) =>
    convolutionUnit(build, { inChannels: from, outChannels: to, kernelSize: 3, stride: step, padding: 1 });

  const branches: Module[] = [];
  let outChannels = 0;
  if (row.single !== undefined) {
    branches.push(point(scaled(row.single)));
    outChannels += scaled(row.single);
  }
  const [oneReduced, one] = row.one.map(scaled) as [number, number];
  branches.push(new Sequential([point(oneReduced), square(oneReduced, one, stride)]));
  const [twoReduced, two] = row.two.map(scaled) as [number, number];
  branches.push(new Sequential([point(twoReduced), square(twoReduced, two, 1), square(two, two, stride)]));
  const window = { kernelSize: 3, stride, padding: 1 };
  const pool = row.pool === 'max' ? new MaxPool2d(window) : new AvgPool2d({ ...window, countIncludePadding: false });
  outChannels += one + two;
  if (row.projection === undefined) {
    branches.push(pool);
    outChannels += inChannels;
  } else {
    branches.push(new Sequential([pool, point(scaled(row.projection))]));
    outChannels += scaled(row.projection);
  }
  return [new Branches(branches), outChannels];
}

const inceptionV2Options = optionNames<InceptionV2Options>({
  width: true,
  classes: true,
  norm: true,
  activation: true,
  inChannels: true,
});

/** Inception with batch normalization; see {@link inceptionV2}. */
export class InceptionV2 extends Module {
  readonly stem: Module;
  readonly blocks: readonly Module[];
  readonly pool: Module;
  /** The last layer. Another one may take its place. */
  classifier: Module;

  constructor(options: InceptionV2Options) {
    super();
    checkOptions('inceptionV2', options, inceptionV2Options);
    const { width = 64, classes = 1000, norm = 'batch', activation = 'relu', inChannels = 3 } = options;
    checkInteger('inceptionV2', 'width', width, 1);
    checkInteger('inceptionV2', 'classes', classes, 1);
    const build = new NormalizedLayers({ norm, activation, weightInitializer: kaimingNormal() });
    const window = { kernelSize: 3, stride: 2, padding: 1 };
    let current = 3 * width;
    this.stem = new Sequential({
      conv1: convolutionUnit(build, {
        inChannels,
        outChannels: width,
        kernelSize: 7,
        stride: 2,
        padding: 3,
        role: 'stem',
      }),
      pool1: new MaxPool2d(window),
      reduce: convolutionUnit(build, { inChannels: width, outChannels: width, kernelSize: 1 }),
      conv2: convolutionUnit(build, { inChannels: width, outChannels: current, kernelSize: 3, padding: 1 }),
      pool2: new MaxPool2d(window),
    });
    this.blocks = rows.map((row) => {
      const [block, outChannels] = createBlock(build, row, current, width);
      current = outChannels;
      return block;
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
 * Inception with batch normalization, "BN-Inception" (Ioffe and Szegedy 2015, figure 5): a stem of three convolutions and ten inception
 * blocks with one or two 3×3 convolutions in their branches; no dropout, as the paper recommends, and no auxiliary heads. Means over
 * windows leave padding out. Weights start as He normal.
 *
 * With batch normalization on 224×224×3: 11,285,224 parameters (11,295,240 where the convolutions keep a bias in front of the norm, as
 * in the model that circulates for Caffe and PyTorch) and 2.03 billion multiply-adds. Input `[batch, height, width, inChannels]` of any
 * size, output logits `[batch, classes]`.
 */
export function inceptionV2(options: InceptionV2Options = {}): InceptionV2 {
  return new InceptionV2(options);
}
