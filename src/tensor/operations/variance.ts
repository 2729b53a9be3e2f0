import { EvenkeelError } from '../../errors';
import { show } from '../../options';
import { scope } from '../scope';
import { formatShape } from '../shape';
import type { Tensor } from '../tensor';
import { checkFloat, checkOptions, optionNames } from './check';
import { abs, div, equal, mul, sqrt, square, sub, where } from './elementwise';
import { reshape } from './layout';
import { type Geometry, geometryOf, max, mean, type ReductionOptions, sum } from './reduction';

/** Options of {@link variance} and {@link standardDeviation}. */
export interface VarianceOptions extends ReductionOptions {
  /**
   * What is taken off the number of elements that the sum of squares is divided by: 0 for the elements' own variance, as norms and NumPy
   * have it; 1 for the unbiased estimate of what they were drawn from, PyTorch's default. @defaultValue 0
   */
  readonly correction?: number;
}

const varianceOptions = optionNames<VarianceOptions>({ axes: true, keepDims: 'boolean', correction: true });

interface Plan extends Geometry {
  /** What the sum of squares is divided by. */
  readonly divisor: number;
}

function plan(operation: string, input: Tensor, options: VarianceOptions): Plan {
  checkOptions(operation, options, varianceOptions);
  checkFloat(operation, { input });
  const { correction = 0 } = options;
  if (typeof correction !== 'number' || !(correction >= 0 && correction < Number.POSITIVE_INFINITY)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: correction is ${show(correction)}; give 0, or 1 for the unbiased estimate`,
    );
  }
  const geometry = geometryOf(operation, input, options);
  const divisor = geometry.count - correction;
  if (correction > 0 && divisor <= 0 && geometry.shape.every((length) => length > 0)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: correction ${correction} needs more than ${correction} elements along the axes, and the input of shape ` +
        `${formatShape(input.shape)} has ${geometry.count}; leave the correction out, or give more`,
    );
  }
  return { ...geometry, divisor };
}

/**
 * The input less its mean. Twice, because the first mean is rounded to float32: what that leaves, the second takes off. Either is a
 * constant for the gradient, because a variance is the same for all shifts.
 */
function centred(input: Tensor, axes: readonly number[]): Tensor {
  const withoutMean = (values: Tensor) => sub(values, mean(values.detach(), { axes, keepDims: true }));
  return withoutMean(withoutMean(input));
}

function meanSquare(input: Tensor, { axes, divisor }: Plan): Tensor {
  return mul(sum(square(input), { axes, keepDims: true }), 1 / divisor);
}

/**
 * The mean squared distance from the mean over axes (divided by fewer than the elements with `correction`): of elements centred
 * first, so that it is right where the mean is thousands of times the deviation; NaN of nothing. Squares must be within float32's range:
 * {@link standardDeviation} also takes elements of 1e+20 and 1e-30.
 *
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT (an axis that does not exist, or twice; no more elements than `correction`)
 */
export function variance(input: Tensor, options: VarianceOptions = {}): Tensor {
  const geometry = plan('variance', input, options);
  return scope(() => reshape(meanSquare(centred(input, geometry.axes), geometry), geometry.shape));
}

/**
 * The square root of the variance over axes, of elements of any size; NaN of nothing. The gradient of equal elements, whose deviation is
 * 0, is 0.
 *
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT (an axis that does not exist, or twice; no more elements than `correction`)
 */
export function standardDeviation(input: Tensor, options: VarianceOptions = {}): Tensor {
  const geometry = plan('standardDeviation', input, options);
  const { axes, shape, count } = geometry;
  return scope(() => {
    const distances = centred(input, axes);
    if (count === 0) return reshape(meanSquare(distances, geometry), shape);
    // Of distances divided by the largest, no square is beyond float32; for the gradient, that is a constant.
    const largest = max(abs(distances.detach()), { axes, keepDims: true });
    const constant = equal(largest, 0);
    const squares = meanSquare(div(distances, where(constant, 1, largest)), geometry);
    // No root of 0, whose derivative is infinite.
    return reshape(mul(sqrt(where(constant, 1, squares)), largest), shape);
  });
}
