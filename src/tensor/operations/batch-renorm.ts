import { EvenkeelError } from '../../errors';
import { formatShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkOptions, optionNames } from './check';
import { activationWords } from './fused-activation';
import { checkChannels, geometryOf, type NormalizationOptions, recordNormalization } from './normalization';

/** Options of {@link batchRenorm}. */
export interface BatchRenormOptions extends NormalizationOptions {
  /** `[channels]`, updated in place. */
  readonly runningMean: Tensor;
  /** Running `√(variance + epsilon)`, `[channels]`, updated in place. */
  readonly runningDeviation: Tensor;
  /** Calls so far, `[1]`, counted in place. */
  readonly steps: Tensor;
  /** The share of the batch in the running statistics, 0 to 1. */
  readonly momentum: number;
  /** Calls before the limits begin to grow. */
  readonly plainSteps: number;
  /** The call at which r may reach `maximumScale`. */
  readonly scaleSteps: number;
  /** The call at which d may reach `maximumShift`. */
  readonly shiftSteps: number;
  /** The last limit of r, 1 or more. */
  readonly maximumScale: number;
  /** The last limit of d, 0 or more. */
  readonly maximumShift: number;
}

const batchRenormOptions = optionNames<BatchRenormOptions>({
  gamma: true,
  beta: true,
  epsilon: true,
  activation: true,
  runningMean: true,
  runningDeviation: true,
  steps: true,
  momentum: true,
  plainSteps: true,
  scaleSteps: true,
  shiftSteps: true,
  maximumScale: true,
  maximumShift: true,
});

/**
 * Batch renormalization in training (Ioffe 2017): `activation((normalized · r + d) · gamma + beta)`, where r and d lead from the batch's
 * statistics to the running ones as far as their limits allow, and count as constants.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT (also for a batch with a single value of each channel)
 */
export function batchRenorm(input: Tensor, options: BatchRenormOptions): Tensor {
  checkOptions('batchRenorm', options, batchRenormOptions);
  const { batch, positions, channels } = geometryOf('batchRenorm', input, options);
  const { gamma, beta, runningMean, runningDeviation, steps, epsilon = 1e-5, momentum } = options;
  checkChannels('batchRenorm', 'runningMean', runningMean, channels, input.shape);
  checkChannels('batchRenorm', 'runningDeviation', runningDeviation, channels, input.shape);
  if (batch * positions === 1) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `batchRenorm: a training batch of shape ${formatShape(input.shape)} has one value for each channel, which has no variance; use a ` +
        'larger batch, or a norm that does not depend on it (groupNorm, layerNorm, filterResponseNorm)',
    );
  }
  const shape = [batch, positions, channels];
  const activation = activationWords('batchRenorm', options.activation ?? 'none');
  const schedule = [options.plainSteps, options.scaleSteps, options.shiftSteps];
  const limits = [options.maximumScale, options.maximumShift].map((limit) => Math.min(limit, 3e38));
  const output = allocate('batchRenorm', input.shape);
  const saved = allocate('batchRenorm', [5, channels]);
  const moving = [runningMean, runningDeviation, steps];
  const words = [...shape, ...activation];
  const numbers = [epsilon, momentum, ...schedule, ...limits];
  run('batch_renorm', [output, saved], input, gamma, beta, ...words, ...moving, ...numbers);
  for (const { storage } of moving) storage.version++;
  recordNormalization('batchRenorm', [input, gamma, beta], output, {
    operation: 'batch_renorm_backward',
    saved: [saved],
    words,
  });
  saved.dispose();
  return output;
}
