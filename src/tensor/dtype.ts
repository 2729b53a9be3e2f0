import { EvenkeelError } from '../errors';

/** The element type of a tensor. */
export type DType = 'float32' | 'int32' | 'uint8';

/** The typed array that holds a tensor's values in JavaScript. */
export type TypedArray = Float32Array | Int32Array | Uint8Array;

/** The typed array of each dtype. */
export interface ArrayOf {
  float32: Float32Array;
  int32: Int32Array;
  uint8: Uint8Array;
}

/** Bytes of one element. */
export const bytesPerElement: Readonly<Record<DType, number>> = { float32: 4, int32: 4, uint8: 1 };

/** The numbers that stand for dtypes in commands: those of `DType` in crate evenkeel-node. */
export const dtypeCodes: Readonly<Record<DType, number>> = { float32: 0, int32: 1, uint8: 2 };

const dtypeOfTag: Readonly<Record<string, DType>> = {
  Float32Array: 'float32',
  Int32Array: 'int32',
  Uint8Array: 'uint8',
};

/**
 * The dtype of a typed array, or undefined for anything else. Looks at the tag, not at the prototype: under jest, arrays of
 * another realm are common.
 */
export function dtypeOfArray(values: unknown): DType | undefined {
  if (!ArrayBuffer.isView(values)) return undefined;
  const tag = (values as unknown as { readonly [Symbol.toStringTag]?: string })[Symbol.toStringTag];
  return tag === undefined ? undefined : dtypeOfTag[tag];
}

/** A view of `bytes` (at offset 0 of its buffer, as the native side returns it) as an array of `dtype`. */
export function viewBytes<D extends DType>(bytes: Uint8Array, dtype: D): ArrayOf[D];
export function viewBytes(bytes: Uint8Array, dtype: DType): TypedArray {
  const length = bytes.byteLength / bytesPerElement[dtype];
  switch (dtype) {
    case 'float32':
      return new Float32Array(bytes.buffer, bytes.byteOffset, length);
    case 'int32':
      return new Int32Array(bytes.buffer, bytes.byteOffset, length);
    case 'uint8':
      return bytes;
  }
}

/**
 * The bytes of a typed array, for a copy that is made at once.
 *
 * @throws EvenkeelError INVALID_ARGUMENT for detached, shared and resizable buffers: another thread, or a later line of code,
 * could take the memory away or change it meanwhile.
 */
export function bytesOfArray(operation: string, values: TypedArray): Uint8Array {
  const buffer: ArrayBufferLike = values.buffer;
  const tag = Object.prototype.toString.call(buffer);
  if (tag === '[object SharedArrayBuffer]') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: the values are in a SharedArrayBuffer, which other threads can change; pass a copy: values.slice()`,
    );
  }
  if ((buffer as { readonly resizable?: boolean }).resizable === true) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: the values are in a resizable ArrayBuffer; pass a copy: values.slice()`,
    );
  }
  try {
    return new Uint8Array(buffer, values.byteOffset, values.byteLength);
  } catch (cause) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: the buffer of the values is detached (it was transferred to another thread); pass a copy made before`,
      { cause },
    );
  }
}
