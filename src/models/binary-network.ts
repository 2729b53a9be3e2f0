import { GlobalAvgPool, MaxPool2d, Module, PReLU } from '../nn';
import type { Tensor } from '../tensor';
import { BinaryBlock } from './binary-block';
import { type BinaryBuild, type BinaryNetworkOptions, binaryBuild, normBehind } from './binary-options';

/** What tells one binary network from another. */
export interface BinaryDesign {
  /** Channels of the stem's output. */
  readonly stemChannels: number;
  /** Height and width of the filters of the stem for ImageNet. */
  readonly stemKernel: 3 | 7;
  /** Whether a 3×3 max pooling of step 2 follows the stem for ImageNet. */
  readonly stemPool: boolean;
  /** Which stem is meant when nothing is said. */
  readonly stem: 'imagenet' | 'cifar';
  /** Whether a PReLU follows the stem and another one precedes the last pooling. */
  readonly edgeActivations?: boolean;
  /** The blocks, the first of which takes `stemChannels`. */
  readonly blocks: (binary: BinaryBuild) => readonly BinaryBlock[];
  /** Channels of the last block's output. */
  readonly headChannels: number;
}

/**
 * A binary network: a float stem without ReLU, {@link BinaryBlock}s, global average pooling and a float classifier. Input
 * `[batch, height, width, inChannels]` of any size, output logits `[batch, classes]`.
 */
export class BinaryNetwork extends Module {
  /** The first convolution, float: `Conv2d`, or `ScaledStandardizedConv2d` for `bn-free`; without a bias. */
  readonly stem: Module;
  /** The normalization behind it, if the method has one. */
  readonly stemNorm: Module | undefined;
  /** PReLU behind the stem, in XNOR-Net. */
  readonly stemActivation: PReLU | undefined;
  /** Max pooling behind the stem for ImageNet. */
  readonly stemPool: MaxPool2d | undefined;
  /** The blocks in order. */
  readonly blocks: readonly BinaryBlock[];
  /** PReLU in front of the pooling, in XNOR-Net. */
  readonly headActivation: PReLU | undefined;
  /** Mean over all pixels. */
  readonly pool = new GlobalAvgPool();
  /** The last layer: `Linear` with a bias. Another one may take its place. */
  classifier: Module;

  /** @param options - As `checkBinaryOptions` returned them. */
  constructor(design: BinaryDesign, options: BinaryNetworkOptions) {
    super();
    const { stem = design.stem, inChannels = 3 } = options;
    const { stemChannels, headChannels, edgeActivations = false } = design;
    const large = stem === 'imagenet';
    const { classes = large ? 1000 : 10 } = options;
    const binary = binaryBuild(options);
    const { build } = binary;
    const kernelSize = large ? design.stemKernel : 3;
    this.stem = build.conv2d(
      {
        inChannels,
        outChannels: stemChannels,
        kernelSize,
        stride: large ? 2 : 1,
        padding: (kernelSize - 1) / 2,
        bias: false,
      },
      'stem',
    );
    this.stemNorm = normBehind(build, stemChannels);
    this.stemActivation = edgeActivations ? new PReLU({ channels: stemChannels }) : undefined;
    this.stemPool = large && design.stemPool ? new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 }) : undefined;
    this.blocks = design.blocks(binary);
    this.headActivation = edgeActivations ? new PReLU({ channels: headChannels }) : undefined;
    this.classifier = build.linear({ inFeatures: headChannels, outFeatures: classes }, 'classifier');
  }

  override forward(input: Tensor): Tensor {
    let value = this.stem.call(input);
    value = this.stemNorm?.call(value) ?? value;
    value = this.stemActivation?.call(value) ?? value;
    value = this.stemPool?.call(value) ?? value;
    for (const block of this.blocks) value = block.call(value);
    value = this.headActivation?.call(value) ?? value;
    return this.classifier.call(this.pool.call(value));
  }
}

/** Stages of blocks of one 3×3 binary convolution: each later stage halves the map and doubles the channels in its first block. */
export function binaryStages(
  binary: BinaryBuild,
  { width, stages, perStage, shifts }: { width: number; stages: number; perStage: number; shifts: boolean },
): BinaryBlock[] {
  const blocks: BinaryBlock[] = [];
  for (let stage = 0; stage < stages; stage += 1) {
    const outChannels = width * 2 ** stage;
    for (let block = 0; block < perStage; block += 1) {
      const first = stage > 0 && block === 0;
      const [inChannels, stride] = first ? [outChannels / 2, 2] : [outChannels, 1];
      blocks.push(new BinaryBlock({ binary, inChannels, outChannels, stride, shifts, stage, block }));
    }
  }
  return blocks;
}
