import { EvenkeelError } from '../errors';

/** Element types of the safetensors format that Evenkeel knows the size of. */
export const ELEMENT_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

/** An element type of the safetensors format. */
export type ElementType = keyof typeof ELEMENT_BYTES;

/** Where one tensor lies in a safetensors file. */
export interface TensorEntry {
  readonly name: string;
  readonly elementType: ElementType;
  readonly shape: readonly number[];
  /** First byte, counted from the end of the header. */
  readonly begin: number;
  /** One past the last byte, counted from the end of the header. */
  readonly end: number;
}

/** A parsed and checked safetensors header. */
export interface Header {
  /** In the order of their bytes in the file. */
  readonly tensors: readonly TensorEntry[];
  readonly metadata: ReadonlyMap<string, string>;
}

/** The format's own limit: a longer header is refused before anything is read. */
export const MAXIMUM_HEADER_BYTES = 100_000_000;

/** Bytes before the header: its length as an unsigned 64-bit little-endian number. */
export const LENGTH_BYTES = 8;

/**
 * Checks the first eight bytes of a safetensors file against the file's size.
 *
 * @returns the length of the header in bytes.
 * @throws EvenkeelError `CORRUPT_FILE`.
 */
export function parseHeaderLength(path: string, lengthBytes: Uint8Array, fileBytes: number): number {
  if (fileBytes < LENGTH_BYTES + 2 || lengthBytes.byteLength < LENGTH_BYTES) {
    throw corrupt(
      path,
      `it is ${fileBytes} bytes long, and the shortest safetensors file is ${LENGTH_BYTES + 2} (bytes 0-7: header length, then the header)`,
    );
  }
  const length = new DataView(lengthBytes.buffer, lengthBytes.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (length > BigInt(MAXIMUM_HEADER_BYTES)) {
    throw corrupt(
      path,
      `bytes 0-7 give a header of ${length} bytes, and the format allows at most ${MAXIMUM_HEADER_BYTES}`,
    );
  }
  const available = fileBytes - LENGTH_BYTES;
  if (length < 2n || length > BigInt(available)) {
    throw corrupt(path, `bytes 0-7 give a header of ${length} bytes, and ${available} bytes follow them`);
  }
  return Number(length);
}

/**
 * Parses a safetensors header and checks everything that can be checked without the data: valid UTF-8 and JSON, no
 * key twice, known element types, shapes whose product does not overflow, and byte ranges that fit their shapes and
 * cover the data without holes, overlaps or bytes left over.
 *
 * @param headerBytes the header alone, without its length.
 * @param dataBytes how many bytes follow the header in the file.
 * @throws EvenkeelError `CORRUPT_FILE` naming the file, and the tensor and bytes where there are some.
 */
export function parseHeader(path: string, headerBytes: Uint8Array, dataBytes: number): Header {
  const last = LENGTH_BYTES + headerBytes.byteLength - 1;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(headerBytes);
  } catch (cause) {
    throw corrupt(path, `the header (bytes ${LENGTH_BYTES}-${last}) is not valid UTF-8`, cause);
  }
  if (!text.startsWith('{')) {
    throw corrupt(path, `the header (bytes ${LENGTH_BYTES}-${last}) does not begin with '{'`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw corrupt(path, `the header (bytes ${LENGTH_BYTES}-${last}) is not valid JSON: ${reason}`, cause);
  }
  const repeated = findRepeatedKey(text);
  if (repeated !== undefined) {
    throw corrupt(path, `the header holds the key ${JSON.stringify(repeated)} twice in one object`);
  }
  if (!isRecord(parsed)) {
    throw corrupt(path, 'the header is not a JSON object');
  }
  const metadata = new Map<string, string>();
  const tensors: TensorEntry[] = [];
  for (const [name, value] of Object.entries(parsed)) {
    if (name === '__metadata__') {
      readMetadata(path, value, metadata);
    } else {
      tensors.push(readEntry(path, name, value));
    }
  }
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkCoverage(path, tensors, dataBytes);
  return { tensors, metadata };
}

function readMetadata(path: string, value: unknown, metadata: Map<string, string>): void {
  if (!isRecord(value)) {
    throw corrupt(path, '__metadata__ is not an object of strings');
  }
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') {
      throw corrupt(path, `__metadata__ has something other than a string under ${JSON.stringify(key)}`);
    }
    metadata.set(key, text);
  }
}

