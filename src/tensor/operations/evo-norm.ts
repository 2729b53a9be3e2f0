import { EvenkeelError } from '../../errors';
import { formatShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkChannels, geometryOf, type NormalizationOptions, recordNormalization } from './normalization';

/** Options of {@link evoNormS0}. */
export interface EvoNormS0Options extends Omit<NormalizationOptions, 'activation'> {
  /** Slope of each channel's gate, `[channels]`. */
  readonly slope: Tensor;
  /** Groups of neighbouring channels that share their variance; must divide the channels. */
  readonly groups: number;
}

/**
 * EvoNorm-S0 (Liu et al. 2020): `x · sigmoid(slope · x) / √(variance + epsilon) · gamma + beta`, the biased variance of each sample and
 * group of channels, over all positions. It stands for a normalization and an activation.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function evoNormS0(input: Tensor, options: EvoNormS0Options): Tensor {
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
    statistics: [saved],
    words,
  });
  saved.dispose();
  return output;
}
