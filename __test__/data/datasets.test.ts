import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { cifar10, cifar100, digits, fashionMnist, fromArrays, mnist, take } from '../../src/data';
import type { EvenkeelError } from '../../src/errors';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'evenkeel-data-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

function idx(shape: readonly number[], values: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + 4 * shape.length + values.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x0800 | shape.length);
  for (const [axis, length] of shape.entries()) view.setUint32(4 + 4 * axis, length);
  bytes.set(values, 4 + 4 * shape.length);
  return bytes;
}

function pattern(length: number, factor = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * factor) % 251);
}

/** The four files of a small MNIST: 3 and 2 images. */
function writeMnist(into: string, changes: Readonly<Record<string, Uint8Array | undefined>> = {}): void {
  const files: Record<string, Uint8Array | undefined> = {
    'train-images-idx3-ubyte': idx([3, 28, 28], pattern(3 * 784)),
    'train-labels-idx1-ubyte': idx([3], Uint8Array.from([9, 0, 5])),
    't10k-images-idx3-ubyte.gz': gzipSync(idx([2, 28, 28], pattern(2 * 784, 3))),
    't10k-labels-idx1-ubyte.gz': gzipSync(idx([2], Uint8Array.from([1, 2]))),
    ...changes,
  };
  for (const [name, bytes] of Object.entries(files)) if (bytes !== undefined) writeFileSync(join(into, name), bytes);
}

/** One record of CIFAR: labels, then planes filled with 10, 20 and 30 and a mark at row 1, column 2 of the green one. */
function record(...labels: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(labels.length + 3072);
  bytes.set(labels);
  for (const plane of [0, 1, 2]) bytes.fill(10 * (plane + 1), labels.length + plane * 1024);
  bytes[labels.length + 1024 + 34] = 77;
  return bytes;
}

function writeCifar10(into: string, changes: Readonly<Record<string, Uint8Array>> = {}): void {
  for (const part of [1, 2, 3, 4, 5]) writeFileSync(join(into, `data_batch_${part}.bin`), record(part));
  writeFileSync(join(into, 'test_batch.bin'), Buffer.concat([record(9), record(0)]));
  for (const [name, bytes] of Object.entries(changes)) writeFileSync(join(into, name), bytes);
}

function errorOf(promise: Promise<unknown>): Promise<EvenkeelError> {
  return promise.then(
    () => {
      throw new Error('it should have failed');
    },
    (error: EvenkeelError) => error,
  );
}

