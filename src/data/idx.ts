/** The IDX format of MNIST and its kin: a big-endian header, then bytes. http://yann.lecun.com/exdb/mnist/ */

import { corrupt, type FileContent } from './files';

/** The element type in the third byte of an IDX file: unsigned bytes, the only one that image sets use. */
const UNSIGNED_BYTE = 0x08;

/** What an IDX file holds. */
export interface IdxContent {
  readonly shape: readonly number[];
  readonly values: Uint8Array;
}

/**
 * Parses an IDX file of bytes with `rank` axes.
 *
 * @throws EvenkeelError CORRUPT_FILE where the header is another one, or the size is not the one that it asks for
 */
export function parseIdx({ path, bytes }: FileContent, rank: number): IdxContent {
  const headerLength = 4 + 4 * rank;
  if (bytes.length < headerLength) {
    throw corrupt(path, `has ${bytes.length} bytes, less than the ${headerLength} of its header`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const magic = view.getUint32(0);
  const expected = (UNSIGNED_BYTE << 8) | rank;
  if (magic !== expected) {
    throw corrupt(
      path,
      `begins with 0x${hexadecimal(magic)}, expected 0x${hexadecimal(expected)} (IDX, bytes, ${rank} axes)`,
    );
  }
  const shape = Array.from({ length: rank }, (_, axis) => view.getUint32(4 + 4 * axis));
  const values = bytes.subarray(headerLength);
  const size = shape.reduce((product, length) => product * length, 1);
  if (values.length !== size) {
    throw corrupt(
      path,
      `has ${bytes.length} bytes, but its header [${shape.join(', ')}] asks for ${headerLength + size}`,
    );
  }
  return { shape, values };
}

function hexadecimal(value: number): string {
  return value.toString(16).padStart(8, '0');
}
