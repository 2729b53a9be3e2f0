import type { ChannelValues } from './channels';

/** How the channels of a layer depend on each other, from a sample of rows and channels. */
export interface Dependence {
  /** Mean of |correlation| over the pairs of channels; `undefined` with fewer than two channels that vary. */
  readonly correlation: number | undefined;
  /** Mean mutual information of the pairs, in nats, as if they were Gaussian: `−½ ln(1 − ρ²)`. A lower bound of order, not exact. */
  readonly mutualInformation: number | undefined;
  /** Largest by smallest eigenvalue of the covariance; infinite where a combination of channels never varies. */
  readonly conditionNumber: number | undefined;
}

const MAXIMUM_CHANNELS = 32;
const MAXIMUM_ROWS = 1024;
/** So many rows for each channel, so that a covariance is not singular for lack of data. */
const ROWS_A_CHANNEL = 4;
/** Eigenvalues below this share of the largest one are rounding of float32 values. */
const NEGLIGIBLE = 1e-12;
/** Relative variance of a channel that is constant but for rounding. */
const RESOLUTION = 1e-14;

/**
 * Correlation, mutual information and condition number of the channels. At most 32 channels and 1024 rows (a row is one position of one
 * sample) are looked at, spread evenly; channels that never vary are left out.
 */
export function dependence(layer: ChannelValues): Dependence {
  const covariance = sampledCovariance(layer);
  const size = covariance.length;
  if (size === 0) return { correlation: undefined, mutualInformation: undefined, conditionNumber: undefined };
  let [correlation, information, pairs] = [0, 0, 0];
  for (const [first, row] of covariance.entries()) {
    for (let second = 0; second < first; second++) {
      const scale = Math.sqrt((row[first] ?? 0) * (covariance[second]?.[second] ?? 0));
      const rho = Math.min(Math.abs((row[second] ?? 0) / scale), 1 - 1e-12);
      correlation += rho;
      information -= Math.log1p(-(rho ** 2)) / 2;
      pairs++;
    }
  }
  return {
    correlation: pairs === 0 ? undefined : correlation / pairs,
    mutualInformation: pairs === 0 ? undefined : information / pairs,
    conditionNumber: conditionNumber(covariance),
  };
}

function sampledCovariance({ values, samples, positions, channels }: ChannelValues): Float64Array[] {
  const rows = evenly(samples * positions, MAXIMUM_ROWS);
  if (rows.length < 2) return [];
  const columns = evenly(channels, Math.max(2, Math.min(MAXIMUM_CHANNELS, Math.floor(rows.length / ROWS_A_CHANNEL))))
    .map((channel) => {
      const column = Float64Array.from(rows, (row) => values[row * channels + channel] ?? 0);
      const mean = column.reduce((sum, value) => sum + value / column.length, 0);
      const centred = column.map((value) => value - mean);
      return { column: centred, mean, variance: inner(centred, centred) / column.length };
    })
    // What is below float32's resolution of the mean is rounding and not variation.
    .filter(({ mean, variance }) => variance > RESOLUTION * mean ** 2 && Number.isFinite(variance));
  const covariance = columns.map(() => new Float64Array(columns.length));
  for (const [first, { column }] of columns.entries()) {
    for (const [second, other] of columns.slice(0, first + 1).entries()) {
      const value = inner(column, other.column) / rows.length;
      (covariance[first] as Float64Array)[second] = value;
      (covariance[second] as Float64Array)[first] = value;
    }
  }
  return covariance;
}

/** At most `limit` numbers from 0 to `count` − 1, spread evenly. */
function evenly(count: number, limit: number): number[] {
  const taken = Math.min(count, limit);
  return Array.from({ length: taken }, (_, index) => Math.floor((index * count) / taken));
}

/**
 * Largest by smallest eigenvalue of a symmetric matrix with no negative eigenvalues. The largest one comes from power iteration, the
 * smallest one from power iteration with the inverse, by Cholesky's factors.
 */
export function conditionNumber(matrix: readonly Float64Array[]): number {
  const largest = powerIteration(matrix.length, (vector) => matrix.map((row) => inner(row, vector)));
  const factor = cholesky(matrix, NEGLIGIBLE * largest);
  if (factor === undefined) return Number.POSITIVE_INFINITY;
  return largest * powerIteration(matrix.length, (vector) => solve(factor, vector));
}

function powerIteration(size: number, apply: (vector: Float64Array) => ArrayLike<number>): number {
  // Irregular, so that it is not orthogonal to the eigenvector that is looked for.
  let vector = Float64Array.from({ length: size }, (_, index) => 1 + Math.sin(1 + 7 * index) / 2);
  let value = 0;
  for (let step = 0; step < 500; step++) {
    const norm = Math.sqrt(inner(vector, vector));
    vector = vector.map((element) => element / norm);
    const image = Float64Array.from(apply(vector));
    const next = inner(vector, image);
    if (Math.abs(next - value) <= 1e-10 * Math.abs(next)) return next;
    value = next;
    vector = image;
  }
  return value;
}

/** The lower triangle L with `L Lᵀ = matrix`; `undefined` where a pivot is not above `least`. */
function cholesky(matrix: readonly Float64Array[], least: number): Float64Array[] | undefined {
  const factor: Float64Array[] = [];
  for (const [index, row] of matrix.entries()) {
    const line = new Float64Array(matrix.length);
    factor.push(line);
    for (let column = 0; column <= index; column++) {
      const other = factor[column] ?? line;
      let rest = row[column] ?? 0;
      for (let k = 0; k < column; k++) rest -= (line[k] ?? 0) * (other[k] ?? 0);
      if (column < index) line[column] = rest / (other[column] ?? 1);
      else if (rest > least) line[index] = Math.sqrt(rest);
      else return undefined;
    }
  }
  return factor;
}

/** The solution of `L Lᵀ x = right`. */
function solve(factor: readonly Float64Array[], right: Float64Array): Float64Array {
  const solution = Float64Array.from(right);
  for (const [index, row] of factor.entries()) {
    for (let k = 0; k < index; k++) solution[index] = (solution[index] ?? 0) - (row[k] ?? 0) * (solution[k] ?? 0);
    solution[index] = (solution[index] ?? 0) / (row[index] ?? 1);
  }
  for (let index = factor.length - 1; index >= 0; index--) {
    const pivot = factor[index]?.[index] ?? 1;
    const value = (solution[index] ?? 0) / pivot;
    solution[index] = value;
    for (let k = 0; k < index; k++) solution[k] = (solution[k] ?? 0) - (factor[index]?.[k] ?? 0) * value;
  }
  return solution;
}

function inner(first: Float64Array, second: Float64Array): number {
  let sum = 0;
  for (let index = 0; index < first.length; index++) sum += (first[index] ?? 0) * (second[index] ?? 0);
  return sum;
}
