import { EvenkeelError } from '../../errors';
import { noGrad, scope, type Tensor, zeros } from '../../tensor';
import { viewBytes } from '../../tensor/dtype';
import { inferenceWords } from '../../tensor/operations/normalization';
import { Storage, stream, type Word } from '../../tensor/stream';
import { type TracedCommand, trace } from '../../tensor/trace';
import type { AnyModule, Module } from '../module';
import type { Sizes } from './packed-graph';

/** A value of a traced network: what depends on the images. */
export interface TracedValue {
  /** The operations that read it. */
  readonly readers: TracedNode[];
  /** The operation that makes it; none for the images. */
  readonly source: TracedNode | undefined;
}

/** What an operation of a traced network does; numbers that do not depend on the images are constants. */
export type TracedOperation =
  | {
      readonly kind: 'convolution';
      readonly weight: Float32Array;
      readonly bias: Float32Array | undefined;
      readonly geometry: TracedGeometry;
      readonly groups: number;
    }
  | {
      readonly kind: 'linear';
      readonly weight: Float32Array;
      readonly bias: Float32Array | undefined;
      readonly inFeatures: number;
      readonly outFeatures: number;
    }
  | {
      readonly kind: 'maxPool' | 'averagePool';
      readonly kernel: Sizes;
      readonly stride: Sizes;
      readonly padding: Sizes;
      readonly ceilMode: boolean;
      readonly countIncludePadding: boolean;
    }
  | { readonly kind: 'globalPool' }
  | {
      readonly kind: 'normalize';
      readonly center: Float32Array;
      readonly factor: Float32Array;
      readonly offset: Float32Array;
      readonly activation: 'none' | 'relu';
    }
  | { readonly kind: 'scale'; readonly factor: number }
  | { readonly kind: 'add'; readonly activation: 'none' | 'relu' }
  | { readonly kind: 'relu' }
  | { readonly kind: 'prelu'; readonly slope: Float32Array }
  | {
      readonly kind: 'rprelu';
      readonly shiftIn: Float32Array;
      readonly slope: Float32Array;
      readonly shiftOut: Float32Array;
    }
  | { readonly kind: 'concatenate' }
  | { readonly kind: 'signs'; readonly shift: Float32Array | undefined; readonly channels: number }
  | { readonly kind: 'unpack' }
  | {
      readonly kind: 'binary';
      readonly weight: Float32Array;
      readonly scale: Float32Array;
      readonly geometry: TracedGeometry;
      readonly paddingValue: number;
    };

/** Sizes of a convolution without those of the image. */
export interface TracedGeometry {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernel: Sizes;
  readonly stride: Sizes;
  readonly padding: Sizes;
  readonly dilation: Sizes;
}

/** One operation on values. */
export interface TracedNode {
  /** Two neighbours may change places; see {@link traceNetwork}. */
  operation: TracedOperation;
  /** Name and class of the module that called it. */
  module: string;
  readonly inputs: readonly TracedValue[];
  readonly output: TracedValue;
}

/** A network's data flow, in the order in which it runs. */
export interface TracedNetwork {
  readonly images: TracedValue;
  readonly nodes: readonly TracedNode[];
  readonly result: TracedValue;
}

/** Numbers of `BinaryOperation` and `UnaryOperation` in crate evenkeel-kernels. */
const ADD = 0;
const ADD_RELU = 7;
const MULTIPLY_BY = 8;

/**
 * Runs `model` once in evaluation mode on an image of zeros and reads its data flow from the commands. A normalization in front of max
 * pooling changes places with it where that changes no bit.
 *
 * @throws EvenkeelError UNSUPPORTED, naming the module whose operation packed networks do not know.
 */
export function traceNetwork(model: Module, imageShape: readonly [number, number, number]): TracedNetwork {
  const modules = new Map<object, string>();
  for (const [name, module] of model.namedModules()) {
    modules.set(module, name === '' ? className(module) : `${name} (${className(module)})`);
  }
  const images = zeros([1, ...imageShape]);
  let output: Tensor | undefined;
  try {
    const traced = trace(() => {
      output = scope(() => noGrad(() => model.call(images)));
    }, modules);
    try {
      const network = readNetwork(traced.commands, images.storage, output!.storage);
      poolBeforeNormalizing(network);
      return network;
    } finally {
      traced.release();
    }
  } finally {
    images.dispose();
    output?.dispose();
  }
}

