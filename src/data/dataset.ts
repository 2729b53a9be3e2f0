import { EvenkeelError } from '../errors';
import { checkOptions, optionNames, show } from '../options';

/** Images with one class each, in memory. */
export interface Dataset {
  /** For messages and reports: `CIFAR-10`. */
  readonly name: string;
  /** Which part of the whole it is. */
  readonly split: 'train' | 'test' | 'all';
  /** The stored pixels, `[length, height, width, channels]`. Do not change them: loaders keep a copy. */
  readonly images: Uint8Array | Float32Array;
  /** The class of each image, from 0 to `classes - 1`. */
  readonly labels: Int32Array;
  /** How many images there are. */
  readonly length: number;
  /** Height, width and channels of each image. */
  readonly shape: readonly [height: number, width: number, channels: number];
  /** How many classes there are. */
  readonly classes: number;
  /** The name of each class. */
  readonly names: readonly string[];
  /** The stored value that counts as 1: 255 for photographs in bytes. */
  readonly maximum: number;
  /** Mean of each channel over the training images, where `maximum` is 1. */
  readonly mean: readonly number[];
  /** Standard deviation of each channel over the training images, where `maximum` is 1. */
  readonly std: readonly number[];
}

/** A data set in its two parts. */
export interface Splits {
  readonly train: Dataset;
  readonly test: Dataset;
}

/** Options of {@link fromArrays}. */
export interface FromArraysOptions {
  /** The pixels, `[count, height, width, channels]`, row-major; kept, not copied. */
  readonly images: Uint8Array | Float32Array;
  /** The class of each image. */
  readonly labels: Int32Array | Uint8Array | readonly number[];
  /** Height, width and channels of each image. */
  readonly shape: readonly [height: number, width: number, channels: number];
  /** How many classes there are. @defaultValue the number of names, or the largest label + 1 */
  readonly classes?: number;
  /** The name of each class. @defaultValue `'0'`, `'1'`, … */
  readonly names?: readonly string[];
  /** For messages and reports. @defaultValue `'arrays'` */
  readonly name?: string;
  /** Which part of the whole it is. @defaultValue `'all'` */
  readonly split?: 'train' | 'test' | 'all';
  /** The stored value that counts as 1. @defaultValue 255 for bytes, 1 for floating point */
  readonly maximum?: number;
  /** Mean of each channel, where `maximum` is 1; give a test set that of its training set. @defaultValue that of these images */
  readonly mean?: readonly number[];
  /** Standard deviation of each channel; see `mean`. A channel that is constant counts as 1. */
  readonly std?: readonly number[];
}

function invalid(problem: string): EvenkeelError {
  return new EvenkeelError('INVALID_ARGUMENT', `fromArrays: ${problem}`);
}

const fromArraysOptions = optionNames<FromArraysOptions>({
  images: true,
  labels: true,
  shape: true,
  classes: true,
  names: true,
  name: true,
  split: true,
  maximum: true,
  mean: true,
  std: true,
});

/**
 * A data set of the user's own arrays. Every label and size is checked.
 *
 * @throws EvenkeelError INVALID_ARGUMENT, SHAPE_MISMATCH (lengths that do not fit the shape), NON_FINITE (a pixel)
 */
