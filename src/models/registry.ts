import { EvenkeelError } from '../errors';
import type { ActivationName, Module, Normalization, NormalizationName } from '../nn';
import { checkOptions, optionNames, show } from '../options';
import { biRealNet18 } from './bi-real';
import type { BinaryNetwork } from './binary-network';
import type { BinaryNetworkOptions } from './binary-options';
import { efficientnetB0 } from './efficientnet-b0';
import { inceptionV2 } from './inception-v2';
import { inceptionV3 } from './inception-v3';
import { lenet } from './lenet';
import { mlp } from './mlp';
import { mobilenetV1 } from './mobilenet-v1';
import { reactNet18, reactNet20 } from './reactnet';
import { reactNetA } from './reactnet-a';
import { type Resnet, type ResnetDepth, resnet, resnetDepths } from './resnet';
import { type ResnetCifar, resnetCifar } from './resnet-cifar';
import { vggA } from './vgg-a';
import { xnorNet18 } from './xnor-net';

/** Options of {@link create}; each model uses those that it has. */
export interface CreateOptions {
  /** Shape of one image, `[height, width, channels]`. Default: that of the data the model is made for. */
  readonly inputShape?: readonly number[];
  /** Number of classes. Default: that of the data the model is made for, 10 or 1000. */
  readonly classes?: number;
  /** Normalization method, by name or as an object. Default `'batch'`. */
  readonly norm?: NormalizationName | Normalization;
  /** Activation. Default: the published one, mostly `'relu'`. */
  readonly activation?: ActivationName;
  /** Channels of the first layer of a convolutional network; all others are in proportion. */
  readonly width?: number;
  /** Hidden layers of a perceptron. */
  readonly hidden?: readonly number[];
  /** Options that only this model has, by name; the model checks them. */
  readonly modelOptions?: Readonly<Record<string, unknown>>;
}

const createOptions = optionNames<CreateOptions>({
  inputShape: true,
  classes: true,
  norm: true,
  activation: true,
  width: true,
  hidden: true,
  modelOptions: true,
});

/** One model of the registry. */
export interface ModelEntry<Model extends Module = Module> {
  /** What it is, in a line. */
  readonly description: string;
  /** Shape of the images it is made for, `[height, width, channels]`. */
  readonly inputShape: readonly number[];
  /** Builds it. */
  readonly create: (options: CreateOptions) => Model;
  /** Whether it takes {@link CreateOptions.modelOptions}. */
  readonly takesModelOptions?: boolean;
}

const cifar = [32, 32, 3];
const imagenet = [224, 224, 3];
const inceptionImages = [299, 299, 3];

function resnetEntry(depth: ResnetDepth, version: 1 | 2): ModelEntry<Resnet> {
  return {
    description: `residual network of depth ${depth}, version ${version}, for ImageNet`,
    inputShape: imagenet,
    create: ({ inputShape = imagenet, hidden: _, ...options }) =>
      resnet({ ...options, depth, version, inChannels: inputShape.at(-1) ?? 0 }),
  };
}

function resnetCifarEntry(depth: number, version: 1 | 2): ModelEntry<ResnetCifar> {
  return {
    description: `residual network of depth ${depth}, version ${version}, for CIFAR`,
    inputShape: cifar,
    create: ({ inputShape = cifar, hidden: _, ...options }) =>
      resnetCifar({ ...options, depth, version, inChannels: inputShape.at(-1) ?? 0 }),
  };
}

/** A binary network: with the stem for CIFAR on images of at most 64 pixels, unless its options say otherwise. */
function binaryEntry(
  description: string,
  shape: readonly number[],
  network: (options: BinaryNetworkOptions) => BinaryNetwork,
): ModelEntry<BinaryNetwork> {
  return {
    description,
    inputShape: shape,
    takesModelOptions: true,
    create: ({ inputShape = shape, hidden: _, activation: __, modelOptions, ...options }) => {
      const stem = Math.max(...inputShape.slice(0, -1)) <= 64 ? 'cifar' : 'imagenet';
      return network({ stem, inChannels: inputShape.at(-1) ?? 0, ...options, ...modelOptions });
    },
  };
}

