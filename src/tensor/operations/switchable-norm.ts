import { EvenkeelError } from '../../errors';
import { formatShape, sameShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat, checkOptions, optionNames } from './check';
import { activationWords } from './fused-activation';
import { checkRunning, geometryOf, type NormalizationOptions, recordNormalization } from './normalization';

/** Options of {@link switchableNorm}. */
export interface SwitchableNormOptions extends NormalizationOptions {
  /** What the weights of the means of instance, layer and batch are the softmax of, `[3]`. */
  readonly meanLogits: Tensor;
  /** What the weights of the variances of instance, layer and batch are the softmax of, `[3]`. */
  readonly varianceLogits: Tensor;
  /** Whether the statistics of the batch are its own (and move the running ones) or the running ones. */
  readonly training: boolean;
  /** `[channels]`, updated in place in training; needed outside it. Given together with `runningVariance`. */
  readonly runningMean?: Tensor | undefined;
  /** `[channels]`, as `runningMean`; it moves towards the biased variance of the batch. */
  readonly runningVariance?: Tensor | undefined;
  /** The share of the batch in the running statistics, 0 to 1. @defaultValue 0.1 */
  readonly momentum?: number | undefined;
}

const switchableNormOptions = optionNames<SwitchableNormOptions>({
  gamma: true,
  beta: true,
  epsilon: true,
  activation: true,
  meanLogits: true,
  varianceLogits: true,
  training: 'boolean',
  runningMean: true,
  runningVariance: true,
  momentum: true,
});

/**
 * Switchable normalization (Luo et al. 2018): `activation((x - mean) / √(variance + epsilon) · gamma + beta)`, mean and variance being
 * weighed sums of those of instance, layer and batch normalization, all biased. The running statistics do not move with a batch that
 * has a statistic that is not finite.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function switchableNorm(input: Tensor, options: SwitchableNormOptions): Tensor {
  checkOptions('switchableNorm', options, switchableNormOptions);
  const name = 'switchableNorm';
  const { batch, positions, channels } = geometryOf(name, input, options);
  const { gamma, beta, meanLogits, varianceLogits, training, runningMean, runningVariance } = options;
  const { epsilon = 1e-5, momentum = 0.1 } = options;
  checkFloat(name, { meanLogits, varianceLogits });
  if (!sameShape(meanLogits.shape, [3]) || !sameShape(varianceLogits.shape, [3])) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${name}: expected meanLogits and varianceLogits of shape [3], got ${formatShape(meanLogits.shape)} and ` +
        `${formatShape(varianceLogits.shape)}`,
    );
  }
  checkRunning(name, options, channels, input.shape);
  if (!training && runningMean === undefined) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${name}: outside training give runningMean and runningVariance`);
  }
  const inputs = [input, gamma, beta, meanLogits, varianceLogits];
  const statistics = [runningMean, runningVariance];
  const absent = [undefined, undefined];
  const [given, running] = training ? [absent, statistics] : [statistics, absent];
  const words = [batch, positions, channels, epsilon, ...activationWords(name, options.activation ?? 'none')];
  const output = allocate(name, input.shape);
  const saved = allocate(name, [4, batch, channels]);
  run('switchable_norm', [output, saved], ...inputs, ...given, ...words, ...running, momentum);
  for (const moved of running) if (moved !== undefined) moved.storage.version++;
  recordNormalization(name, inputs, output, {
    operation: 'switchable_norm_backward',
    saved: [saved],
    constants: given,
    words,
  });
  saved.dispose();
  return output;
}
