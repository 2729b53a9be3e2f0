import { EvenkeelError } from '../errors';
import {
  type ActivationName,
  kaimingNormal,
  Module,
  type Normalization,
  type NormalizationName,
  NormalizedLayers,
} from '../nn';
import { checkInteger } from '../nn/check';
import { checkOptions, optionNames, show } from '../options';
import type { Tensor } from '../tensor';
import {
  BasicBlock,
  type BlockOptions,
  PreActivationBlock,
  PreActivationBottleneck,
  type ShortcutKind,
} from './resnet-blocks';

/** Options of {@link resnetCifar}. */
export interface ResnetCifarOptions {
  /**
   * Number of weight layers: `2 · stages · n + 2` with blocks of two convolutions, `3 · stages · n + 2` with bottlenecks; for three
   * stages 6n + 2 (20, 32, 44, 56, 110) and 9n + 2 (20, 29, 56, 110, 164).
   */
  readonly depth: number;
  /** 1: activation after the addition (He et al. 2016a); 2: before the convolutions (He et al. 2016b). Default 1. */
  readonly version?: 1 | 2;
  /** Kind of block. Default: two 3×3 convolutions for version 1; a bottleneck for version 2 if the depth allows it. */
  readonly block?: 'basic' | 'bottleneck';
  /** Channels of the first stage; each further stage has twice as many. Default 16. */
  readonly width?: number;
  /** Number of stages; each further one halves the map. Default 3. */
  readonly stages?: number;
  /** Number of classes. Default 10. */
  readonly classes?: number;
  /** How blocks pass their input on where the shape changes. Default `'A'` for version 1, `'projection'` for version 2. */
  readonly shortcut?: ShortcutKind;
  /** Normalization method, by name or as an object. Default `'batch'`. */
  readonly norm?: NormalizationName | Normalization;
  /** Activation. Default `'relu'`. */
  readonly activation?: ActivationName;
  /** Channels of the images. Default 3. */
  readonly inChannels?: number;
}

type BlockClass = new (options: BlockOptions) => Module;

const resnetCifarOptions = optionNames<ResnetCifarOptions>({
  depth: true,
  version: true,
  block: true,
  width: true,
  stages: true,
  classes: true,
  shortcut: true,
  norm: true,
  activation: true,
  inChannels: true,
});

/** A residual network for small images; see {@link resnetCifar}. */
export class ResnetCifar extends Module {
  readonly stem: Module;
  readonly stemNorm: Module;
  readonly blocks: readonly Module[];
  readonly finalNorm: Module | undefined;
  readonly pool: Module;
  /** The last layer. Another one may take its place. */
  classifier: Module;

  constructor(options: ResnetCifarOptions) {
    super();
    checkOptions('resnetCifar', options, resnetCifarOptions);
    const { version = 1, width = 16, stages = 3, classes = 10, norm = 'batch', inChannels = 3 } = options;
    checkInteger('resnetCifar', 'width', width, 1);
    checkInteger('resnetCifar', 'stages', stages, 1);
    checkInteger('resnetCifar', 'classes', classes, 1);
    const { blockClass, bottleneck, perStage } = resolveBlocks(options.depth, version, stages, options.block);
    const shortcut = options.shortcut ?? (version === 1 ? 'A' : 'projection');
    const build = new NormalizedLayers({
      norm,
      activation: options.activation ?? 'relu',
      weightInitializer: kaimingNormal({ mode: 'fanOut' }),
    });

    this.stem = build.conv2d({ inChannels, outChannels: width, kernelSize: 3, padding: 1 }, 'stem');
    this.stemNorm = build.unit({ channels: width });
    const blocks: Module[] = [];
    let current = width;
    for (let stage = 0; stage < stages; stage += 1) {
      // The bottleneck widths of the Keras example: the inner width doubles together with the outer one, starting one stage later.
      const outChannels = bottleneck ? width * 4 * 2 ** stage : width * 2 ** stage;
      const channels = bottleneck && stage > 0 ? outChannels / 2 : width * 2 ** stage;
      for (let block = 0; block < perStage; block += 1) {
        const stride = stage > 0 && block === 0 ? 2 : 1;
        blocks.push(
          new blockClass({ build, inChannels: current, channels, outChannels, stride, stage, block, shortcut }),
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
    let value = this.stemNorm.call(this.stem.call(input));
    for (const block of this.blocks) value = block.call(value);
    return this.classifier.call(this.pool.call(this.finalNorm?.call(value) ?? value));
  }
}

/** Finds the kind of block and the number of blocks in a stage for a depth. */
function resolveBlocks(
  depth: number,
  version: 1 | 2,
  stages: number,
  asked: 'basic' | 'bottleneck' | undefined,
): { readonly blockClass: BlockClass; readonly bottleneck: boolean; readonly perStage: number } {
  if (version !== 1 && version !== 2) {
    throw new EvenkeelError('INVALID_ARGUMENT', `resnetCifar: version is ${String(version)}; give 1 or 2`);
  }
  if (version === 1 && asked === 'bottleneck') {
    throw new EvenkeelError('INVALID_ARGUMENT', 'resnetCifar: bottleneck blocks need version 2');
  }
  const fits = (layers: number) => Number.isInteger(depth) && depth > 2 && (depth - 2) % (layers * stages) === 0;
  const bottleneck = asked === undefined ? version === 2 && fits(3) : asked === 'bottleneck';
  const layers = bottleneck ? 3 : 2;
  if (!fits(layers)) {
    const basic = `${2 * stages}n + 2 (${2 * stages + 2}, ${4 * stages + 2}, ${6 * stages + 2}, …)`;
    const deep = `${3 * stages}n + 2 (${3 * stages + 2}, ${6 * stages + 2}, ${9 * stages + 2}, …)`;
    const allowed =
      asked === 'bottleneck' ? deep : version === 2 && asked === undefined ? `${basic} or ${deep}` : basic;
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `resnetCifar: version ${version} with ${stages} stages has no depth ${show(depth)}; give ${allowed}`,
    );
  }
  const blockClass = version === 1 ? BasicBlock : bottleneck ? PreActivationBottleneck : PreActivationBlock;
  return { blockClass, bottleneck, perStage: (depth - 2) / (layers * stages) };
}

/**
 * Residual network for small images (CIFAR): a 3×3 convolution, stages of residual blocks with 16, 32 and 64 channels on maps of
 * full, half and quarter size, global average pooling and a linear classifier. Weights start as He normal by fan out.
 *
 * Version 1 is that of He et al. 2016a, section 4.2 (depth 6n + 2, option A shortcuts): depth 20 with batch normalization has
 * 269,722 parameters and 40.6 million multiply-adds on 32×32×3. Version 2 is that of He et al. 2016b with bottlenecks (depth 9n + 2) of
 * the widths of the Keras example (outer 64, 128, 256; inner 16, 64, 128), or with blocks of two 3×3 convolutions (`block: 'basic'`).
 *
 * A `'projection'` shortcut has a normalization behind its convolution in version 1 and none in version 2, as users of torchvision and
 * timm know it (`downsample` of their `ResNet` and of timm's pre-activation `ResNetV2`) and as in the authors' code.
 *
 * Input `[batch, height, width, inChannels]` of any size, output logits `[batch, classes]`.
 */
export function resnetCifar(options: ResnetCifarOptions): ResnetCifar {
  return new ResnetCifar(options);
}