const models = {
  mlp: {
    description: 'multi-layer perceptron with two hidden layers of 128',
    inputShape: [28, 28, 1],
    create: ({ inputShape = [28, 28, 1], width: _, ...options }) =>
      mlp({ ...options, inputs: inputShape.reduce((size, axis) => size * axis, 1) }),
  },
  lenet: {
    description: 'LeNet-5 with max pooling',
    inputShape: [28, 28, 1],
    create: ({ width: _, hidden: __, ...options }) => lenet(options),
  },
  'resnet-tiny': {
    description: 'residual network of depth 6 with two stages of 24 and 48 channels, for the 8 by 8 digits',
    inputShape: [8, 8, 1],
    create: ({ inputShape = [8, 8, 1], hidden: _, ...options }) =>
      resnetCifar({ width: 24, ...options, depth: 6, stages: 2, inChannels: inputShape.at(-1) ?? 0 }),
  },
  ...Object.fromEntries([20, 32, 44, 56, 110].map((depth) => [`resnet${depth}`, resnetCifarEntry(depth, 1)])),
  ...Object.fromEntries([20, 29, 56, 110, 164].map((depth) => [`resnet${depth}v2`, resnetCifarEntry(depth, 2)])),
  ...Object.fromEntries(resnetDepths.map((depth) => [`resnet${depth}`, resnetEntry(depth, 1)])),
  ...Object.fromEntries(resnetDepths.map((depth) => [`resnet${depth}v2`, resnetEntry(depth, 2)])),
  vggA: {
    description: 'VGG with 11 weight layers, configuration A, for ImageNet',
    inputShape: imagenet,
    create: ({ hidden: _, ...options }) => vggA(options),
  },
  inceptionV2: {
    description: 'Inception with batch normalization (BN-Inception), for ImageNet',
    inputShape: imagenet,
    create: ({ inputShape = imagenet, hidden: _, ...options }) =>
      inceptionV2({ ...options, inChannels: inputShape.at(-1) ?? 0 }),
  },
  inceptionV3: {
    description: 'Inception-v3, for ImageNet; with its auxiliary head for images of 299 by 299 and more',
    inputShape: inceptionImages,
    create: ({ inputShape = inceptionImages, hidden: _, ...options }) => {
      const [height = 0, width = 0, inChannels = 0] = inputShape;
      return inceptionV3({ ...options, inChannels, auxiliary: Math.min(height, width) >= 299 });
    },
  },
  mobilenetV1: {
    description: 'MobileNet of depthwise separable convolutions, for ImageNet',
    inputShape: imagenet,
    create: ({ inputShape = imagenet, hidden: _, ...options }) =>
      mobilenetV1({ ...options, inChannels: inputShape.at(-1) ?? 0 }),
  },
  efficientnetB0: {
    description: 'EfficientNet-B0 of inverted bottlenecks with squeeze and excitation, for ImageNet',
    inputShape: imagenet,
    create: ({ inputShape = imagenet, hidden: _, ...options }) =>
      efficientnetB0({ ...options, inChannels: inputShape.at(-1) ?? 0 }),
  },
  xnornet18: binaryEntry('binary network: XNOR-Net of the form of ResNet-18', imagenet, xnorNet18),
  birealnet18: binaryEntry('binary network: Bi-Real Net of 18 layers', imagenet, biRealNet18),
  reactnet18: binaryEntry('binary network: ReActNet of the form of ResNet-18', imagenet, reactNet18),
  reactnet20: binaryEntry('binary network: small ReActNet of the form of ResNet-20, for CIFAR', cifar, reactNet20),
  reactnetA: binaryEntry('binary network: ReActNet-A of the form of MobileNet', imagenet, reactNetA),
} satisfies Readonly<Record<string, ModelEntry>>;

const entries: Readonly<Record<string, ModelEntry>> = models;

/**
 * What {@link create} makes for a name: the model's own class, so that its parts (`classifier`, say) can be reached and replaced; a
 * {@link Module} where the compiler does not know the name.
 */
export type ModelOf<Name extends string> = string extends Name
  ? Module
  : Name extends keyof typeof models
    ? ReturnType<(typeof models)[Name]['create']>
    : Name extends `resnet${ResnetDepth}${'' | 'v2'}`
      ? Resnet
      : Name extends `resnet${number}${'' | 'v2'}`
        ? ResnetCifar
        : Module;

/** The models that {@link create} knows by name. */
export function names(): string[] {
  return Object.keys(entries);
}

/**
 * The registry's entry for a name. Besides the listed names, `resnet<depth>` and `resnet<depth>v2` of any depth that exists for
 * CIFAR; depths 18, 34, 50, 101 and 152 are the networks for ImageNet.
 *
 * @throws EvenkeelError `INVALID_ARGUMENT` for an unknown name.
 */
export function find(name: string): ModelEntry {
  const entry = Object.hasOwn(entries, name) ? entries[name] : undefined;
  if (entry !== undefined) return entry;
  const resnet = /^resnet(\d+)(v2)?$/.exec(name);
  if (resnet?.[1] !== undefined) return resnetCifarEntry(Number(resnet[1]), resnet[2] === undefined ? 1 : 2);
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `there is no model '${name}'; the names are ${names().join(', ')}, or resnet<depth> and resnet<depth>v2`,
  );
}

/**
 * Builds a model by name.
 *
 * @param name - One of {@link names}.
 * @throws EvenkeelError `INVALID_ARGUMENT` for an unknown name or an option that the model cannot take.
 */
export function create<Name extends string>(name: Name, options?: CreateOptions): ModelOf<Name>;
export function create(name: string, options: CreateOptions = {}): Module {
  checkOptions('models.create', options, createOptions);
  const entry = find(name);
  const { inputShape } = options;
  if (inputShape !== undefined && !isShape(inputShape)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `models.create: inputShape is ${show(inputShape)}; give the sizes of one image, such as [32, 32, 3]`,
    );
  }
  const { modelOptions = {}, ...common } = options;
  if (entry.takesModelOptions === true) return entry.create(options);
  const unknown = Object.keys(modelOptions);
  if (unknown.length === 0) return entry.create(common);
  throw new EvenkeelError('INVALID_ARGUMENT', `${name} has no options of its own, and ${unknown.join(', ')} was given`);
}

function isShape(shape: readonly number[]): boolean {
  return Array.isArray(shape) && shape.every((size) => Number.isInteger(size) && size >= 1);
}
