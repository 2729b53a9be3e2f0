import { EvenkeelError } from '../errors';
import type { BatchOptions } from '../native/binding';
import { checkOptions, optionNames, show } from '../options';
import { keep, type Tensor } from '../tensor';
import { bytesOfArray } from '../tensor/dtype';
import { stream } from '../tensor/stream';
import { allocate } from '../tensor/tensor';
import { checkDataset, type Dataset, isList } from './dataset';
import { shuffled } from './shuffle';

/** Batches that are made ahead of the one in use. */
const PREFETCH = 2;
/** Batches by which JavaScript may run ahead of the compute thread; more would fill the memory with waiting batches. */
const LEAD = 2;

/** Images and their classes. Whoever gets a batch frees its tensors. */
export interface Batch {
  /** `[batch, height, width, channels]`, float32. */
  readonly images: Tensor;
  /** `[batch]`, int32. */
  readonly labels: Tensor;
}

/** Random changes of the training images, drawn anew in each epoch. */
export interface AugmentOptions {
  /** Pads each side by so many black pixels and cuts out a part of the image's own size at random. @defaultValue 0 */
  readonly crop?: number;
  /** Mirrors half of the images left to right. @defaultValue false */
  readonly flip?: boolean;
}

/** Options of {@link DataLoader}. */
export interface DataLoaderOptions {
  /** Images of each batch. */
  readonly batchSize: number;
  /** Whether each epoch has an order of its own. @defaultValue false */
  readonly shuffle?: boolean;
  /** Decides orders and augmentations: a whole number of 0 or more. @defaultValue 0 */
  readonly seed?: number;
  /** Random crops and flips. @defaultValue none */
  readonly augment?: AugmentOptions | undefined;
  /**
   * What is taken off and divided by, by channel, where the data set's `maximum` is 1. `true` for the data set's own mean and
   * standard deviation, `false` for values from 0 to 1. @defaultValue true
   */
  readonly normalize?: boolean | { readonly mean: readonly number[]; readonly std: readonly number[] };
  /** Whether a last batch that is not full is left out. @defaultValue false */
  readonly dropLast?: boolean;
}

const dataLoaderOptions = optionNames<DataLoaderOptions>({
  batchSize: true,
  shuffle: 'boolean',
  seed: true,
  augment: true,
  normalize: true,
  dropLast: 'boolean',
});
const augmentOptions = optionNames<AugmentOptions>({ crop: true, flip: 'boolean' });

/** Where a {@link DataLoader} stands: plain values, for checkpoints. */
export interface LoaderState {
  /** The epoch of the next batch, counted from 0. */
  readonly epoch: number;
  /** The next batch of that epoch, counted from 0. */
  readonly position: number;
  /** What epoch and position refer to. */
  readonly seed: number;
  readonly batchSize: number;
  readonly images: number;
}

/** The native copies of data sets, shared by all loaders over one. */
const nativeCopies = new WeakMap<Dataset, number>();
const collected = new FinalizationRegistry<number>((copy) => stream().releaseDataset(copy));

function nativeCopy(dataset: Dataset): number {
  let copy = nativeCopies.get(dataset);
  if (copy === undefined) {
    const [height, width, channels] = dataset.shape;
    // Refuses what another thread could change or take away.
    bytesOfArray('DataLoader', dataset.images);
    copy = stream().createDataset(dataset.images, dataset.labels, height, width, channels);
    nativeCopies.set(dataset, copy);
    collected.register(dataset, copy);
  }
  return copy;
}

function invalid(problem: string): EvenkeelError {
  return new EvenkeelError('INVALID_ARGUMENT', `DataLoader: ${problem}`);
}

function notNormalization(given: unknown): EvenkeelError {
  return invalid(`normalize is ${show(given)}; give true, false or { mean, std } with an array for each`);
}

/**
 * Batches of a data set. Each iteration is one epoch, or the rest of one that was left or loaded:
 *
 * ```ts
 * const loader = new data.DataLoader(train, { batchSize: 128, shuffle: true, seed: 1, augment: { crop: 4, flip: true } });
 * for (let epoch = 0; epoch < 10; epoch++) {
 *   for await (const { images, labels } of loader) { … }
 * }
 * ```
 *
 * Batches are made on a thread of their own while the step before runs. Order and augmentation follow from seed, epoch and
 * image alone, so the same loader gives the same batches on every machine, also from the middle of an epoch.
 */
export class DataLoader implements AsyncIterable<Batch> {
  readonly dataset: Dataset;
  readonly batchSize: number;
  /** Batches of one epoch. */
  readonly length: number;
  readonly #shuffle: boolean;
  readonly #seed: number;
  readonly #options: Omit<BatchOptions, 'epoch'>;
  #epoch = 0;
  #position = 0;
  /** Grows with each iteration, so that one can tell that another has begun. */
  #iteration = 0;

