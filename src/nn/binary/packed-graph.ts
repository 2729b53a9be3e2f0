import type { PaddingValue } from '../../tensor';

/** `[vertical, horizontal]`. */
export type Sizes = readonly [number, number];

/** How a window moves over a map. */
export interface PackedWindow {
  readonly kernel: Sizes;
  readonly stride: Sizes;
  readonly padding: Sizes;
}

/** An activation with its parameters in the step's tensors. */
export type PackedActivation = 'none' | 'relu' | 'prelu' | 'rprelu';

/** What every step has. Values are numbered: 0 are the images, and each step's results take the next numbers. */
interface StepBase {
  /** The module of the model that it comes from, by its name. */
  readonly module: string;
  /** The values it reads. */
  readonly inputs: readonly number[];
}

/** The numbers of a packed network as its file holds them: floats, bits, int8 weights, or the bits of half-precision numbers. */
export type PackedArray = Float32Array | Uint8Array | Int8Array | Uint16Array;

/** All of them by name: `STEP.NAME`. */
export type PackedArrays = ReadonlyMap<string, PackedArray>;

/** What a step with float weights has. Tensors: `weight`, `weightScale` for int8. */
interface FloatWeightsBase {
  /** How the weights are stored; as float32 where it is not given. */
  readonly floatWeights?: 'float16' | 'int8';
}

/** A convolution of real values, with float weights or with binary ones. Tensors: `weight`, `scale` for binary weights, `bias`. */
export interface ConvolutionStep extends StepBase, PackedWindow, FloatWeightsBase {
  readonly kind: 'convolution';
  readonly output: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly dilation: Sizes;
  readonly groups: number;
  /** Whether a weight is ± the scale of its output channel, and stored as a bit. */
  readonly binaryWeights: boolean;
  readonly bias: boolean;
}

/** A fully connected layer of real values. Tensors: `weight`, `bias`. */
export interface LinearStep extends StepBase, FloatWeightsBase {
  readonly kind: 'linear';
  readonly output: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly bias: boolean;
}

/** Pooling of real values. */
export interface PoolStep extends StepBase, PackedWindow {
  readonly kind: 'maxPool' | 'averagePool';
  readonly output: number;
  readonly ceilMode: boolean;
  readonly countIncludePadding: boolean;
}

/** The mean over all pixels. */
export interface GlobalPoolStep extends StepBase {
  readonly kind: 'globalPool';
  readonly output: number;
}

/** `(x - center) · factor + offset` for each channel, plus a second input where there is one. Tensors: `center`, `factor`, `offset`. */
export interface NormalizeStep extends StepBase {
  readonly kind: 'normalize';
  readonly output: number;
  readonly channels: number;
  readonly activation: 'none' | 'relu';
}

/** The product with a number. */
export interface ScaleStep extends StepBase {
  readonly kind: 'scale';
  readonly output: number;
  readonly factor: number;
}

/** The sum of two values. */
export interface AddStep extends StepBase {
  readonly kind: 'add';
  readonly output: number;
  readonly activation: 'none' | 'relu';
}

/** An activation alone. Tensors: `slope`, for RPReLU also `shiftIn` and `shiftOut`; for ReLU none, and any number of channels. */
export interface ActivationStep extends StepBase {
  readonly kind: 'activation';
  readonly output: number;
  readonly channels: number;
  readonly activation: 'relu' | 'prelu' | 'rprelu';
}

/** Channels side by side. */
export interface ConcatenateStep extends StepBase {
  readonly kind: 'concatenate';
  readonly output: number;
}

/** Real values to bits: -1 where a value is less than its channel's `cut`, a tensor. */
export interface SignsStep extends StepBase {
  readonly kind: 'signs';
  readonly signs: number;
  readonly channels: number;
}

/**
 * A whole binary layer: bits to a convolution, `scale`, a number `factor` or `center`, `factor` and `offset` of a normalization, the second
 * input as residual, activation; the result in float where a step needs it, and its signs by `cut` where one needs those.
 */
export interface BinaryStep extends StepBase, PackedWindow {
  readonly kind: 'binary';
  /** The float result. */
  readonly output?: number;
  /** The bits of its signs. */
  readonly signs?: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly dilation: Sizes;
  readonly paddingValue: PaddingValue;
  /** Behind the scale; 1 where there is none, or where it could be folded into the scale without rounding. */
  readonly factor: number;
  readonly normalize: boolean;
  readonly activation: PackedActivation;
}

/** One step of a packed network. */
export type PackedStep =
  | ConvolutionStep
  | LinearStep
  | PoolStep
  | GlobalPoolStep
  | NormalizeStep
  | ScaleStep
  | AddStep
  | ActivationStep
  | ConcatenateStep
  | SignsStep
  | BinaryStep;

