import { EvenkeelError } from '../../errors';
import { type PackedGraph, type PackedStep, resultsOf, tensorsOf } from './packed-graph';
import { inferShapes } from './packed-schema';
import type { FloatWeights } from './packed-weights';

/** Bytes of one element of a tensor. */
const ELEMENT_BYTES = { bits: 1, int8: 1, float16: 2, float32: 4 } as const;

/** One step of a packed network, as people read it. */
export interface PackedRow {
  /** The module of the model. */
  readonly module: string;
  /** What runs: `binary 3×3 conv → +residual → rprelu → float, bits`. */
  readonly kernel: string;
  /** `[height, width, channels]` or `[features]` of the result, for one image of the graph's size. */
  readonly shape: readonly number[];
  /** Weights of one bit. */
  readonly binaryWeights: number;
  /** How its weights are stored; empty where it has none. */
  readonly weightType: 'bits' | FloatWeights | '';
  /** Weights that are not bits, and other numbers. */
  readonly floats: number;
  /** Bytes in the file. */
  readonly bytes: number;
  /** Multiply-adds of signs by signs for one image. */
  readonly binaryMultiplyAdds: number;
  /** Other multiply-adds for one image. */
  readonly floatMultiplyAdds: number;
  /** Why its arithmetic is not binary; empty where it is, or where there is none to speak of. */
  readonly whyNotBinary: string;
}

function kernelOf(step: PackedStep): string {
  const window = 'kernel' in step ? `${step.kernel.join('×')}` : '';
  switch (step.kind) {
    case 'binary': {
      const { stride, factor, normalize, inputs, activation, output, signs } = step;
      const by = Math.max(...stride) > 1 ? ` / ${stride[0]}` : '';
      const thresholds = inputs.length === 1 && output === undefined;
      const parts = [
        `binary ${window} conv${by}`,
        ...(factor === 1 ? [] : [`·${factor}`]),
        ...(normalize ? ['norm'] : []),
        ...(inputs.length > 1 ? ['+residual'] : []),
        ...(activation === 'none' ? [] : [activation]),
        [...(output === undefined ? [] : ['float']), ...(signs === undefined ? [] : ['bits'])].join(', '),
      ];
      return parts.join(' → ') + (thresholds ? ' (integer thresholds)' : '');
    }
    case 'convolution':
      return `float ${window} conv${step.stride[0] > 1 ? ` / ${step.stride[0]}` : ''}${step.binaryWeights ? ', ±scale' : ''}`;
    case 'maxPool':
    case 'averagePool':
      return `${step.kind === 'maxPool' ? 'max' : 'average'} pool ${window}`;
    case 'globalPool':
      return 'global average pool';
    case 'linear':
      return 'float linear';
    case 'normalize':
      return step.inputs.length > 1 ? 'norm → +residual' : 'norm';
    case 'scale':
      return `·${Number(step.factor.toPrecision(5))}`;
    case 'signs':
      return 'float → bits';
    case 'activation':
      return step.activation;
    default:
      return step.kind;
  }
}

function whyNotBinary(step: PackedStep, last: boolean): string {
  switch (step.kind) {
    case 'convolution':
      if (step.inputs[0] === 0) return 'first layer: its input is the image';
      return step.binaryWeights
        ? 'its weights are bits, its input is real (a shortcut)'
        : 'its input is real and its weights are float (a shortcut)';
    case 'linear':
      return last ? 'classifier: float weights and inputs' : 'float weights';
    default:
      return '';
  }
}

/** What each step runs, its size and its cost; `inspect` shows it. */
export function describePacked(graph: PackedGraph): PackedRow[] {
  const shapes = inferShapes(graph);
  if ('problem' in shapes) throw new EvenkeelError('INTERNAL', `packed network: ${shapes.problem}`);
  return graph.steps.map((step, index) => {
    const [result = 0] = resultsOf(step);
    const { shape } = shapes[result]!;
    const tensors = tensorsOf(step, index).map((tensor) => ({
      ...tensor,
      size: tensor.shape.reduce((product, size) => product * size, 1),
    }));
    const positions = shape.reduce((product, size) => product * size, 1);
    let multiplyAdds = 0;
    let weights = 0;
    if (step.kind === 'convolution' || step.kind === 'binary') {
      const depth = step.kernel[0] * step.kernel[1] * (step.inChannels / (step.kind === 'binary' ? 1 : step.groups));
      multiplyAdds = positions * depth;
      weights = step.kind === 'binary' || step.binaryWeights ? depth * step.outChannels : 0;
    } else if (step.kind === 'linear') multiplyAdds = positions * step.inFeatures;
    const binary = step.kind === 'binary';
    return {
      module: step.module,
      kernel: kernelOf(step),
      shape,
      binaryWeights: weights,
      weightType: tensors.find(({ name }) => name.endsWith('.weight'))?.type ?? '',
      floats: tensors.reduce((sum, { type, size }) => sum + (type === 'bits' ? 0 : size), 0),
      bytes: tensors.reduce((sum, { type, size }) => sum + ELEMENT_BYTES[type] * size, 0),
      binaryMultiplyAdds: binary ? multiplyAdds : 0,
      floatMultiplyAdds: binary ? 0 : multiplyAdds,
      whyNotBinary: whyNotBinary(step, graph.result === result),
    };
  });
}
