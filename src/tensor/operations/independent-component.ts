import { EvenkeelError } from '../../errors';
import { allocate, run, type Tensor } from '../tensor';
import { checkOptions, optionNames } from './check';
import { batchNorm, checkRunning, geometryOf, type NormalizationOptions, recordNormalization } from './normalization';
import { nextSequence } from './random';

/** Options of {@link independentComponent}. */
export interface IndependentComponentOptions extends Omit<NormalizationOptions, 'activation'> {
  /** The chance that a value is set to 0, in `[0, 1)`. @defaultValue 0.05 */
  readonly rate?: number | undefined;
  /** `[channels]`, updated in place. Given together with `runningVariance`. */
  readonly runningMean?: Tensor | undefined;
  /** `[channels]`; it moves towards the unbiased variance of the batch. */
  readonly runningVariance?: Tensor | undefined;
  /** The share of the batch in the running statistics, 0 to 1. @defaultValue 0.1 */
  readonly momentum?: number | undefined;
}

const independentComponentOptions = optionNames<IndependentComponentOptions>({
  rate: true,
  gamma: true,
  beta: true,
  epsilon: true,
  runningMean: true,
  runningVariance: true,
  momentum: true,
});

/**
 * Batch normalization and dropout in one pass, in training (Chen et al. 2019): `kept / (1 - rate) · ((x - mean) / √(variance + epsilon) ·
 * gamma + beta)`, where each value is kept by itself. With a rate of 0 it is batch normalization. Outside training use `batchNorm`.
 *
 * Masks follow from `manualSeed`; what is kept is one bit for each value. The rate is rounded to a multiple of 2^-16.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT (also for a batch with a single value of each channel)
 */
export function independentComponent(input: Tensor, options: IndependentComponentOptions = {}): Tensor {
  checkOptions('independentComponent', options, independentComponentOptions);
  const { batch, positions, channels } = geometryOf('independentComponent', input, options);
  const { gamma, beta, runningMean, runningVariance, rate = 0.05, epsilon = 1e-5, momentum = 0.1 } = options;
  if (!(rate >= 0 && rate < 1)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `independentComponent: rate must be at least 0 and less than 1, got ${rate}`,
    );
  }
  if (rate === 0) {
    return batchNorm(input, { gamma, beta, runningMean, runningVariance, epsilon, momentum, training: true });
  }
  checkRunning('independentComponent', options, channels, input.shape);
  if (batch * positions === 1) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      'independentComponent: a batch with a single value of each channel has no variance; use a larger batch',
    );
  }
  const shape = [batch, positions, channels];
  const output = allocate('independentComponent', input.shape);
  const saved = allocate('independentComponent', [3, channels]);
  const kept = allocate('independentComponent', [Math.ceil(input.size / 8) + 3], 'uint8');
  run(
    'independent_component',
    [output, saved, kept],
    ...[input, gamma, beta, runningMean, runningVariance],
    ...shape,
    ...[epsilon, momentum, rate],
    ...nextSequence(),
  );
  for (const running of [runningMean, runningVariance]) if (running !== undefined) running.storage.version++;
  recordNormalization('independentComponent', [input, gamma, beta], output, {
    operation: 'independent_component_backward',
    saved: [saved, kept],
    words: [...shape, rate],
  });
  saved.dispose();
  kept.dispose();
  return output;
}