/** How the numbers of an image become the network's input: `(number / maximum - mean) / deviation` for each channel. */
export interface PackedNormalization {
  /** The largest number of an image: 255 for bytes. */
  readonly maximum: number;
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
}

/** A packed network without its numbers: what the metadata of its file holds. */
export interface PackedGraph {
  /** `[height, width, channels]` of the images it was packed for. */
  readonly imageShape: readonly [number, number, number];
  /** In the order in which they run. */
  readonly steps: readonly PackedStep[];
  /** The value that is the result. */
  readonly result: number;
  /** Names of the classes, or none. */
  readonly classNames: readonly string[];
  /** How images become input, where it is known. */
  readonly normalization?: PackedNormalization;
}

/** A tensor that a step needs. */
export interface PackedTensor {
  /** `STEP.NAME`, with the step's number. */
  readonly name: string;
  /** Bits are bytes of 8 signs, the lowest bit first, 1 for -1; bits past the last input channel are 0. */
  readonly type: 'float32' | 'float16' | 'int8' | 'bits';
  readonly shape: readonly number[];
  /** Signs of one row of bytes. */
  readonly channels?: number;
}

/** The results of a step, in order. */
export function resultsOf(step: PackedStep): number[] {
  if (step.kind === 'signs') return [step.signs];
  if (step.kind !== 'binary') return [step.output];
  return [step.output, step.signs].filter((value) => value !== undefined);
}

function activationTensors(activation: PackedActivation): string[] {
  if (activation === 'rprelu') return ['shiftIn', 'slope', 'shiftOut'];
  return activation === 'prelu' ? ['slope'] : [];
}

/** The tensors that step `index` needs. */
export function tensorsOf(step: PackedStep, index: number): PackedTensor[] {
  const floats = (channels: number, ...names: readonly string[]): PackedTensor[] =>
    names.map((name) => ({ name: `${index}.${name}`, type: 'float32', shape: [channels] }));
  const bits = (inChannels: number, outChannels: number, [height, width]: Sizes): PackedTensor => ({
    name: `${index}.weight`,
    type: 'bits',
    shape: [outChannels, height, width, Math.ceil(inChannels / 8)],
    channels: inChannels,
  });
  const weights = (shape: readonly number[], type: 'float32' | 'float16' | 'int8' = 'float32'): PackedTensor[] => [
    { name: `${index}.weight`, type, shape },
    ...(type === 'int8' ? floats(channelsOf(shape), 'weightScale') : []),
  ];
  switch (step.kind) {
    case 'convolution': {
      const { kernel, inChannels, outChannels, groups } = step;
      const bias = step.bias ? floats(outChannels, 'bias') : [];
      if (step.binaryWeights) {
        return [bits(inChannels / groups, outChannels, kernel), ...floats(outChannels, 'scale'), ...bias];
      }
      return [...weights([...kernel, inChannels / groups, outChannels], step.floatWeights), ...bias];
    }
    case 'linear': {
      const { inFeatures, outFeatures, floatWeights } = step;
      return [...weights([inFeatures, outFeatures], floatWeights), ...(step.bias ? floats(outFeatures, 'bias') : [])];
    }
    case 'normalize':
      return floats(step.channels, 'center', 'factor', 'offset');
    case 'activation':
      return floats(step.channels, ...activationTensors(step.activation));
    case 'signs':
      return floats(step.channels, 'cut');
    case 'binary': {
      const { outChannels } = step;
      return [
        bits(step.inChannels, outChannels, step.kernel),
        ...floats(outChannels, 'scale'),
        ...(step.normalize ? floats(outChannels, 'center', 'factor', 'offset') : []),
        ...floats(outChannels, ...activationTensors(step.activation)),
        ...(step.signs === undefined ? [] : floats(outChannels, 'cut')),
      ];
    }
    default:
      return [];
  }
}

/** The size of one image's value: `[height, width, channels]` or `[features]`, in floats or as bits. */
export interface ValueShape {
  readonly bits: boolean;
  readonly shape: readonly number[];
}

function channelsOf(shape: readonly number[]): number {
  return shape[shape.length - 1] ?? 0;
}

function product(shape: readonly number[]): number {
  return shape.reduce((all, size) => all * size, 1);
}

/** Windows along an axis, or NaN where none fits. */
function windows(length: number, span: number, stride: number, padding: number): number {
  const slack = length + 2 * padding - span;
  return slack < 0 ? Number.NaN : Math.floor(slack / stride) + 1;
}

