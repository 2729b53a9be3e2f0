import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { checkNoOptions } from '../options';
import { type Dataset, fromArrays, type Splits } from './dataset';
import { corrupt } from './files';

const COUNT = 1797;
const TEST_COUNT = 360;
const SIZE = 8;
const PIXELS = SIZE * SIZE;

/**
 * The handwritten digits that come with Evenkeel: 1,797 grey images of 8×8 with values 0 to 16.
 *
 * They are the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak 1998, UCI Machine Learning
 * Repository, https://doi.org/10.24432/C50P49, CC BY 4.0), in scikit-learn's order. The last 360 are the test split: images
 * are in order of their 13 writers, so these are by other hands than most of the 1,437 for training.
 */
export function digits(): Splits;
export function digits(...given: readonly unknown[]): Splits {
  checkNoOptions('digits', given);
  const path = join(__dirname, 'digits.bin.gz');
  const unpacked = gunzipSync(readFileSync(path));
  if (unpacked.length !== COUNT * (PIXELS + 1)) {
    throw corrupt(path, `holds ${unpacked.length} bytes, expected ${COUNT * (PIXELS + 1)}`);
  }
  // All pixels come first, then all labels.
  const bytes = Uint8Array.from(unpacked);
  const part = (split: 'train' | 'test', from: number, to: number): Dataset =>
    fromArrays({
      name: 'digits',
      split,
      images: bytes.slice(from * PIXELS, to * PIXELS),
      labels: bytes.subarray(COUNT * PIXELS + from, COUNT * PIXELS + to),
      shape: [SIZE, SIZE, 1],
      classes: 10,
      maximum: 16,
      mean: [0.3054],
      std: [0.3755],
    });
  return { train: part('train', 0, COUNT - TEST_COUNT), test: part('test', COUNT - TEST_COUNT, COUNT) };
}
