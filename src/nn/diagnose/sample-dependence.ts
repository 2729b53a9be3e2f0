import { EvenkeelError } from '../../errors';
import { noGrad, scope, type Tensor } from '../../tensor';
import { isAuxiliaryNetwork } from '../auxiliary-loss';
import type { AnyModule, Module } from '../module';
import { silenceNoise } from '../without-noise';

/** How much the outputs of samples in training mode depend on what else is in their batch. */
export interface SampleDependence {
  /** Samples that were computed both in the batch and in the smaller one. */
  readonly samples: number;
  /** Size of the smaller batch: 1, or 2 where the model cannot take a single sample in training mode. */
  readonly companyOf: number;
  /** Largest absolute difference of an output. */
  readonly maximumDifference: number;
  /** Root mean square of the differences by that of the outputs; 0 means the same bits. */
  readonly relativeDifference: number;
}

const SAMPLES = 4;

/**
 * Compares the outputs of a few samples in their batch with those in a batch of their own, both in training mode. Dropout and stochastic
 * depth are switched off: they are noise, not dependence. `undefined` for a batch that cannot be made smaller.
 */
export async function sampleDependence(
  model: Module<Tensor, Tensor>,
  images: Tensor,
): Promise<SampleDependence | undefined> {
  const batch = images.shape[0] ?? 0;
  // Each pass starts from the same running statistics: where they move within a pass, that is dependence, and not between passes.
  const buffers: (readonly [Tensor, Awaited<ReturnType<Tensor['data']>>])[] = [];
  for (const buffer of model.buffers()) buffers.push([buffer, (await buffer.data()).slice()]);
  const outputs = async (start: number, end: number): Promise<Float32Array> => {
    for (const [buffer, values] of buffers) buffer.copyFrom(values);
    const result = noGrad(() => scope(() => model.call(images.slice({ starts: [start], ends: [end] }))));
    if (isAuxiliaryNetwork(model)) model.takeAuxiliaryLogits()?.dispose();
    try {
      return Float32Array.from(await result.data());
    } finally {
      result.dispose();
    }
  };
  const unsilence = silenceNoise(model as AnyModule);
  try {
    const together = await outputs(0, batch);
    for (const companyOf of [1, 2]) {
      if (companyOf >= batch) return undefined;
      try {
        const groups = Math.min(SAMPLES, Math.floor(batch / companyOf));
        const apart: number[] = [];
        for (let group = 0; group < groups; group++) {
          apart.push(...(await outputs(group * companyOf, (group + 1) * companyOf)));
        }
        return { samples: groups * companyOf, companyOf, ...difference(together, apart) };
      } catch (error) {
        // Batch statistics of one value are refused by some layers.
        if (!(error instanceof EvenkeelError) || companyOf > 1) throw error;
      }
    }
    return undefined;
  } finally {
    unsilence();
  }
}

function difference(together: Float32Array, apart: readonly number[]) {
  let [largest, squares, power] = [0, 0, 0];
  for (const [index, value] of apart.entries()) {
    const other = together[index] ?? 0;
    largest = Math.max(largest, Math.abs(value - other));
    squares += (value - other) ** 2;
    power += other ** 2;
  }
  return { maximumDifference: largest, relativeDifference: squares === 0 ? 0 : Math.sqrt(squares / power) };
}