function readEntry(path: string, name: string, value: unknown): TensorEntry {
  if (!isRecord(value)) {
    throw corruptTensor(path, name, 'its description is not an object');
  }
  for (const key of Object.keys(value)) {
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets') {
      throw corruptTensor(path, name, `its description has the unknown key ${JSON.stringify(key)}`);
    }
  }
  const elementType = value['dtype'];
  if (!isElementType(elementType)) {
    throw corruptTensor(
      path,
      name,
      `its dtype is ${JSON.stringify(elementType)}; known are ${Object.keys(ELEMENT_BYTES).join(', ')}`,
    );
  }
  const shape = value['shape'];
  if (!isArrayOfCounts(shape)) {
    throw corruptTensor(path, name, `its shape ${JSON.stringify(shape)} is not a list of whole numbers from 0`);
  }
  const offsets = value['data_offsets'];
  if (!isArrayOfCounts(offsets) || offsets.length !== 2) {
    throw corruptTensor(path, name, `its data_offsets ${JSON.stringify(offsets)} are not two whole numbers from 0`);
  }
  const [begin = 0, end = 0] = offsets;
  const bytes = byteCount(shape, ELEMENT_BYTES[elementType]);
  if (bytes === undefined) {
    throw corruptTensor(path, name, `its shape [${shape.join(', ')}] has more elements than can be counted`);
  }
  if (end - begin !== bytes) {
    throw corruptTensor(
      path,
      name,
      `its data_offsets [${begin}, ${end}] span ${end - begin} bytes, and ${elementType} of shape [${shape.join(', ')}] takes ${bytes}`,
    );
  }
  return { name, elementType, shape, begin, end };
}

/** The tensors, in order of their offsets, must tile the data exactly. */
function checkCoverage(path: string, tensors: readonly TensorEntry[], dataBytes: number): void {
  let covered = 0;
  for (const { name, begin, end } of tensors) {
    if (begin !== covered) {
      const problem = begin < covered ? 'overlap the tensor before' : 'leave a hole after the tensor before';
      throw corruptTensor(path, name, `its data_offsets [${begin}, ${end}] ${problem}, which ends at ${covered}`);
    }
    if (end > dataBytes) {
      throw corruptTensor(
        path,
        name,
        `its data_offsets [${begin}, ${end}] reach past the end of the file, which has ${dataBytes} bytes of data: the file was cut short`,
      );
    }
    covered = end;
  }
  if (covered !== dataBytes) {
    throw corrupt(path, `${dataBytes - covered} bytes follow the last tensor, which ends at data byte ${covered}`);
  }
}

/** `undefined` when the product is beyond what a number counts exactly. */
export function byteCount(shape: readonly number[], elementBytes: number): number | undefined {
  let bytes = elementBytes;
  let empty = false;
  for (const extent of shape) {
    // An empty tensor may name any extents beside its zero, but each product on the way must still be countable.
    empty ||= extent === 0;
    bytes *= Math.max(extent, 1);
    if (!Number.isSafeInteger(bytes)) {
      return undefined;
    }
  }
  return empty ? 0 : bytes;
}

/**
 * The first key that some object of a JSON text holds twice (`JSON.parse` would silently keep the last).
 * The text must be valid JSON.
 */
export function findRepeatedKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = [];
  const token = /"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/gs;
  for (const match of text.matchAll(token)) {
    const [word, colon] = match;
    if (word === '{') {
      open.push(new Set());
    } else if (word === '[') {
      open.push(undefined);
    } else if (word === '}' || word === ']') {
      open.pop();
    } else if (colon !== undefined) {
      const key: string = JSON.parse(word.slice(0, word.length - colon.length));
      const keys = open.at(-1);
      if (keys?.has(key)) {
        return key;
      }
      keys?.add(key);
    }
  }
  return undefined;
}

/** A `CORRUPT_FILE` error about a file as a whole. */
export function corrupt(path: string, problem: string, cause?: unknown): EvenkeelError {
  return new EvenkeelError(
    'CORRUPT_FILE',
    `${path} is not a whole safetensors file: ${problem}. Nothing was loaded.`,
    cause === undefined ? undefined : { cause },
  );
}

/** A `CORRUPT_FILE` error about one tensor of a file. */
export function corruptTensor(path: string, name: string, problem: string): EvenkeelError {
  return new EvenkeelError(
    'CORRUPT_FILE',
    `${path} is damaged at tensor ${JSON.stringify(name)}: ${problem}. Nothing was loaded.`,
  );
}

function isElementType(value: unknown): value is ElementType {
  return typeof value === 'string' && Object.hasOwn(ELEMENT_BYTES, value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isArrayOfCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}
