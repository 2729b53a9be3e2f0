import { EvenkeelError } from '../../errors';
import {
  avgPool2d,
  batchNorm,
  concatenate,
  conv2d,
  globalAvgPool,
  keep,
  linear,
  maxPool2d,
  noGrad,
  type PoolOptions,
  prelu,
  relu,
  reshape,
  scope,
  type Tensor,
  tensor,
} from '../../tensor';
import { addRelu } from '../../tensor/operations/elementwise';
import { rprelu } from '../../tensor/operations/rprelu';
import { wordsOf } from '../../tensor/operations/sign';
import { attribute } from '../../tensor/profile';
import { formatShape } from '../../tensor/shape';
import { allocate, run } from '../../tensor/tensor';
import { Module } from '../module';
import { kernelWords, weightOfBytes } from './packed-bits';
import { readPackedFile, writePackedFile } from './packed-file';
import {
  type BinaryStep,
  convolvedSize,
  type PackedArrays,
  type PackedGraph,
  type PackedStep,
  type PoolStep,
  resultsOf,
  type SignsStep,
} from './packed-graph';
import { expandWeight } from './packed-weights';

const paddingValues = { zero: 0, plus: 1, minus: 2 } as const;
const activations = { none: 0, relu: 1, prelu: 2, rprelu: 3 } as const;

/** A value on its way: bits have the shape of the numbers whose signs they are. */
interface Value {
  readonly tensor: Tensor;
  readonly shape: readonly number[];
}

/** A step's tensors on the device. */
type StepTensors = Readonly<Record<string, Tensor | undefined>>;

/**
 * A network for inference whose binary layers run on bits from one to the next: {@link pack} makes it from a model, {@link
 * PackedNetwork.load} from a file.
 *
 * Input `[batch, height, width, channels]`, output as of the model it came from, with the same bits where its float weights are float32. It
 * has no parameters and no gradients.
 */
export class PackedNetwork extends Module {
  /** The steps and what connects them. */
  readonly graph: PackedGraph;
  /** The numbers, as the file holds them: `STEP.NAME`. */
  readonly arrays: PackedArrays;
  readonly #tensors: readonly StepTensors[];
  /** For each step, the values that nothing reads after it. */
  readonly #endings: readonly (readonly number[])[];

  constructor(graph: PackedGraph, arrays: PackedArrays) {
    super();
    this.training = false;
    this.graph = graph;
    this.arrays = arrays;
    this.#tensors = graph.steps.map((step, index) => upload(step, index, arrays));
    this.#endings = endingsOf(graph);
  }

  /** Reads a file that {@link PackedNetwork.save} wrote. @throws EvenkeelError CORRUPT_FILE, FILE_NOT_FOUND, IO */
  static async load(path: string): Promise<PackedNetwork> {
    const { graph, arrays } = await readPackedFile(path);
    return new PackedNetwork(graph, arrays);
  }

  /** Writes one self-contained file, atomically. @throws EvenkeelError IO */
  async save(path: string): Promise<void> {
    await writePackedFile(path, this.graph, this.arrays);
  }

