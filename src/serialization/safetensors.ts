import { type FileHandle, open } from 'node:fs/promises';
import { endianness } from 'node:os';
import { crc32 } from 'node:zlib';
import { EvenkeelError } from '../errors';
import {
  byteCount,
  corrupt,
  corruptTensor,
  ELEMENT_BYTES,
  type ElementType,
  LENGTH_BYTES,
  MAXIMUM_HEADER_BYTES,
  parseHeader,
  parseHeaderLength,
  type TensorEntry,
} from './header';
import { ioError, type ReplaceFileSystem, replaceFile, systemErrorCode } from './replace-file';

/** The typed arrays that hold tensors of a safetensors file. */
export type TensorValues =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array;

/** One tensor to write. */
export interface NamedValues {
  readonly name: string;
  readonly shape: readonly number[];
  /** A `Uint16Array` holds the bits of half-precision numbers (F16). */
  readonly values: Float32Array | Float64Array | Int32Array | Int8Array | Uint8Array | Uint16Array;
}

/** What {@link readSafetensors} returns. */
export interface SafetensorsContent {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** One tensor read from a file. */
export interface StoredTensor {
  readonly shape: readonly number[];
  readonly elementType: ElementType;
  readonly values: TensorValues;
}

/** Metadata keys that carry the file's checksums. Files of other programs have none and are read without. */
export const CHECKSUMS_KEY = 'evenkeel.tensor_checksums';
export const HEADER_CHECKSUM_KEY = 'evenkeel.header_checksum';
const EMPTY_CHECKSUM = '00000000';

const CONSTRUCTORS = {
  BOOL: Uint8Array,
  U8: Uint8Array,
  I8: Int8Array,
  U16: Uint16Array,
  I16: Int16Array,
  // Half precision is handed out as its raw 16 bits; `fromFloat16Bits` makes numbers of them.
  F16: Uint16Array,
  BF16: Uint16Array,
  U32: Uint32Array,
  I32: Int32Array,
  F32: Float32Array,
  U64: BigUint64Array,
  I64: BigInt64Array,
  F64: Float64Array,
} as const satisfies Record<ElementType, unknown>;

/**
 * Writes tensors and string metadata to a safetensors file, atomically (see {@link replaceFile}): a reader, a crash
 * or a full disk never meets half a file. Each tensor and the header get a CRC-32 in the metadata, so that a flipped
 * bit is found when the file is read.
 *
 * @throws EvenkeelError `INVALID_ARGUMENT` for a shape that does not fit its values, a name used twice or too much
 * metadata, before anything is written; `IO` when the system refuses, and then a file that was there before stays.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<NamedValues>,
  metadata: Readonly<Record<string, string>> = {},
  fileSystem?: ReplaceFileSystem,
): Promise<void> {
  // Wide elements first: then every tensor lies at a multiple of its element size, and readers may map the file.
  const ordered = [...tensors].sort((a, b) => b.values.BYTES_PER_ELEMENT - a.values.BYTES_PER_ELEMENT);
  const header = formatHeader(path, ordered, metadata);
  await replaceFile(path, bytesOf(header, ordered), fileSystem);
}

function* bytesOf(header: Uint8Array, tensors: readonly NamedValues[]): Generator<Uint8Array> {
  yield header;
  for (const { values } of tensors) {
    yield littleEndianBytes(values);
  }
}

function formatHeader(
  path: string,
  tensors: readonly NamedValues[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const checksums: Record<string, string> = {};
  const entries = new Map<string, unknown>();
  let offset = 0;
  for (const { name, shape, values } of tensors) {
    if (entries.has(name) || name === '__metadata__') {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `Cannot write ${path}: the tensor name ${JSON.stringify(name)} is ${entries.has(name) ? 'used twice' : 'reserved'}.`,
      );
    }
    if (byteCount(shape, values.BYTES_PER_ELEMENT) !== values.byteLength) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `Cannot write ${path}: tensor ${JSON.stringify(name)} has shape [${shape.join(', ')}] and ${values.length} values.`,
      );
    }
    const end = offset + values.byteLength;
    entries.set(name, { dtype: elementTypeOf(values), shape: [...shape], data_offsets: [offset, end] });
    checksums[name] = checksum(littleEndianBytes(values));
    offset = end;
  }
  const allMetadata = {
    ...metadata,
    [CHECKSUMS_KEY]: JSON.stringify(checksums),
    [HEADER_CHECKSUM_KEY]: EMPTY_CHECKSUM,
  };
  // Spaces after the JSON make the data begin at a multiple of eight bytes.
  const json = JSON.stringify(Object.fromEntries([['__metadata__', allMetadata], ...entries]));
  const jsonBytes = Buffer.byteLength(json);
  const padded = json + ' '.repeat((8 - (jsonBytes % 8)) % 8);
  // The header's checksum is taken while its own place holds zeros.
  const text = padded.replace(headerChecksumField(EMPTY_CHECKSUM), headerChecksumField(checksum(Buffer.from(padded))));
  const bytes = Buffer.from(text);
  if (bytes.byteLength > MAXIMUM_HEADER_BYTES) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `Cannot write ${path}: names and metadata take ${bytes.byteLength} bytes, and the format allows ${MAXIMUM_HEADER_BYTES}.`,
    );
  }
  const header = Buffer.alloc(LENGTH_BYTES + bytes.byteLength);
  header.writeBigUInt64LE(BigInt(bytes.byteLength));
  header.set(bytes, LENGTH_BYTES);
  return header;
}

/**
 * Reads a whole safetensors file. Everything is checked before anything is returned: the header's structure, the file
 * size against it, and the checksums where the file has them.
 *
 * @throws EvenkeelError `FILE_NOT_FOUND`, `IO`, or `CORRUPT_FILE` naming the file, the tensor and the bytes.
 */
export async function readSafetensors(path: string): Promise<SafetensorsContent> {
  return withFile(path, async (file) => {
    const { header, headerBytes } = await readHeader(path, file);
    const checksums = checkedChecksums(path, headerBytes, header.metadata);
    const tensors = new Map<string, StoredTensor>();
    const dataStart = LENGTH_BYTES + headerBytes.byteLength;
    for (const entry of header.tensors) {
      const bytes = await readExactly(path, file, dataStart + entry.begin, entry.end - entry.begin);
      verify(path, entry, bytes, dataStart, checksums);
      tensors.set(entry.name, {
        shape: entry.shape,
        elementType: entry.elementType,
        values: valuesOf(entry.elementType, bytes),
      });
    }
    return { tensors, metadata: header.metadata };
  });
}

/**
 * Reads only the header of a safetensors file: names, shapes, element types and metadata.
 *
 * @throws EvenkeelError as {@link readSafetensors}.
 */
export async function readSafetensorsHeader(
  path: string,
): Promise<{ tensors: readonly TensorEntry[]; metadata: ReadonlyMap<string, string>; fileBytes: number }> {
  return withFile(path, async (file) => {
    const { header, headerBytes, fileBytes } = await readHeader(path, file);
    checkedChecksums(path, headerBytes, header.metadata);
    return { ...header, fileBytes };
  });
}

async function withFile<Result>(path: string, use: (file: FileHandle) => Promise<Result>): Promise<Result> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    if (systemErrorCode(cause) === 'ENOENT') {
      throw new EvenkeelError('FILE_NOT_FOUND', `There is no file ${path}.`, { cause });
    }
    throw ioError('opening', path, cause);
  }
  try {
    return await use(file);
  } catch (cause) {
    throw cause instanceof EvenkeelError ? cause : ioError('reading', path, cause);
  } finally {
    await file.close();
  }
}

