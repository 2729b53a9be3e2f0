import { checkNoOptions } from '../options';
import { type Dataset, fromArrays, type Splits } from './dataset';
import { checkDirectory, corrupt, readFirst } from './files';
import { parseIdx } from './idx';

const CLASSES = 10;
const SIZE = 28;

/** What sets of this format differ in. */
interface Kind {
  readonly name: string;
  readonly names: readonly string[];
  readonly mean: number;
  readonly std: number;
  readonly folder: string;
  readonly source: string;
}

const MNIST: Kind = {
  name: 'MNIST',
  names: ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'],
  mean: 0.1307,
  std: 0.3081,
  folder: 'mnist',
  source: 'https://github.com/cvdfoundation/mnist',
};

const FASHION_MNIST: Kind = {
  name: 'Fashion-MNIST',
  names: ['T-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot'],
  mean: 0.286,
  std: 0.353,
  folder: 'fashion-mnist',
  source: 'https://github.com/zalandoresearch/fashion-mnist',
};

async function readSplit(kind: Kind, directories: readonly string[], split: 'train' | 'test'): Promise<Dataset> {
  const prefix = split === 'train' ? 'train' : 't10k';
  const advice = `Download ${kind.name} from ${kind.source} and pass the folder that holds its four files.`;
  const read = (what: string, rank: number) =>
    // Some mirrors write a dot where the original has a dash.
    readFirst(directories, [`${prefix}-${what}-idx${rank}-ubyte`, `${prefix}-${what}.idx${rank}-ubyte`], advice);
  const [imageFile, labelFile] = await Promise.all([read('images', 3), read('labels', 1)]);
  const images = parseIdx(imageFile, 3);
  const labels = parseIdx(labelFile, 1);
  const [count, height, width] = images.shape;
  if (height !== SIZE || width !== SIZE) {
    throw corrupt(imageFile.path, `holds images of ${height} x ${width}, expected ${SIZE} x ${SIZE}`);
  }
  if (labels.shape[0] !== count) {
    throw corrupt(labelFile.path, `holds ${labels.shape[0]} labels for the ${count} images of ${imageFile.path}`);
  }
  if (count === 0) throw corrupt(imageFile.path, 'holds no images');
  const wrong = labels.values.findIndex((label) => label >= CLASSES);
  if (wrong >= 0) {
    throw corrupt(
      labelFile.path,
      `gives image ${wrong} the label ${labels.values[wrong]}, expected 0 to ${CLASSES - 1}`,
    );
  }
  return fromArrays({
    name: kind.name,
    split,
    images: images.values,
    labels: labels.values,
    shape: [SIZE, SIZE, 1],
    names: kind.names,
    mean: [kind.mean],
    std: [kind.std],
  });
}

async function readBoth(kind: Kind, directory: string): Promise<Splits> {
  const directories = [directory, `${directory}/${kind.folder}`];
  const [train, test] = await Promise.all([
    readSplit(kind, directories, 'train'),
    readSplit(kind, directories, 'test'),
  ]);
  return { train, test };
}

/**
 * MNIST (LeCun, Cortes & Burges): 60,000 + 10,000 handwritten digits, 28×28 grey, from the four original IDX files in
 * `directory` or its folder `mnist`, packed with gzip or not.
 *
 * @throws EvenkeelError INVALID_ARGUMENT, FILE_NOT_FOUND, CORRUPT_FILE, IO
 */
export function mnist(directory: string): Promise<Splits>;
export async function mnist(directory: string, ...given: readonly unknown[]): Promise<Splits> {
  checkDirectory('mnist', directory);
  checkNoOptions('mnist', given);
  return readBoth(MNIST, directory);
}

/**
 * Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): 60,000 + 10,000 articles of clothing, 28×28 grey, from the four IDX files in
 * `directory` or its folder `fashion-mnist`, packed with gzip or not.
 *
 * @throws EvenkeelError INVALID_ARGUMENT, FILE_NOT_FOUND, CORRUPT_FILE, IO
 */
export function fashionMnist(directory: string): Promise<Splits>;
export async function fashionMnist(directory: string, ...given: readonly unknown[]): Promise<Splits> {
  checkDirectory('fashionMnist', directory);
  checkNoOptions('fashionMnist', given);
  return readBoth(FASHION_MNIST, directory);
}
