import { EvenkeelError } from '../../errors';
import { allocate, run, type Tensor } from '../tensor';
import { checkOptions, optionNames } from './check';
import { activationWords } from './fused-activation';
import { checkChannels, geometryOf, type NormalizationOptions, recordNormalization } from './normalization';

/** Options of {@link onlineNorm}. */
export interface OnlineNormOptions extends NormalizationOptions {
  /** Mean that the first sample is normalized with, `[channels]`; moves in place with every sample. */
  readonly runningMean: Tensor;
  /** Biased variance that the first sample is normalized with, `[channels]`; moves in place with every sample. */
  readonly runningVariance: Tensor;
  /** Accumulated projection of the gradients on the normalized values, `[channels]`; the backward pass moves it in place. */
  readonly outputControl: Tensor;
  /** Accumulated sum of the input's gradients, `[channels]`; the backward pass moves it in place. */
  readonly meanControl: Tensor;
  /** Weight of the old running statistics for each sample, 0 to 1. */
  readonly keep: number;
  /** Weight of the old control variables for each sample, 0 to 1. */
  readonly gradientKeep: number;
  /** Whether each sample is divided by its root mean square before the activation, `epsilon` added to the mean square. */
  readonly layerScaling: boolean;
}

const onlineNormOptions = optionNames<OnlineNormOptions>({
  gamma: true,
  beta: true,
  epsilon: true,
  activation: true,
  runningMean: true,
  runningVariance: true,
  outputControl: true,
  meanControl: true,
  keep: true,
  gradientKeep: true,
  layerScaling: 'boolean',
});

/**
 * Online normalization in training (Chiley et al. 2019): every sample of `[batch, …, channels]` is normalized with the running statistics of
 * the samples before it, then scaled, shifted, maybe divided by its root mean square, and activated. The backward pass is not the
 * derivative: it takes off the input's gradient what the control variables say. What runs from sample to sample does not move with a
 * batch that has a NaN or an infinity.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function onlineNorm(input: Tensor, options: OnlineNormOptions): Tensor {
  checkOptions('onlineNorm', options, onlineNormOptions);
  const name = 'onlineNorm';
  const { batch, positions, channels } = geometryOf(name, input, options);
  const { gamma, beta, epsilon = 1e-5, layerScaling, keep, gradientKeep } = options;
  const { runningMean, runningVariance, outputControl, meanControl } = options;
  const running = { runningMean, runningVariance, outputControl, meanControl };
  for (const [which, value] of Object.entries(running)) checkChannels(name, which, value, channels, input.shape);
  for (const [which, weight] of Object.entries({ keep, gradientKeep })) {
    if (!(weight >= 0 && weight <= 1)) {
      throw new EvenkeelError('INVALID_ARGUMENT', `${name}: ${which} must be in 0 to 1, got ${weight}`);
    }
  }
  const inputs = [input, gamma, beta];
  const activation = activationWords(name, options.activation ?? 'none');
  const words = [batch, positions, channels, epsilon, layerScaling, ...activation];
  const output = allocate(name, input.shape);
  const saved = allocate(name, [5 * batch * channels + batch]);
  run('online_norm', [output, saved], ...inputs, ...words, runningMean, runningVariance, keep);
  for (const moved of [runningMean, runningVariance]) moved.storage.version++;
  recordNormalization(name, inputs, output, {
    operation: 'online_norm_backward',
    saved: [saved],
    words: [...words, outputControl, meanControl, gradientKeep],
    moves: [outputControl, meanControl],
  });
  saved.dispose();
  return output;
}