describe('digits', () => {
  it('is the UCI set in its order', () => {
    const { train, test } = digits();
    expect([train.length, test.length, train.classes, train.maximum]).toEqual([1437, 360, 10, 16]);
    expect(train.shape).toEqual([8, 8, 1]);
    expect(Array.from(train.images.subarray(0, 8))).toEqual([0, 0, 5, 13, 9, 1, 0, 0]);
    expect(Array.from(train.labels.subarray(0, 10))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const hash = createHash('sha256');
    for (const part of [train.images, test.images]) hash.update(part);
    for (const part of [train.labels, test.labels]) hash.update(Uint8Array.from(part));
    expect(hash.digest('hex')).toBe('87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826');
  });

  it('states the mean and deviation of its training images', () => {
    const { train } = digits();
    const measured = fromArrays({ images: train.images, labels: train.labels, shape: train.shape, maximum: 16 });
    expect(measured.mean[0]).toBeCloseTo(train.mean[0]!, 4);
    expect(measured.std[0]).toBeCloseTo(train.std[0]!, 4);
  });
});

describe('mnist', () => {
  it('reads plain and packed files', async () => {
    writeMnist(folder);
    const { train, test } = await mnist(folder);
    expect(train).toMatchObject({ name: 'MNIST', split: 'train', length: 3, shape: [28, 28, 1], classes: 10 });
    expect(Array.from(train.labels)).toEqual([9, 0, 5]);
    expect(train.images).toEqual(pattern(3 * 784));
    expect(test.images).toEqual(pattern(2 * 784, 3));
    expect(Array.from(test.labels)).toEqual([1, 2]);
  });

  it('looks into a folder of its name, and knows names with a dot', async () => {
    mkdirSync(join(folder, 'fashion-mnist'));
    writeMnist(join(folder, 'fashion-mnist'), {
      'train-labels-idx1-ubyte': undefined,
      'train-labels.idx1-ubyte': idx([3], Uint8Array.from([9, 0, 5])),
    });
    const { train } = await fashionMnist(folder);
    expect(train.names[train.labels[0]!]).toBe('ankle boot');
  });

  it('says what to do where files are missing', async () => {
    const error = await errorOf(mnist(folder));
    expect(error.code).toBe('FILE_NOT_FOUND');
    expect(error.message).toContain('-ubyte');
    expect(error.message).toContain('Download MNIST');
  });

  const images = idx([3, 28, 28], pattern(3 * 784));
  it.each<[string, string, Uint8Array, string]>([
    ['a truncated file', 'train-images-idx3-ubyte', images.subarray(0, 2000), '2000 bytes'],
    ['a longer file', 'train-images-idx3-ubyte', Buffer.concat([images, Uint8Array.of(0)]), '2369 bytes'],
    ['half a header', 'train-images-idx3-ubyte', images.subarray(0, 9), '9 bytes'],
    ['an empty file', 'train-images-idx3-ubyte', new Uint8Array(0), '0 bytes'],
    ['another format', 'train-images-idx3-ubyte', idx([30], pattern(30)), 'expected 0x00000803'],
    ['other images', 'train-images-idx3-ubyte', idx([3, 8, 8], pattern(192)), '8 x 8'],
    ['a huge claim', 'train-images-idx3-ubyte', idx([2 ** 32 - 1, 28, 28], pattern(8)), 'asks for'],
    ['no images', 'train-images-idx3-ubyte', idx([0, 28, 28], pattern(0)), '3 labels'],
    ['missing labels', 'train-labels-idx1-ubyte', idx([2], pattern(2)), '2 labels'],
    ['a label of 10', 'train-labels-idx1-ubyte', idx([3], Uint8Array.of(1, 10, 2)), 'image 1 the label 10'],
    ['a truncated archive', 't10k-images-idx3-ubyte.gz', gzipSync(images).subarray(0, 60), '(60 bytes'],
    ['no archive', 't10k-images-idx3-ubyte.gz', pattern(100), '(100 bytes'],
  ])('refuses %s', async (_what, name, bytes, text) => {
    writeMnist(folder, { [name]: bytes });
    const error = await errorOf(mnist(folder));
    expect(error.code).toBe('CORRUPT_FILE');
    expect(error.message).toContain(join(folder, name));
    expect(error.message).toContain(text);
  });
});

describe('cifar', () => {
  it('turns planes into pixels', async () => {
    writeCifar10(folder);
    const { train, test } = await cifar10(folder);
    expect([train.length, test.length]).toEqual([5, 2]);
    expect(Array.from(train.labels)).toEqual([1, 2, 3, 4, 5]);
    expect(test.names[test.labels[0]!]).toBe('truck');
    expect(Array.from(train.images.subarray(0, 3))).toEqual([10, 20, 30]);
    expect(Array.from(train.images.subarray(3072 + 34 * 3, 3072 + 34 * 3 + 3))).toEqual([10, 77, 30]);
  });

  it('reads fine and coarse labels', async () => {
    mkdirSync(join(folder, 'cifar-100-binary'));
    for (const name of ['train.bin', 'test.bin']) {
      writeFileSync(join(folder, 'cifar-100-binary', name), Buffer.concat([record(19, 99), record(0, 4)]));
    }
    const fine = await cifar100(folder);
    expect(fine.train).toMatchObject({ length: 2, classes: 100 });
    expect(Array.from(fine.train.labels, (label) => fine.train.names[label])).toEqual(['worm', 'beaver']);
    const coarse = await cifar100(folder, { labels: 'coarse' });
    expect(Array.from(coarse.test.labels, (label) => coarse.test.names[label])).toEqual([
      'vehicles 2',
      'aquatic mammals',
    ]);
    expect(new Set(fine.train.names).size).toBe(100);
    expect(new Set(coarse.train.names).size).toBe(20);
  });

  it.each<[string, Uint8Array, string]>([
    ['a truncated file', record(3).subarray(0, 3000), '3000 bytes'],
    ['an empty file', new Uint8Array(0), '0 bytes'],
    ['a label of 10', record(10), 'image 0 the label 10'],
  ])('refuses %s', async (_what, bytes, text) => {
    writeCifar10(folder, { 'data_batch_3.bin': bytes });
    const error = await errorOf(cifar10(folder));
    expect(error.code).toBe('CORRUPT_FILE');
    expect(error.message).toContain(join(folder, 'data_batch_3.bin'));
    expect(error.message).toContain(text);
  });

  it('says what to do where files are missing', async () => {
    writeCifar10(folder);
    rmSync(join(folder, 'data_batch_4.bin'));
    const error = await errorOf(cifar10(folder));
    expect(error.code).toBe('FILE_NOT_FOUND');
    expect(error.message).toContain('data_batch_4.bin');
    expect(error.message).toContain('binary version');
    expect((await errorOf(cifar100(join(folder, 'nowhere')))).code).toBe('FILE_NOT_FOUND');
  });
});

describe('fromArrays', () => {
  const shape = [1, 2, 2] as const;

  it('measures mean and deviation by channel', () => {
    const images = Float32Array.of(1e4, 0, 1e4 + 1, 0, 1e4 + 2, 0, 1e4 + 3, 0);
    const set = fromArrays({ images, labels: [0, 2], shape });
    expect(set).toMatchObject({ length: 2, classes: 3, names: ['0', '1', '2'], maximum: 1, split: 'all' });
    expect(set.mean).toEqual([1e4 + 1.5, 0]);
    expect(set.std[0]).toBeCloseTo(Math.sqrt(1.25), 9);
    expect(set.std[1]).toBe(1);
    expect(take(set, 1)).toMatchObject({ length: 1, images: images.subarray(0, 4) });
    expect(take(set, 9).length).toBe(2);
  });

  it.each<[string, string, () => unknown]>([
    ['a missing pixel', 'SHAPE_MISMATCH', () => fromArrays({ images: new Uint8Array(3), labels: [0], shape })],
    ['no labels', 'INVALID_ARGUMENT', () => fromArrays({ images: new Uint8Array(0), labels: [], shape })],
    [
      'an empty shape',
      'INVALID_ARGUMENT',
      () => fromArrays({ images: new Uint8Array(0), labels: [0], shape: [0, 2, 2] }),
    ],
    ['a negative label', 'INVALID_ARGUMENT', () => fromArrays({ images: new Uint8Array(4), labels: [-1], shape })],
    ['half a label', 'INVALID_ARGUMENT', () => fromArrays({ images: new Uint8Array(4), labels: [0.5], shape })],
    [
      'few classes',
      'INVALID_ARGUMENT',
      () => fromArrays({ images: new Uint8Array(4), labels: [3], shape, classes: 3 }),
    ],
    [
      'few names',
      'INVALID_ARGUMENT',
      () => fromArrays({ images: new Uint8Array(4), labels: [0], shape, classes: 2, names: ['a'] }),
    ],
    ['a NaN', 'NON_FINITE', () => fromArrays({ images: Float32Array.of(0, 1, Number.NaN, 2), labels: [0], shape })],
    [
      'std 0',
      'INVALID_ARGUMENT',
      () => fromArrays({ images: new Uint8Array(4), labels: [0], shape, mean: [0, 0], std: [1, 0] }),
    ],
    ['take 0', 'INVALID_ARGUMENT', () => take(digits().test, 0)],
  ])('refuses %s', (_what, code, body) => {
    expect(body).toThrow(expect.objectContaining({ code }));
  });
});

const real = process.env['EVENKEEL_DATA'] ?? '';
const ifThere = (name: string) => (real !== '' && existsSync(join(real, name)) ? it : it.skip);

describe('real data under EVENKEEL_DATA (skipped where it is missing)', () => {
  ifThere('mnist')('MNIST', async () => {
    const { train, test } = await mnist(real);
    expect([train.length, test.length]).toEqual([60_000, 10_000]);
    expect(Array.from(train.labels.subarray(0, 5))).toEqual([5, 0, 4, 1, 9]);
    const measured = fromArrays({ images: train.images, labels: train.labels, shape: train.shape });
    expect(measured.mean[0]).toBeCloseTo(train.mean[0]!, 4);
    expect(measured.std[0]).toBeCloseTo(train.std[0]!, 4);
  });

  ifThere('cifar-10-batches-bin')(
    'CIFAR-10',
    async () => {
      const { train, test } = await cifar10(real);
      expect([train.length, test.length]).toEqual([50_000, 10_000]);
      expect(train.names[train.labels[0]!]).toBe('frog');
      const measured = fromArrays({ images: train.images, labels: train.labels, shape: train.shape });
      for (const channel of [0, 1, 2]) {
        expect(measured.mean[channel]).toBeCloseTo(train.mean[channel]!, 3);
        expect(measured.std[channel]).toBeCloseTo(train.std[channel]!, 3);
      }
    },
    120_000,
  );
});
