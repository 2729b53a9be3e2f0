/** The values of one layer on one batch: `[samples, positions, channels]`, channels contiguous. */
export interface ChannelValues {
  readonly values: ArrayLike<number>;
  readonly samples: number;
  readonly positions: number;
  readonly channels: number;
}

/** The power of normalized pre-activations in four parts (Labatie et al. 2021): `total = constant + within + means + deviations`. */
export interface PowerDecomposition {
  /** P1, `E_c[(E_x μ)²]`: what a channel has in common for all samples and positions. */
  readonly constant: number;
  /** P2, `E_c[(E_x σ)²]`: the average variation within a sample. */
  readonly within: number;
  /** P3, `E_c[Var_x μ]`: how much the means of samples differ. */
  readonly means: number;
  /** P4, `E_c[Var_x σ]`: how much the deviations of samples differ. */
  readonly deviations: number;
  /** The mean square of all values, computed on its own. */
  readonly total: number;
}

/**
 * Splits the mean square of `values` into the four parts, with μ and σ the mean and the standard deviation of each sample and channel over
 * the positions. Variances are those of the population, so that the parts add up to the total. The sums are float64 and centred.
 */
export function powerDecomposition({ values, samples, positions, channels }: ChannelValues): PowerDecomposition {
  const instances = samples * channels;
  const mean = new Float64Array(instances);
  const deviation = new Float64Array(instances);
  let squares = 0;
  for (let sample = 0; sample < samples; sample++) {
    const row = sample * channels;
    for (let position = 0; position < positions; position++) {
      const start = (sample * positions + position) * channels;
      for (let channel = 0; channel < channels; channel++) {
        const value = values[start + channel] ?? 0;
        mean[row + channel] = (mean[row + channel] ?? 0) + value / positions;
        squares += value * value;
      }
    }
    for (let position = 0; position < positions; position++) {
      const start = (sample * positions + position) * channels;
      for (let channel = 0; channel < channels; channel++) {
        const centred = (values[start + channel] ?? 0) - (mean[row + channel] ?? 0);
        deviation[row + channel] = (deviation[row + channel] ?? 0) + (centred * centred) / positions;
      }
    }
  }
  for (let index = 0; index < instances; index++) deviation[index] = Math.sqrt(deviation[index] ?? 0);
  const [constant, means] = momentsOverSamples(mean, samples, channels);
  const [within, deviations] = momentsOverSamples(deviation, samples, channels);
  return { constant, within, means, deviations, total: squares / Math.max(1, instances * positions) };
}

/** Averages over the channels of the squared mean and of the variance over the samples. */
function momentsOverSamples(statistic: Float64Array, samples: number, channels: number): [number, number] {
  let squaredMean = 0;
  let variance = 0;
  for (let channel = 0; channel < channels; channel++) {
    let sum = 0;
    for (let sample = 0; sample < samples; sample++) sum += statistic[sample * channels + channel] ?? 0;
    const mean = sum / samples;
    squaredMean += mean ** 2 / channels;
    for (let sample = 0; sample < samples; sample++) {
      variance += ((statistic[sample * channels + channel] ?? 0) - mean) ** 2 / samples / channels;
    }
  }
  return [squaredMean, variance];
}

/** The channels that have one and the same value for every sample and position: they tell the next layer nothing. */
export function constantChannels({ values, samples, positions, channels }: ChannelValues): number[] {
  const rows = samples * positions;
  if (rows < 2) return [];
  const found: number[] = [];
  for (let channel = 0; channel < channels; channel++) {
    let row = 1;
    while (row < rows && values[row * channels + channel] === values[channel]) row++;
    if (row === rows) found.push(channel);
  }
  return found;
}

/** Whether one of the values is not a finite number. */
export function hasNonFinite({ values }: ChannelValues): boolean {
  for (let index = 0; index < values.length; index++) if (!Number.isFinite(values[index])) return true;
  return false;
}
