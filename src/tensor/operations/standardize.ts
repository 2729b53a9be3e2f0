import { EvenkeelError } from '../../errors';
import { record } from '../autograd';
import { formatShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat, checkOptions, optionNames } from './check';
import { checkChannels } from './sign';

/** Options of {@link weightStandardize}. */
export interface WeightStandardizeOptions {
  /** Multiplies each output channel: `[outChannels]`. @defaultValue 1 everywhere */
  readonly gain?: Tensor | undefined;
  /** Keeps the division finite; at least 0. @defaultValue 1e-5 */
  readonly epsilon?: number | undefined;
}

/** Options of {@link scaledWeightStandardize}. */
export interface ScaledWeightStandardizeOptions extends WeightStandardizeOptions {
  /** Makes up for the variance that the activation before takes away: 1.7139588594436646 for ReLU. @defaultValue 1 */
  readonly gamma?: number | undefined;
}

function standardize(
  operation: string,
  weight: Tensor,
  { gain, epsilon = 1e-5, gamma = 1 }: ScaledWeightStandardizeOptions,
  scaled: boolean,
): Tensor {
  checkFloat(operation, { weight }, { gain });
  const outChannels = weight.shape[weight.rank - 1];
  if (outChannels === undefined || weight.rank < 2 || weight.size === 0) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected a weight [..., outChannels] of two axes or more, got shape ${formatShape(weight.shape)}`,
    );
  }
  checkChannels(operation, 'a gain', gain, outChannels);
  if (!(Number.isFinite(epsilon) && epsilon >= 0)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: epsilon must be a finite number of at least 0, got ${epsilon}`,
    );
  }
  if (!Number.isFinite(gamma)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${operation}: gamma must be a finite number, got ${gamma}`);
  }
  const words = [outChannels, scaled, epsilon, gamma] as const;
  const output = allocate(operation, weight.shape);
  run('standardize', [output], weight, gain, ...words);
  const inputs = gain === undefined ? [weight] : [weight, gain];
  const shapes = inputs.map(({ shape }) => shape);
  return record(operation, inputs, output, inputs, (gradient, [keptWeight, keptGain]) => {
    const gradients = shapes.map((shape) => allocate(`${operation} backward`, shape));
    run('standardize_backward', gradients, gradient, keptWeight!, keptGain, ...words);
    return gradients;
  });
}

const weightStandardizeOptions = optionNames<WeightStandardizeOptions>({ gain: true, epsilon: true });

/**
 * Weight standardization (Qiao et al. 2019, equation 5): `gain * (W - mean) / sqrt(variance + epsilon)` over each output channel's
 * weights, with the population variance. `weight` is `[..., outChannels]`: a convolution's HWIO or a linear layer's.
 *
 * Moments are in float64. Where a channel's weights are all equal, the result is 0.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function weightStandardize(weight: Tensor, options: WeightStandardizeOptions = {}): Tensor {
  checkOptions('weightStandardize', options, weightStandardizeOptions);
  return standardize('weightStandardize', weight, options, false);
}

const scaledWeightStandardizeOptions = optionNames<ScaledWeightStandardizeOptions>({
  gain: true,
  epsilon: true,
  gamma: true,
});

/**
 * Scaled weight standardization (Brock et al. 2021, equation 3, in the form of Chen et al. 2021):
 * `gain * gamma * (W - mean) / (standard deviation + epsilon) / sqrt(fanIn)`, which keeps the variance of what goes through the layer.
 *
 * Where a channel's weights are all equal, the result and the gradient are 0.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function scaledWeightStandardize(weight: Tensor, options: ScaledWeightStandardizeOptions = {}): Tensor {
  checkOptions('scaledWeightStandardize', options, scaledWeightStandardizeOptions);
  return standardize('scaledWeightStandardize', weight, options, true);
}