/**
 * Rounded, too, a normalization with positive factors never decreases, so the largest result is the result of the largest value: pooling
 * first leaves it a quarter of the work or less.
 */
function poolBeforeNormalizing({ nodes, result }: TracedNetwork): void {
  for (const node of nodes) {
    const { operation, output, inputs, module } = node;
    const [reader] = output.readers;
    if (operation.kind !== 'normalize' || inputs.length !== 1 || output === result) continue;
    if (output.readers.length !== 1 || reader?.operation.kind !== 'maxPool') continue;
    if (!operation.factor.every((factor) => factor > 0)) continue;
    [node.operation, node.module] = [reader.operation, reader.module];
    [reader.operation, reader.module] = [operation, module];
  }
}

const className = (module: AnyModule) => module.constructor.name;

function readNetwork(commands: readonly TracedCommand[], imageStorage: Storage, resultStorage: Storage): TracedNetwork {
  const images: TracedValue = { readers: [], source: undefined };
  const values = new Map<number, TracedValue>([[imageStorage.slot, images]]);
  const nodes: TracedNode[] = [];
  for (const command of commands) {
    const slots = command.words.flatMap((word) => {
      if (word instanceof Storage) return [word.slot];
      return command.operation === 'concatenate' && word === command.words[0] ? [...(word as readonly number[])] : [];
    });
    // What does not depend on the images was computed by the trace; its value is read where it is used.
    if (!slots.some((slot) => values.has(slot))) continue;
    const operation = readOperation(command, values);
    if (command.outputs.length !== 1 || operation === undefined) {
      throw new EvenkeelError(
        'UNSUPPORTED',
        `pack: ${command.module === '' ? 'the model' : `module ${command.module}`} calls the operation ` +
          `${command.operation} in a way that packed networks do not know; they know convolutions, pooling, batch ` +
          'normalization, sums, ReLU, PReLU, RPReLU, concatenation, linear layers and binary layers',
      );
    }
    const inputs = slots.flatMap((slot) => values.get(slot) ?? []);
    const node: { -readonly [Key in keyof TracedNode]: TracedNode[Key] } = {
      operation,
      module: command.module,
      inputs,
      output: images,
    };
    node.output = { readers: [], source: node };
    for (const input of inputs) input.readers.push(node);
    values.set(command.outputs[0]!.slot, node.output);
    nodes.push(node);
  }
  const result = values.get(resultStorage.slot);
  if (result === undefined) {
    throw new EvenkeelError('UNSUPPORTED', 'pack: the result of the model does not depend on its input');
  }
  return { images, nodes, result };
}

/** The values of a constant, or of none. */
function numbers(word: Word): Float32Array | undefined {
  return word instanceof Storage ? (viewBytes(stream().readSync(word), word.dtype) as Float32Array) : undefined;
}

function pairAt(words: readonly Word[], at: number): Sizes {
  return [Number(words[at]), Number(words[at + 1])];
}

/** Reads `batch, height, width, inChannels, outChannels, kernel, stride, padding, dilation` at `at`. */
function geometryAt(words: readonly Word[], at: number): TracedGeometry {
  return {
    inChannels: Number(words[at + 3]),
    outChannels: Number(words[at + 4]),
    kernel: pairAt(words, at + 5),
    stride: pairAt(words, at + 7),
    padding: pairAt(words, at + 9),
    dilation: pairAt(words, at + 11),
  };
}

/** `scale · gain` as the native operation multiplies them. */
function product(scale: Float32Array, gain: Float32Array | undefined): Float32Array {
  return gain === undefined ? scale : scale.map((value, index) => value * gain[index]!);
}