/** `[height, width]` behind a convolution. */
export function convolvedSize(
  [height, width]: readonly number[],
  { kernel, stride, padding, dilation }: PackedWindow & { readonly dilation: Sizes },
): [number, number] {
  const span = (axis: 0 | 1) => dilation[axis] * (kernel[axis] - 1) + 1;
  return [windows(height ?? 0, span(0), stride[0], padding[0]), windows(width ?? 0, span(1), stride[1], padding[1])];
}

/** `[height, width]` behind a pooling; the rule of `maxPool2d` and `avgPool2d`. */
function pooledSize(size: readonly number[], { kernel, stride, padding, ceilMode }: PoolStep): number[] {
  return ([0, 1] as const).map((axis) => {
    const length = size[axis] ?? 0;
    const whole = windows(length, kernel[axis], stride[axis], padding[axis]);
    const slack = length + 2 * padding[axis] - kernel[axis];
    const hangs = ceilMode && slack % stride[axis] !== 0 && whole * stride[axis] < length + padding[axis];
    return hangs ? whole + 1 : whole;
  });
}

/**
 * The shapes of a step's results for one image.
 *
 * @param shapes - The shapes of the values so far, by number.
 * @returns Nothing where the step does not fit its inputs, with the reason.
 */
export function shapesBehind(step: PackedStep, shapes: readonly ValueShape[]): readonly ValueShape[] | string {
  const inputs = step.inputs.map((input) => shapes[input]);
  const [first, second] = inputs;
  if (first === undefined || inputs.includes(undefined)) return 'it reads a value that no step before it makes';
  const wantsBits = step.kind === 'binary';
  if (first.bits !== wantsBits) return `it reads ${first.bits ? 'bits' : 'floats'}, which it cannot take`;
  if (inputs.slice(1).some((input) => input?.bits === true)) return 'it adds bits to floats';
  const { shape } = first;
  const channels = channelsOf(shape);
  const floats = (result: readonly number[]): ValueShape[] | string =>
    result.every((size) => size >= 1) ? [{ bits: false, shape: result }] : 'its window does not fit into its input';
  const isMap = shape.length === 3;
  const needs = (wanted: number) =>
    channels === wanted ? undefined : `it is for ${wanted} channels, and its input has ${channels}`;
  switch (step.kind) {
    case 'convolution':
      if (!isMap) return 'its input is not a map';
      return needs(step.inChannels) ?? floats([...convolvedSize(shape, step), step.outChannels]);
    case 'maxPool':
    case 'averagePool':
      return isMap ? floats([...pooledSize(shape, step), channels]) : 'its input is not a map';
    case 'globalPool':
      return isMap ? floats([channels]) : 'its input is not a map';
    case 'linear':
      if (product(shape) === step.inFeatures) return floats([step.outFeatures]);
      return needs(step.inFeatures) ?? floats([...shape.slice(0, -1), step.outFeatures]);
    case 'normalize':
      if (second !== undefined && String(second.shape) !== String(shape)) return 'its inputs differ in shape';
      return needs(step.channels) ?? floats(shape);
    case 'activation':
      return (step.activation === 'relu' ? undefined : needs(step.channels)) ?? floats(shape);
    case 'scale':
      return floats(shape);
    case 'add':
      return String(second?.shape) === String(shape) ? floats(shape) : 'its inputs differ in shape';
    case 'concatenate': {
      const outer = String(shape.slice(0, -1));
      if (inputs.some((input) => String(input?.shape.slice(0, -1)) !== outer)) return 'its inputs differ in size';
      const total = inputs.reduce((sum, input) => sum + channelsOf(input?.shape ?? []), 0);
      return floats([...shape.slice(0, -1), total]);
    }
    case 'signs': {
      if (channels === step.channels) return [{ bits: true, shape }];
      return product(shape) === step.channels
        ? [{ bits: true, shape: [step.channels] }]
        : `it is for ${step.channels} channels, and its input has ${channels}`;
    }
    case 'binary': {
      const map = isMap ? shape : [1, 1, channels];
      const size = convolvedSize(map, step);
      const result = isMap ? [...size, step.outChannels] : [step.outChannels];
      if (!isMap && String(size) !== '1,1') return 'its input is not a map';
      const problem = needs(step.inChannels);
      if (problem !== undefined) return problem;
      const outputs = floats(result);
      if (typeof outputs === 'string') return outputs;
      if (second !== undefined) {
        const own = channelsOf(second.shape);
        const sameSize = String(second.shape.slice(0, -1)) === String(result.slice(0, -1));
        if (!sameSize || step.outChannels % own !== 0) return 'its residual does not fit its result';
      }
      return [
        ...(step.output === undefined ? [] : outputs),
        ...(step.signs === undefined ? [] : [{ bits: true, shape: result }]),
      ];
    }
  }
}