  override forward(images: Tensor): Tensor {
    const [, , , channels] = images.shape;
    if (images.rank !== 4 || channels !== this.graph.imageShape[2]) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `PackedNetwork: expected images [batch, height, width, ${this.graph.imageShape[2]}], got ${formatShape(images.shape)}`,
      );
    }
    return noGrad(() =>
      scope(() => {
        const values: (Value | undefined)[] = [{ tensor: images.alias(), shape: images.shape }];
        for (const [index, step] of this.graph.steps.entries()) {
          const inputs = step.inputs.map((input) => values[input]!);
          const results = attribute(step, () => runStep(step, this.#tensors[index]!, inputs));
          for (const [at, number] of resultsOf(step).entries()) values[number] = results[at];
          // Memory that is free again at once is still in the cache when the next step writes to it.
          for (const ended of this.#endings[index]!) {
            values[ended]?.tensor.dispose();
            values[ended] = undefined;
          }
        }
        return values[this.graph.result]!.tensor;
      }),
    );
  }

  /** The most probable class of each image: its largest output. */
  async predict(images: Tensor): Promise<number[]> {
    const output = this.call(images);
    const [batch = 0, classes = 0] = output.shape;
    const values = (await output.data().finally(() => output.dispose())) as Float32Array;
    return Array.from({ length: batch }, (_, row) => {
      const scores = values.subarray(row * classes, (row + 1) * classes);
      return scores.reduce((best, score, index) => (score > scores[best]! ? index : best), 0);
    });
  }

  protected override release(): void {
    for (const tensors of this.#tensors) for (const held of Object.values(tensors)) held?.dispose();
  }

  override describe(): string {
    return `${this.graph.steps.length} steps`;
  }
}

/** The values that no step behind reads, for each step; the result stays. */
function endingsOf({ steps, result }: PackedGraph): number[][] {
  const last = new Map<number, number>();
  for (const [index, step] of steps.entries()) {
    for (const value of [...step.inputs, ...resultsOf(step)]) last.set(value, index);
  }
  last.delete(result);
  const endings: number[][] = steps.map(() => []);
  for (const [value, index] of last) endings[index]!.push(value);
  return endings;
}

/** A step's numbers in the form the kernels take. */
function upload(step: PackedStep, index: number, arrays: PackedArrays): StepTensors {
  const array = (name: string) => arrays.get(`${index}.${name}`);
  const device = (values: Float32Array | Int32Array, shape: readonly number[] = [values.length]) =>
    keep(tensor(values, { shape }));
  const tensors: Record<string, Tensor | undefined> = {};
  for (const [name, values] of arrays) {
    const [owner, part = ''] = name.split('.');
    const isAsked = owner === String(index) && part !== 'weight' && part !== 'weightScale';
    if (isAsked && values instanceof Float32Array) tensors[part] = device(values);
  }
  const floatWeight = (shape: readonly number[]) =>
    device(expandWeight(array('weight')!, array('weightScale') as Float32Array | undefined), shape);
  switch (step.kind) {
    case 'convolution': {
      const { kernel, inChannels, outChannels, groups, binaryWeights } = step;
      const depth = inChannels / groups;
      const shape = [...kernel, depth, outChannels];
      if (binaryWeights) {
        const bytes = array('weight') as Uint8Array;
        const scale = array('scale') as Float32Array;
        tensors['weight'] = device(weightOfBytes(bytes, kernel[0] * kernel[1], depth, scale), shape);
      } else tensors['weight'] = floatWeight(shape);
      return tensors;
    }
    case 'linear':
      tensors['weight'] = floatWeight([step.inFeatures, step.outFeatures]);
      return tensors;
    case 'normalize':
      return { ...tensors, ones: device(new Float32Array(step.channels).fill(1)) };
    case 'signs':
      // x < cut as x + (-cut) < 0: a difference of two floats is 0 only where they are equal.
      return { shift: device((array('cut') as Float32Array).map((cut) => -cut)), cut: tensors['cut'] };
    case 'binary': {
      const { kernel, inChannels, outChannels, factor } = step;
      const bytes = array('weight') as Uint8Array;
      tensors['weight'] = device(kernelWords(bytes, kernel[0] * kernel[1], inChannels, outChannels));
      if (factor !== 1) {
        // A plain product is a normalization with center 0 and offset -0, to the sign of a zero.
        tensors['center'] = device(new Float32Array(outChannels));
        tensors['factor'] = device(new Float32Array(outChannels).fill(factor));
        tensors['offset'] = device(new Float32Array(outChannels).fill(-0));
      }
      if (step.inputs.length === 1 && step.output === undefined) {
        const thresholds = keep(allocate('pack', [Math.ceil(outChannels / 16) * 33], 'int32'));
        const limit = kernel[0] * kernel[1] * inChannels;
        run('binary_layer_thresholds', [thresholds], tensors['cut']!, limit, ...functionOf(step, tensors));
        tensors['thresholds'] = thresholds;
      }
      return tensors;
    }
    default:
      return tensors;
  }
}

/** The arguments that say what becomes of a layer's sums. */
function functionOf(step: BinaryStep, { scale, center, factor, offset, shiftIn, slope, shiftOut }: StepTensors) {
  return [scale, center, factor, offset, activations[step.activation], shiftIn, slope, shiftOut] as const;
}

function runStep(step: PackedStep, tensors: StepTensors, inputs: readonly Value[]): readonly Value[] {
  if (step.kind === 'binary') return runBinary(step, tensors, inputs);
  if (step.kind === 'signs') return [runSigns(step, tensors, inputs[0]!)];
  const result = runFloat(step, tensors, inputs);
  return [{ tensor: result, shape: result.shape }];
}

/** A step's window as the pooling operations take it. */
function poolOf({ kernel, stride, padding, ceilMode }: PoolStep): PoolOptions {
  return { kernelSize: kernel, stride, padding, ceilMode };
}

function runFloat(
  step: Exclude<PackedStep, BinaryStep | SignsStep>,
  tensors: StepTensors,
  inputs: readonly Value[],
): Tensor {
  const input = inputs[0]!.tensor;
  const second = inputs[1]?.tensor;
  switch (step.kind) {
    case 'convolution':
      return conv2d(input, tensors['weight']!, tensors['bias'], {
        stride: step.stride,
        padding: step.padding,
        dilation: step.dilation,
        groups: step.groups,
      });
    case 'linear': {
      const features = input.size / Math.max(1, input.shape[0]!);
      const flat = features === step.inFeatures && input.rank > 2 ? reshape(input, [input.shape[0]!, features]) : input;
      return linear(flat, tensors['weight']!, tensors['bias']);
    }
    case 'maxPool':
      return maxPool2d(input, poolOf(step));
    case 'averagePool':
      return avgPool2d(input, { ...poolOf(step), countIncludePadding: step.countIncludePadding });
    case 'globalPool':
      return globalAvgPool(input);
    case 'normalize': {
      const { center, factor, offset, ones } = tensors;
      return batchNorm(input, {
        gamma: factor!,
        beta: offset!,
        residual: second,
        runningMean: center!,
        runningVariance: ones!,
        training: false,
        epsilon: 0,
        activation: step.activation,
      });
    }
    case 'scale':
      return input.mul(step.factor);
    case 'add':
      return step.activation === 'relu' ? addRelu(input, second!) : input.add(second!);
    case 'activation': {
      const { shiftIn, slope, shiftOut } = tensors;
      if (step.activation === 'relu') return relu(input);
      if (step.activation === 'prelu') return prelu(input, slope!);
      return rprelu(input, { shiftIn: shiftIn!, slope: slope!, shiftOut: shiftOut! });
    }
    case 'concatenate':
      return concatenate(
        inputs.map((value) => value.tensor),
        -1,
      );
  }
}

function runSigns({ channels }: SignsStep, { shift }: StepTensors, input: Value): Value {
  const { shape } = input;
  const rows = input.tensor.size / channels;
  const bits = allocate('signs', [rows, wordsOf(channels)], 'int32');
  run('binary_pack', [bits], input.tensor, shift, channels, 0, 0, false);
  return { tensor: bits, shape: shape[shape.length - 1] === channels ? shape : [shape[0]!, channels] };
}

function runBinary(step: BinaryStep, tensors: StepTensors, [bits, residual]: readonly Value[]): readonly Value[] {
  const { inChannels, outChannels, kernel, stride, padding, dilation } = step;
  const input = bits!.shape;
  const isMap = input.length === 4;
  const batch = input[0]!;
  const map = isMap ? input.slice(1, 3) : [1, 1];
  const size = convolvedSize(map, step);
  if (size.some(Number.isNaN)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `PackedNetwork: the filters of ${step.module} do not fit into a map of ${map.join('×')}; give larger images`,
    );
  }
  const shape = isMap ? [batch, ...size, outChannels] : [batch, outChannels];
  const pixels = batch * size[0] * size[1];
  if (residual !== undefined && residual.tensor.size % Math.max(1, pixels) !== 0) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `PackedNetwork: ${step.module} makes a map of ${size.join('×')}, and its shortcut is ${formatShape(residual.shape)}; ` +
        'give images of a size that the model takes',
    );
  }
  const geometry = [batch, ...map, inChannels, outChannels, ...kernel, ...stride, ...padding, ...dilation];
  const words = [...geometry, paddingValues[step.paddingValue]];
  const { weight, cut, thresholds } = tensors;
  const signs =
    step.signs === undefined ? undefined : allocate('packed layer', [pixels, wordsOf(outChannels)], 'int32');
  if (thresholds !== undefined) {
    run('binary_layer_signs', [signs!], bits!.tensor, weight!, thresholds, ...words);
    return [{ tensor: signs!, shape }];
  }
  const output = step.output === undefined ? undefined : allocate('packed layer', shape);
  const outputs = [output, signs].filter((value) => value !== undefined);
  const channels = residual?.shape[residual.shape.length - 1] ?? 0;
  const own = [bits!.tensor, weight!, residual?.tensor, channels, cut, output !== undefined] as const;
  run('binary_layer', outputs, ...own, ...functionOf(step, tensors), ...words);
  return outputs.map((value) => ({ tensor: value, shape }));
}
