import { EvenkeelError } from '../errors';
import { checkOptions, optionNames, show } from '../options';
import { checkDataset, type Dataset, isList } from './dataset';
import { shuffled } from './shuffle';

/** Copies the images at `indices`, which are known to be there. */
function copied(dataset: Dataset, indices: ArrayLike<number>): Dataset {
  const size = dataset.shape.reduce((product, length) => product * length, 1);
  const length = indices.length;
  const images = dataset.images instanceof Uint8Array ? new Uint8Array(length * size) : new Float32Array(length * size);
  const labels = new Int32Array(length);
  for (let position = 0; position < length; position++) {
    const index = indices[position]!;
    images.set(dataset.images.subarray(index * size, (index + 1) * size), position * size);
    labels[position] = dataset.labels[index]!;
  }
  // Means and deviations stay: what is held out must be normalized as what is trained on.
  return { ...dataset, images, labels, length };
}

/**
 * The images of a data set at `indices`, in their order, as a data set of its own: a copy with the same classes, mean and standard
 * deviation. An index may be given several times.
 *
 * @throws EvenkeelError INVALID_ARGUMENT (no indices, or one that is not there)
 */
export function subset(dataset: Dataset, indices: ArrayLike<number>): Dataset {
  checkDataset('subset', dataset);
  if (!isList(indices) || indices.length === 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `subset: indices are ${show(indices)}; give an array of at least one whole number`,
    );
  }
  for (let position = 0; position < indices.length; position++) {
    const index = indices[position]!;
    if (Number.isInteger(index) && index >= 0 && index < dataset.length) continue;
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `subset: index ${position} is ${show(index)}; give whole numbers from 0 to ${dataset.length - 1}`,
    );
  }
  return copied(dataset, indices);
}

/** Options of {@link split}. */
export interface SplitOptions {
  /** Whether images are drawn at random; otherwise the parts follow one another. @defaultValue true */
  readonly shuffle?: boolean;
  /** Decides which images are drawn: a whole number of 0 or more. @defaultValue 0 */
  readonly seed?: number;
}

const splitOptions = optionNames<SplitOptions>({ shuffle: 'boolean', seed: true });

/**
 * Splits a data set into parts, by their shares of the images, which add up to 1; every image is in one part.
 *
 * ```ts
 * const { train, test } = data.digits();
 * const [training, validation] = data.split(train, [0.9, 0.1], { seed: 1 });
 * ```
 *
 * The parts are copies with the classes, mean and standard deviation of the whole. The same seed draws the same images on every machine.
 *
 * @throws EvenkeelError INVALID_ARGUMENT (shares that do not add up to 1, a part without images)
 */
export function split<const Shares extends readonly number[]>(
  dataset: Dataset,
  shares: Shares,
  options: SplitOptions = {},
): { -readonly [Part in keyof Shares]: Dataset } {
  checkOptions('split', options, splitOptions);
  checkDataset('split', dataset);
  const { shuffle = true, seed = 0 } = options;
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new EvenkeelError('INVALID_ARGUMENT', `split: seed is ${show(seed)}; give a whole number of 0 or more`);
  }
  const bounds = boundsOf(shares, dataset.length);
  const order = shuffle
    ? shuffled(dataset.length, seed, 0)
    : Uint32Array.from({ length: dataset.length }, (_, index) => index);
  return bounds.slice(1).map((end, part) => copied(dataset, order.subarray(bounds[part], end))) as {
    -readonly [Part in keyof Shares]: Dataset;
  };
}

/** Where parts begin and end: 0, the end of the first one, and so on to `length`. */
function boundsOf(shares: readonly number[], length: number): number[] {
  const fine = Array.isArray(shares) && shares.length > 0 && shares.every((share) => share > 0);
  const total = fine ? shares.reduce((sum, share) => sum + share, 0) : Number.NaN;
  if (!(Math.abs(total - 1) < 1e-6)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `split: shares are ${show(shares)}; give numbers above 0 that add up to 1, such as [0.9, 0.1] (counts divided by the ` +
        `${length} images there are, for counts)`,
    );
  }
  let sum = 0;
  const bounds = [0];
  for (const share of shares) {
    sum += share;
    bounds.push(Math.round((sum / total) * length));
  }
  const empty = shares.findIndex((_, part) => bounds[part] === bounds[part + 1]);
  if (empty >= 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `split: part ${empty} with a share of ${shares[empty]} of ${length} images has none; give it a larger share`,
    );
  }
  return bounds;
}
