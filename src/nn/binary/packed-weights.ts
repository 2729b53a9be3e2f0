import { EvenkeelError } from '../../errors';
import { fromFloat16Bits, toFloat16Bits } from '../../serialization/float16';
import type { PackedArray, PackedArrays, PackedGraph, PackedStep } from './packed-graph';

/** How the float weights of a packed network can be stored, the exact way first. */
export const FLOAT_WEIGHTS = ['float32', 'float16', 'int8'] as const;

/** How the float weights of a packed network are stored. */
export type FloatWeights = (typeof FLOAT_WEIGHTS)[number];

/** The largest magnitude of an int8 weight; -128 is not used, so that a weight and its negative are as exact. */
const LARGEST_INT8 = 127;

type FloatStep = Extract<PackedStep, { readonly kind: 'convolution' | 'linear' }>;

/** Whether a step has weights that are not bits. */
function hasFloatWeights(step: PackedStep): step is FloatStep {
  return step.kind === 'linear' || (step.kind === 'convolution' && !step.binaryWeights);
}

/**
 * The same network with its float weights (those of the stem, of float shortcuts and of linear layers) in half precision, or in eight bits
 * with one scale for each output channel. Biases, scales, norms and thresholds stay float32.
 *
 * @param graph - With all its weights in float32, as `arrays`.
 * @throws EvenkeelError NON_FINITE for a weight that is no number; INVALID_ARGUMENT for one that the type cannot hold.
 */
export function storeFloatWeights(
  graph: PackedGraph,
  arrays: PackedArrays,
  floatWeights: 'float16' | 'int8',
): { readonly graph: PackedGraph; readonly arrays: PackedArrays } {
  const stored = new Map(arrays);
  const steps = graph.steps.map((step, index): PackedStep => {
    const weight = stored.get(`${index}.weight`);
    if (!hasFloatWeights(step) || !(weight instanceof Float32Array)) return step;
    const outputs = step.kind === 'linear' ? step.outFeatures : step.outChannels;
    // One weight and its scale would be larger than the weight.
    if (floatWeights === 'int8' && weight.length <= outputs) return step;
    for (const [name, values] of Object.entries(reduce(step, weight, outputs, floatWeights))) {
      stored.set(`${index}.${name}`, values);
    }
    return { ...step, floatWeights };
  });
  return { graph: { ...graph, steps }, arrays: stored };
}

/** The arrays of a step in a smaller type, by name. */
function reduce(
  step: FloatStep,
  weight: Float32Array,
  outputs: number,
  floatWeights: 'float16' | 'int8',
): Readonly<Record<string, PackedArray>> {
  const bad = weight.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new EvenkeelError(
      'NON_FINITE',
      `pack: weight ${bad} of module ${step.module} is ${weight[bad]}; pack a checkpoint whose weights are finite`,
    );
  }
  const reduced = floatWeights === 'int8' ? toInt8(weight, outputs) : { weight: toFloat16Bits(weight) };
  const expanded = expandWeight(reduced.weight, 'weightScale' in reduced ? reduced.weightScale : undefined);
  const overflow = expanded.findIndex((value) => !Number.isFinite(value));
  if (overflow >= 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `pack: weight ${overflow} of module ${step.module} is ${weight[overflow]}, too large for ${floatWeights}; ` +
        "give floatWeights: 'float32'",
    );
  }
  return reduced;
}

/**
 * Weights `[..., outputs]` as `q · scale` with whole `q` from -127 to 127, ties to even, and the least scale for each output with which its
 * largest weight fits. A scale has 17 significant bits, so every product is a float32 without rounding, and no weight is further from its
 * own than half a scale.
 */
export function toInt8(
  weight: Float32Array,
  outputs: number,
): { readonly weight: Int8Array; readonly weightScale: Float32Array } {
  const weightScale = new Float32Array(outputs);
  for (const [index, value] of weight.entries()) {
    const output = index % outputs;
    weightScale[output] = Math.max(weightScale[output]!, Math.abs(value));
  }
  for (const [output, largest] of weightScale.entries()) weightScale[output] = ceilTo17Bits(largest / LARGEST_INT8);
  return {
    weight: Int8Array.from(weight, (value, index) => {
      const scale = weightScale[index % outputs]!;
      return scale === 0 ? 0 : roundToEven(value / scale);
    }),
    weightScale,
  };
}

/** The weights that are computed with: exact products of int8 weights and scales, or half-precision numbers. */
export function expandWeight(weight: PackedArray, weightScale: Float32Array | undefined): Float32Array {
  if (weight instanceof Float32Array) return weight;
  if (weight instanceof Uint16Array) return fromFloat16Bits(weight);
  if (!(weight instanceof Int8Array) || weightScale === undefined) {
    throw new EvenkeelError('INTERNAL', 'packed network: its weights are neither floats nor int8 with scales');
  }
  const outputs = weightScale.length;
  return Float32Array.from(weight, (value, index) => value * weightScale[index % outputs]!);
}

/** Why stored weights or their scales cannot be what {@link storeFloatWeights} made; nothing where they can. */
export function damageOf(name: string, values: PackedArray): string | undefined {
  const index = values.findIndex((value: number) => {
    if (values instanceof Uint16Array) return (value & 0x7c00) === 0x7c00;
    if (values instanceof Int8Array) return value < -LARGEST_INT8;
    if (name === 'weightScale') return !(value >= 0 && Number.isFinite(Math.fround(LARGEST_INT8 * value)));
    // A cut may be infinite, where a sign never changes; nothing else may.
    return name === 'cut' ? Number.isNaN(value) : !Number.isFinite(value);
  });
  if (index < 0) return undefined;
  return `value ${index} is ${values instanceof Uint16Array ? 'infinite or no number' : values[index]}`;
}

function roundToEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** The least float32 of 17 significant bits that is not less than `value`, which is not negative. */
function ceilTo17Bits(value: number): number {
  const float = Float32Array.of(value);
  const word = new Uint32Array(float.buffer);
  if (float[0]! < value) word[0] = word[0]! + 1;
  word[0] = (word[0]! + 0x7f) & ~0x7f;
  return float[0]!;
}