export function fromArrays(options: FromArraysOptions): Dataset {
  checkOptions('fromArrays', options, fromArraysOptions);
  const { images, shape, name = 'arrays', split = 'all' } = options;
  if (!(images instanceof Uint8Array || images instanceof Float32Array)) {
    throw invalid(`images are ${show(images)}; give a Uint8Array or a Float32Array`);
  }
  if (!Array.isArray(shape) || shape.length !== 3 || !shape.every((size) => Number.isInteger(size) && size > 0)) {
    throw invalid(`shape must be [height, width, channels], whole numbers above 0, got ${show(shape)}`);
  }
  const given: unknown = options.labels;
  if (!isList(given)) throw invalid(`labels are ${show(given)}; give an array of whole numbers`);
  const labels = Int32Array.from(options.labels);
  const pixels = shape[0] * shape[1] * shape[2];
  if (labels.length === 0) throw invalid('there are no labels, so there is nothing to learn from');
  if (images.length !== labels.length * pixels) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `fromArrays: ${labels.length} images of [${shape.join(', ')}] have ${labels.length * pixels} pixels, but ${images.length} were given`,
    );
  }
  const bytes = images instanceof Uint8Array;
  if (!bytes) {
    const at = images.findIndex((value) => !Number.isFinite(value));
    if (at >= 0) {
      throw new EvenkeelError(
        'NON_FINITE',
        `fromArrays: image ${Math.floor(at / pixels)} has a pixel of ${images[at]}; clean the data first`,
      );
    }
  }
  let largest = 0;
  for (const [index, label] of labels.entries()) {
    if (label < 0 || label !== options.labels[index]) {
      throw invalid(`label ${index} is ${options.labels[index]}; labels are whole numbers from 0 on`);
    }
    largest = Math.max(largest, label);
  }
  const classes = options.classes ?? options.names?.length ?? largest + 1;
  if (!Number.isInteger(classes) || classes <= largest) {
    throw invalid(`there is a label ${largest}, so classes must be at least ${largest + 1}, got ${classes}`);
  }
  const names = options.names ?? Array.from({ length: classes }, (_, index) => String(index));
  if (!Array.isArray(names) || names.length !== classes) {
    const given = Array.isArray(names) ? names.length : show(names);
    throw invalid(`expected ${classes} names, one for each class, got ${given}`);
  }
  const maximum = options.maximum ?? (bytes ? 255 : 1);
  if (!(maximum > 0 && maximum < Number.POSITIVE_INFINITY)) throw invalid(`maximum must be above 0, got ${maximum}`);
  const { mean, std } = statisticsOf(images, shape[2], maximum, options);
  return { name, split, images, labels, length: labels.length, shape, classes, names, maximum, mean, std };
}

/** Returns `dataset` if it is one; otherwise throws `INVALID_ARGUMENT`. */
export function checkDataset(owner: string, dataset: Dataset): Dataset {
  if (Array.isArray(dataset?.shape) && ArrayBuffer.isView(dataset.labels)) return dataset;
  const splits = Object(dataset) as Partial<Splits>;
  const advice =
    splits.train === undefined
      ? 'data.fromArrays(…), or a split of data.digits()'
      : 'one of its splits, such as .train';
  throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: expected a data set, got ${show(dataset)}; give ${advice}`);
}

/** Whether JavaScript gave an array, of any kind. */
export function isList(values: unknown): boolean {
  return Array.isArray(values) || ArrayBuffer.isView(values);
}

function statisticsOf(
  images: Uint8Array | Float32Array,
  channels: number,
  maximum: number,
  given: Pick<FromArraysOptions, 'mean' | 'std'>,
): { readonly mean: readonly number[]; readonly std: readonly number[] } {
  const own = given.mean === undefined || given.std === undefined ? measure(images, channels, maximum) : undefined;
  const mean = given.mean ?? own?.mean ?? [];
  const std = given.std ?? own?.std ?? [];
  if (!isList(mean) || mean.length !== channels || !mean.every(Number.isFinite)) {
    throw invalid(`mean must have one number for each of ${channels} channels, got ${show(mean)}`);
  }
  if (!isList(std) || std.length !== channels || !std.every((value) => value > 0 && Number.isFinite(value))) {
    throw invalid(`std must have one number above 0 for each of ${channels} channels, got ${show(std)}`);
  }
  return { mean, std };
}

/** Mean and standard deviation of each channel, in two passes: the second one is centred, so that no digits are lost. */
function measure(
  images: Uint8Array | Float32Array,
  channels: number,
  maximum: number,
): { mean: number[]; std: number[] } {
  const count = images.length / channels;
  const mean: number[] = [];
  const std: number[] = [];
  for (let channel = 0; channel < channels; channel++) {
    let sum = 0;
    for (let index = channel; index < images.length; index += channels) sum += images[index]!;
    const average = sum / count;
    let squares = 0;
    for (let index = channel; index < images.length; index += channels) squares += (images[index]! - average) ** 2;
    mean.push(average / maximum);
    std.push(Math.sqrt(squares / count) / maximum || 1);
  }
  return { mean, std };
}

/**
 * The first `count` images of a data set (all, where it has fewer), without a copy.
 *
 * @throws EvenkeelError INVALID_ARGUMENT unless `count` is a whole number of at least 1
 */
export function take(dataset: Dataset, count: number): Dataset {
  checkDataset('take', dataset);
  if (!Number.isInteger(count) || count < 1) {
    throw new EvenkeelError('INVALID_ARGUMENT', `take: count must be a whole number of at least 1, got ${count}`);
  }
  const length = Math.min(count, dataset.length);
  const [height, width, channels] = dataset.shape;
  return {
    ...dataset,
    images: dataset.images.subarray(0, length * height * width * channels),
    labels: dataset.labels.subarray(0, length),
    length,
  };
}
