import { EvenkeelError } from '../errors';
import { checkNoOptions, checkOptions, optionNames, show } from '../options';
import { CIFAR10_NAMES, CIFAR100_COARSE_NAMES, CIFAR100_FINE_NAMES } from './cifar-names';
import { type Dataset, fromArrays, type Splits } from './dataset';
import { checkDirectory, corrupt, type FileContent, readFirst } from './files';

const SIZE = 32;
const CHANNELS = 3;
const PLANE = SIZE * SIZE;
const PIXELS = PLANE * CHANNELS;

/** How the records of a file are read. */
interface Format {
  /** Bytes before the pixels. */
  readonly labelBytes: number;
  /** Which of them is the class, and how many classes there are. */
  readonly labelAt: number;
  readonly classes: number;
}

/** Images in the order height, width, channel, and their classes. */
interface Records {
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
}

/**
 * Parses records of label bytes and three planes (red, green, blue) of 32×32 pixels.
 *
 * @throws EvenkeelError CORRUPT_FILE where there is no whole number of records, or a label is out of range
 */
export function parseRecords({ path, bytes }: FileContent, format: Format): Records {
  const recordLength = format.labelBytes + PIXELS;
  const count = bytes.length / recordLength;
  if (!Number.isInteger(count) || count === 0) {
    const least = Math.max(Math.ceil(count), 1) * recordLength;
    throw corrupt(
      path,
      `has ${bytes.length} bytes, which is no whole number of records of ${recordLength} bytes (the next is ${least})`,
    );
  }
  const images = new Uint8Array(count * PIXELS);
  const labels = new Uint8Array(count);
  for (let record = 0; record < count; record++) {
    const start = record * recordLength;
    const label = bytes[start + format.labelAt]!;
    if (label >= format.classes) {
      throw corrupt(path, `gives image ${record} the label ${label}, expected 0 to ${format.classes - 1}`);
    }
    labels[record] = label;
    const planes = bytes.subarray(start + format.labelBytes, start + recordLength);
    let to = record * PIXELS;
    for (let pixel = 0; pixel < PLANE; pixel++) {
      images[to++] = planes[pixel]!;
      images[to++] = planes[pixel + PLANE]!;
      images[to++] = planes[pixel + 2 * PLANE]!;
    }
  }
  return { images, labels };
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** What the two sets differ in. */
interface Kind {
  readonly name: string;
  readonly folder: string;
  readonly files: Readonly<Record<'train' | 'test', readonly string[]>>;
  readonly format: Format;
  readonly names: readonly string[];
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

async function readSplit(kind: Kind, directory: string, split: 'train' | 'test'): Promise<Dataset> {
  const directories = [directory, `${directory}/${kind.folder}`];
  const advice =
    `Download the binary version of ${kind.name} from https://www.cs.toronto.edu/~kriz/cifar.html, unpack it, ` +
    'and pass the folder that holds its .bin files.';
  const parts: Records[] = [];
  for (const name of kind.files[split])
    parts.push(parseRecords(await readFirst(directories, [name], advice), kind.format));
  return fromArrays({
    name: kind.name,
    split,
    images: concatenate(parts.map(({ images }) => images)),
    labels: concatenate(parts.map(({ labels }) => labels)),
    shape: [SIZE, SIZE, CHANNELS],
    names: kind.names,
    mean: kind.mean,
    std: kind.std,
  });
}

async function readBoth(kind: Kind, directory: string): Promise<Splits> {
  return { train: await readSplit(kind, directory, 'train'), test: await readSplit(kind, directory, 'test') };
}

/**
 * CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32×32 in 10 classes, from the binary version's
 * `data_batch_1.bin` … `data_batch_5.bin` and `test_batch.bin` in `directory` or its folder `cifar-10-batches-bin`.
 *
 * @throws EvenkeelError INVALID_ARGUMENT, FILE_NOT_FOUND, CORRUPT_FILE, IO
 */
export function cifar10(directory: string): Promise<Splits>;
export async function cifar10(directory: string, ...given: readonly unknown[]): Promise<Splits> {
  checkDirectory('cifar10', directory);
  checkNoOptions('cifar10', given);
  return readBoth(
    {
      name: 'CIFAR-10',
      folder: 'cifar-10-batches-bin',
      files: { train: [1, 2, 3, 4, 5].map((part) => `data_batch_${part}.bin`), test: ['test_batch.bin'] },
      format: { labelBytes: 1, labelAt: 0, classes: CIFAR10_NAMES.length },
      names: CIFAR10_NAMES,
      mean: [0.4914, 0.4822, 0.4465],
      std: [0.247, 0.2435, 0.2616],
    },
    directory,
  );
}

/** Options of {@link cifar100}. */
export interface Cifar100Options {
  /** The 100 fine classes or the 20 coarse ones. @defaultValue `'fine'` */
  readonly labels?: 'fine' | 'coarse';
}

const cifar100Options = optionNames<Cifar100Options>({ labels: true });

/**
 * CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32×32 in 100 classes, from the binary version's `train.bin` and
 * `test.bin` in `directory` or its folder `cifar-100-binary`.
 *
 * @throws EvenkeelError INVALID_ARGUMENT, FILE_NOT_FOUND, CORRUPT_FILE, IO
 */
export async function cifar100(directory: string, options: Cifar100Options = {}): Promise<Splits> {
  checkDirectory('cifar100', directory);
  checkOptions('cifar100', options, cifar100Options);
  const { labels = 'fine' } = options;
  if (labels !== 'fine' && labels !== 'coarse') {
    throw new EvenkeelError('INVALID_ARGUMENT', `cifar100: labels is ${show(labels)}; give 'fine' or 'coarse'`);
  }
  const coarse = labels === 'coarse';
  const names = coarse ? CIFAR100_COARSE_NAMES : CIFAR100_FINE_NAMES;
  return readBoth(
    {
      name: 'CIFAR-100',
      folder: 'cifar-100-binary',
      files: { train: ['train.bin'], test: ['test.bin'] },
      format: { labelBytes: 2, labelAt: coarse ? 0 : 1, classes: names.length },
      names,
      mean: [0.5071, 0.4865, 0.4409],
      std: [0.2673, 0.2564, 0.2762],
    },
    directory,
  );
}