function normalization(words: readonly Word[]) {
  const epsilon = Math.fround(Number(words[inferenceWords.epsilon]));
  const center = numbers(words[inferenceWords.mean])!;
  const factor = numbers(words[inferenceWords.variance])!.map((value) => {
    const inverse = Math.fround(1 / Math.sqrt(value + epsilon));
    return Number.isFinite(inverse) ? inverse : 3.4028234663852886e38;
  });
  return {
    center,
    factor: product(factor, numbers(words[inferenceWords.gamma])),
    offset: numbers(words[inferenceWords.beta]) ?? new Float32Array(center.length),
  };
}

/** What a command does, or nothing where packed networks do not know it. */
function readOperation(
  { operation, words }: TracedCommand,
  values: ReadonlyMap<number, TracedValue>,
): TracedOperation | undefined {
  const depends = words.map((word) => word instanceof Storage && values.has(word.slot));
  const only = (...at: readonly number[]) => depends.every((value, index) => value === at.includes(index));
  switch (operation) {
    case 'conv2d_forward':
      if (!only(0)) return undefined;
      return {
        kind: 'convolution',
        weight: numbers(words[1])!,
        bias: numbers(words[2]),
        geometry: geometryAt(words, 3),
        groups: Number(words[16]),
      };
    case 'linear':
      if (!only(0)) return undefined;
      return {
        kind: 'linear',
        weight: numbers(words[1])!,
        bias: numbers(words[2]),
        inFeatures: Number(words[4]),
        outFeatures: Number(words[5]),
      };
    case 'max_pool':
    case 'average_pool':
      return {
        kind: operation === 'max_pool' ? 'maxPool' : 'averagePool',
        kernel: pairAt(words, 5),
        stride: pairAt(words, 7),
        padding: pairAt(words, 9),
        ceilMode: Number(words[11]) === 1,
        countIncludePadding: operation === 'average_pool' && Boolean(words[12]),
      };
    case 'global_average_pool':
      return { kind: 'globalPool' };
    case 'batch_norm_inference': {
      const activation = Number(words[inferenceWords.activation]);
      if (!(only(0) || only(0, inferenceWords.residual)) || activation > 1) return undefined;
      return { kind: 'normalize', ...normalization(words), activation: activation === 1 ? 'relu' : 'none' };
    }
    case 'unary':
      return words[1] === MULTIPLY_BY ? { kind: 'scale', factor: Math.fround(Number(words[2])) } : undefined;
    case 'binary':
      if (!only(0, 1) || (words[2] !== ADD && words[2] !== ADD_RELU) || String(words[3]) !== String(words[4])) {
        return undefined;
      }
      return { kind: 'add', activation: words[2] === ADD ? 'none' : 'relu' };
    case 'activation':
      return words[1] === 1 ? { kind: 'relu' } : undefined;
    case 'prelu': {
      if (!only(0)) return undefined;
      const slope = numbers(words[1])!;
      const channels = Number(words[2]);
      return { kind: 'prelu', slope: slope.length === channels ? slope : new Float32Array(channels).fill(slope[0]!) };
    }
    case 'rprelu':
      if (!only(0)) return undefined;
      return {
        kind: 'rprelu',
        shiftIn: numbers(words[1])!,
        slope: numbers(words[2])!,
        shiftOut: numbers(words[3])!,
      };
    case 'concatenate': {
      const [slots, , shape, axis] = words as [readonly number[], unknown, readonly number[], number];
      return axis === shape.length - 1 && slots.every((slot) => values.has(slot)) ? { kind: 'concatenate' } : undefined;
    }
    case 'binary_pack':
      return only(0) ? { kind: 'signs', shift: numbers(words[1]), channels: Number(words[2]) } : undefined;
    case 'binary_unpack':
      return { kind: 'unpack' };
    case 'binary_conv2d_forward':
      if (!only(0)) return undefined;
      return {
        kind: 'binary',
        weight: numbers(words[1])!,
        scale: product(numbers(words[2])!, numbers(words[3])),
        geometry: geometryAt(words, 4),
        paddingValue: Number(words[17]),
      };
    default:
      return undefined;
  }
}
