import { EvenkeelError } from '../errors';

/** Mean and variance of each channel over a number of values. */
export interface ChannelStatistics {
  /** Values of each channel. */
  readonly count: number;
  /** Mean of each channel. */
  readonly mean: ArrayLike<number>;
  /** Biased variance of each channel. */
  readonly variance: ArrayLike<number>;
}

/** What {@link mergeStatistics} returns, in float64. */
export interface MergedStatistics extends ChannelStatistics {
  readonly mean: Float64Array;
  readonly variance: Float64Array;
}

/**
 * The statistics of a whole from those of its parts, of any sizes (Chan, Golub and LeVeque 1983): what synchronized batch
 * normalization does with the statistics of its machines. Computed in float64 from differences of means, so that means far from 0
 * cost no precision; a part with a count of 0 changes nothing.
 *
 * @throws EvenkeelError INVALID_ARGUMENT for no parts, a negative count or no values at all; SHAPE_MISMATCH for unequal channels
 */
export function mergeStatistics(parts: readonly ChannelStatistics[]): MergedStatistics {
  const channels = parts[0]?.mean.length;
  if (channels === undefined) throw new EvenkeelError('INVALID_ARGUMENT', 'mergeStatistics: give at least one part');
  const mean = new Float64Array(channels);
  const squares = new Float64Array(channels);
  let count = 0;
  for (const [index, part] of parts.entries()) {
    if (part.mean.length !== channels || part.variance.length !== channels) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `mergeStatistics: part ${index} has ${part.mean.length} means and ${part.variance.length} variances; expected ${channels}`,
      );
    }
    if (!Number.isInteger(part.count) || part.count < 0) {
      throw new EvenkeelError('INVALID_ARGUMENT', `mergeStatistics: part ${index} has a count of ${part.count}`);
    }
    if (part.count === 0) continue;
    const total = count + part.count;
    for (let channel = 0; channel < channels; channel++) {
      const difference = (part.mean[channel] as number) - (mean[channel] as number);
      mean[channel] = (mean[channel] as number) + (difference * part.count) / total;
      squares[channel] =
        (squares[channel] as number) +
        (part.variance[channel] as number) * part.count +
        (difference * difference * count * part.count) / total;
    }
    count = total;
  }
  if (count === 0) throw new EvenkeelError('INVALID_ARGUMENT', 'mergeStatistics: all parts are empty');
  return { count, mean, variance: squares.map((sum) => sum / count) };
}
