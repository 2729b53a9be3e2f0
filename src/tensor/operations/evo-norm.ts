import { EvenkeelError } from '../../errors';
import { formatShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkOptions, optionNames } from './check';
import {
  checkChannels,
  checkMomentum,
  geometryOf,
  type NormalizationOptions,
  recordNormalization,
} from './normalization';

/** Options of {@link evoNormS0}. */
export interface EvoNormS0Options extends Omit<NormalizationOptions, 'activation'> {
  /** Slope of each channel's gate, `[channels]`. */
  readonly slope: Tensor;
  /** Groups of neighbouring channels that share their variance; must divide the channels. */
  readonly groups: number;
}

const evoNormS0Options = optionNames<EvoNormS0Options>({
  slope: true,
  gamma: true,
  beta: true,
  groups: true,
  epsilon: true,
});

/**
 * EvoNorm-S0 (Liu et al. 2020): `x · sigmoid(slope · x) / √(variance + epsilon) · gamma + beta`, the biased variance of each sample and
 * group of channels, over all positions. It stands for a normalization and an activation.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function evoNormS0(input: Tensor, options: EvoNormS0Options): Tensor {
  checkOptions('evoNormS0', options, evoNormS0Options);
  const { batch, positions, channels } = geometryOf('evoNormS0', input, options);
  const { slope, gamma, beta, groups, epsilon = 1e-5 } = options;
  checkChannels('evoNormS0', 'slope', slope, channels, input.shape);
  if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `evoNormS0: groups must be a whole number that divides the ${channels} channels of the input ${formatShape(input.shape)}, got ` +
        `${groups}`,
    );
  }
  const inputs = [input, slope, gamma, beta];
  const words = [batch, positions, channels, groups];
  const output = allocate('evoNormS0', input.shape);
  const saved = allocate('evoNormS0', [3, batch, groups]);
  run('evo_norm_s0', [output, saved], ...inputs, ...words, epsilon);
  recordNormalization('evoNormS0', inputs, output, {
    operation: 'evo_norm_s0_backward',
    saved: [saved],
    words,
  });
  saved.dispose();
  return output;
}

/** Options of {@link evoNormB0}. */
export interface EvoNormB0Options extends Omit<NormalizationOptions, 'activation'> {
  /** Slope of each channel, `[channels]`. */
  readonly slope: Tensor;
  /** Whether the variance is the batch's (and moves the running one) or the running one. */
  readonly training: boolean;
  /** `[channels]`, updated in place in training, towards the biased variance; needed outside it. */
  readonly runningVariance?: Tensor | undefined;
  /** The share of the batch in the running variance, 0 to 1. @defaultValue 0.1 */
  readonly momentum?: number | undefined;
}

const evoNormB0Options = optionNames<EvoNormB0Options>({
  slope: true,
  gamma: true,
  beta: true,
  training: 'boolean',
  runningVariance: true,
  momentum: true,
  epsilon: true,
});

/**
 * EvoNorm-B0 (Liu et al. 2020): `x / max(√(batch variance + epsilon), slope · x + √(instance variance + epsilon)) · gamma + beta`, biased
 * variances of each channel over batch and positions, and over the positions of each sample. It stands for a normalization and an
 * activation. At a tie of the maximum the gradient goes to the batch's part. Outside training the running variance takes the place of
 * the batch's; it does not move with a batch that has a variance that is not finite. The batch's root counts as 1e-30 at least, so that
 * zeros give `beta` also where `epsilon` is 0.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function evoNormB0(input: Tensor, options: EvoNormB0Options): Tensor {
  checkOptions('evoNormB0', options, evoNormB0Options);
  const { batch, positions, channels } = geometryOf('evoNormB0', input, options);
  const { slope, gamma, beta, training, runningVariance, epsilon = 1e-5, momentum = 0.1 } = options;
  checkChannels('evoNormB0', 'slope', slope, channels, input.shape);
  checkChannels('evoNormB0', 'runningVariance', runningVariance, channels, input.shape);
  if (!training && runningVariance === undefined) {
    throw new EvenkeelError('INVALID_ARGUMENT', 'evoNormB0: outside training give runningVariance');
  }
  checkMomentum('evoNormB0', momentum);
  const inputs = [input, slope, gamma, beta];
  const given = training ? undefined : runningVariance;
  const running = training ? runningVariance : undefined;
  const words = [batch, positions, channels, epsilon];
  const output = allocate('evoNormB0', input.shape);
  const saved = allocate('evoNormB0', [3, batch + 1, channels]);
  run('evo_norm_b0', [output, saved], ...inputs, given, ...words, running, momentum);
  if (running !== undefined) running.storage.version++;
  recordNormalization('evoNormB0', inputs, output, {
    operation: 'evo_norm_b0_backward',
    saved: [saved],
    constants: [given],
    words,
  });
  saved.dispose();
  return output;
}