async function readHeader(path: string, file: FileHandle) {
  const { size } = await file.stat();
  const lengthBytes = await readExactly(path, file, 0, Math.min(LENGTH_BYTES, size));
  const headerLength = parseHeaderLength(path, lengthBytes, size);
  const headerBytes = await readExactly(path, file, LENGTH_BYTES, headerLength);
  return {
    header: parseHeader(path, headerBytes, size - LENGTH_BYTES - headerLength),
    headerBytes,
    fileBytes: size,
  };
}

async function readExactly(path: string, file: FileHandle, position: number, length: number): Promise<Uint8Array> {
  // A plain allocation starts at offset 0 of its own buffer, so any typed array can view it.
  const bytes = new Uint8Array(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(bytes, filled, length - filled, position + filled);
    if (bytesRead === 0) {
      throw corrupt(path, `it ends at byte ${position + filled}, inside bytes ${position}-${position + length - 1}`);
    }
    filled += bytesRead;
  }
  return bytes;
}

/** The checksum of every tensor, after the header's own was verified; `undefined` for files without. */
function checkedChecksums(
  path: string,
  headerBytes: Uint8Array,
  metadata: ReadonlyMap<string, string>,
): ReadonlyMap<string, unknown> | undefined {
  const stored = metadata.get(HEADER_CHECKSUM_KEY);
  if (stored === undefined) {
    return undefined;
  }
  const text = Buffer.from(headerBytes).toString('utf8');
  const zeroed = text.replace(headerChecksumField(stored), headerChecksumField(EMPTY_CHECKSUM));
  const actual = checksum(Buffer.from(zeroed));
  if (actual !== stored) {
    throw corrupt(
      path,
      `the header (bytes ${LENGTH_BYTES}-${LENGTH_BYTES + headerBytes.byteLength - 1}) has checksum ${actual}, and ${stored} was written`,
    );
  }
  const checksums: unknown = JSON.parse(metadata.get(CHECKSUMS_KEY) ?? '{}');
  return new Map(Object.entries(checksums ?? {}));
}