  /** @throws EvenkeelError INVALID_ARGUMENT */
  constructor(dataset: Dataset, options: DataLoaderOptions) {
    checkOptions('DataLoader', options, dataLoaderOptions);
    const { batchSize, shuffle = false, seed = 0, augment, normalize = true, dropLast = false } = options;
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw invalid(`batchSize must be a whole number of at least 1, got ${show(batchSize)}`);
    }
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw invalid(`seed must be a whole number of 0 or more, got ${show(seed)}`);
    }
    if (augment !== undefined) checkOptions('DataLoader augment', augment, augmentOptions);
    const { crop = 0, flip = false } = augment ?? {};
    const [height, width, channels] = checkDataset('DataLoader', dataset).shape;
    if (!Number.isInteger(crop) || crop < 0 || crop > Math.min(height, width)) {
      throw invalid(`augment.crop must be a whole number from 0 to the image's size, got ${show(crop)}`);
    }
    this.dataset = dataset;
    this.batchSize = batchSize;
    this.length = (dropLast ? Math.floor : Math.ceil)(dataset.length / batchSize);
    if (this.length === 0) {
      throw invalid(
        `${dataset.length} images make no batch of ${batchSize}${dropLast ? '; turn dropLast off or use smaller batches' : ''}`,
      );
    }
    this.#shuffle = shuffle;
    this.#seed = seed;
    if (typeof normalize !== 'boolean' && (typeof normalize !== 'object' || normalize === null)) {
      throw notNormalization(normalize);
    }
    const { mean, std } =
      typeof normalize === 'object'
        ? normalize
        : normalize
          ? dataset
          : { mean: new Array<number>(channels).fill(0), std: new Array<number>(channels).fill(1) };
    if (!isList(mean) || !isList(std)) {
      throw notNormalization(normalize);
    }
    if (mean.length !== channels || std.length !== channels) {
      throw invalid(
        `normalize needs a mean and a std for each of ${channels} channels, got ${mean.length} and ${std.length}`,
      );
    }
    if (!mean.every(Number.isFinite) || !std.every((value) => value > 0 && Number.isFinite(value))) {
      throw invalid(`normalize needs finite means and stds above 0, got [${mean.join(', ')}] and [${std.join(', ')}]`);
    }
    this.#options = {
      mean: mean.map((value) => value * dataset.maximum),
      scale: std.map((value) => 1 / (value * dataset.maximum)),
      cropPadding: crop,
      flip,
      seedLow: seed % 2 ** 32,
      seedHigh: Math.floor(seed / 2 ** 32),
    };
  }

  /** The epoch of the next batch, counted from 0. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Where the next iteration begins. */
  state(): LoaderState {
    return {
      epoch: this.#epoch,
      position: this.#position,
      seed: this.#seed,
      batchSize: this.batchSize,
      images: this.dataset.length,
    };
  }

  /**
   * Goes on where {@link state} was; an iteration that is under way ends.
   *
   * @throws EvenkeelError INVALID_ARGUMENT where it is no such state, or that of a loader with other batches
   */
  loadState(state: unknown): void {
    const { epoch, position, ...others } = (state ?? {}) as Partial<LoaderState>;
    if (
      !Number.isSafeInteger(epoch) ||
      !Number.isSafeInteger(position) ||
      epoch! < 0 ||
      position! < 0 ||
      position! >= this.length
    ) {
      throw invalid(
        `expected a state { epoch, position } with a position below ${this.length}, got ${JSON.stringify(state)}`,
      );
    }
    const own = this.state();
    for (const key of ['seed', 'batchSize', 'images'] as const) {
      if (others[key] !== undefined && others[key] !== own[key]) {
        throw invalid(
          `the state is that of a loader with ${key} ${others[key]}, this one has ${own[key]}: build it with the same options`,
        );
      }
    }
    this.#epoch = epoch!;
    this.#position = position!;
    this.#iteration++;
  }

  /** Goes back to the first batch of the epoch; an iteration that is under way ends. For loops that were left early. */
  restart(): void {
    this.#position = 0;
    this.#iteration++;
  }

  /** The rest of the epoch. Leaving the loop early keeps the position. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Batch, void, undefined> {
    const iteration = ++this.#iteration;
    const epoch = this.#epoch;
    const order = this.#shuffle ? shuffled(this.dataset.length, this.#seed, epoch) : undefined;
    const copy = nativeCopy(this.dataset);
    const requested: { readonly batch: number; readonly count: number }[] = [];
    const reached: Promise<void>[] = [];
    let next = this.#position;
    try {
      for (let position = next; position < this.length && iteration === this.#iteration; position++) {
        for (; next < this.length && next <= position + PREFETCH; next++) {
          const indices = this.#indices(order, next);
          requested.push({
            batch: stream().requestBatch(copy, indices, { ...this.#options, epoch: epoch % 2 ** 32 }),
            count: indices.length,
          });
        }
        if (reached.length > LEAD) await reached.shift();
        if (iteration !== this.#iteration) return;
        const { batch, count } = requested.shift()!;
        const images = keep(allocate('DataLoader', [count, ...this.dataset.shape]));
        const labels = keep(allocate('DataLoader', [count], 'int32'));
        stream().deliverBatch(batch, images.storage, labels.storage);
        const fence = stream().synchronize();
        // It is awaited later, here or below: until then, an error is nobody's.
        fence.catch(() => undefined);
        reached.push(fence);
        // Before the batch is handed out, so that a state taken meanwhile does not give it again.
        const last = position + 1 === this.length;
        this.#epoch = last ? epoch + 1 : epoch;
        this.#position = last ? 0 : position + 1;
        yield { images, labels };
      }
    } finally {
      for (const { batch } of requested) stream().cancelBatch(batch);
      // A fence takes the error of an update in place with it; none may get lost.
      await Promise.all(reached);
    }
  }

  #indices(order: Uint32Array | undefined, position: number): Uint32Array {
    const start = position * this.batchSize;
    const end = Math.min(start + this.batchSize, this.dataset.length);
    return order?.slice(start, end) ?? Uint32Array.from({ length: end - start }, (_, index) => start + index);
  }
}