function verify(
  path: string,
  entry: TensorEntry,
  bytes: Uint8Array,
  dataStart: number,
  checksums: ReadonlyMap<string, unknown> | undefined,
): void {
  if (checksums === undefined) {
    return;
  }
  const stored = checksums.get(entry.name);
  const actual = checksum(bytes);
  if (stored !== actual) {
    throw corruptTensor(
      path,
      entry.name,
      `bytes ${dataStart + entry.begin}-${dataStart + entry.end} have checksum ${actual}, and ${String(stored)} was written`,
    );
  }
}

function headerChecksumField(value: string): string {
  return `${JSON.stringify(HEADER_CHECKSUM_KEY)}:${JSON.stringify(value)}`;
}

function checksum(bytes: Uint8Array): string {
  return crc32(bytes).toString(16).padStart(8, '0');
}

function elementTypeOf(values: NamedValues['values']): ElementType {
  if (values instanceof Float32Array) {
    return 'F32';
  }
  if (values instanceof Float64Array) {
    return 'F64';
  }
  if (values instanceof Int32Array) {
    return 'I32';
  }
  if (values instanceof Int8Array) {
    return 'I8';
  }
  return values instanceof Uint16Array ? 'F16' : 'U8';
}

function valuesOf(elementType: ElementType, bytes: Uint8Array): TensorValues {
  const elementBytes = ELEMENT_BYTES[elementType];
  if (endianness() === 'BE') {
    swapBytes(bytes, elementBytes);
  }
  const { buffer } = bytes;
  return new CONSTRUCTORS[elementType](buffer as ArrayBuffer, 0, bytes.byteLength / elementBytes);
}

/** The bytes as the format wants them; a view, not a copy, on every machine that is little-endian itself. */
function littleEndianBytes(values: NamedValues['values']): Uint8Array {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (endianness() === 'LE') {
    return bytes;
  }
  const swapped = bytes.slice();
  swapBytes(swapped, values.BYTES_PER_ELEMENT);
  return swapped;
}

function swapBytes(bytes: Uint8Array, elementBytes: number): void {
  for (let start = 0; start < bytes.byteLength; start += elementBytes) {
    bytes.subarray(start, start + elementBytes).reverse();
  }
}
