import { EvenkeelError } from '../errors';
import { checkNumber, show } from '../options';
import { bytesOfArray, type DType, dtypeCodes, dtypeOfArray, type TypedArray } from './dtype';
import { checkOptions, optionNames } from './operations/check';
import { checkShape, formatShape, type Shape, sizeOf } from './shape';
import { stream } from './stream';
import { allocate, run, Tensor } from './tensor';

/** Numbers, in nested arrays of equal lengths. */
export type NestedArray = number | readonly NestedArray[];

/** Options of the functions that make tensors. */
export interface TensorOptions {
  /** Element type. @defaultValue float32, or that of the typed array */
  readonly dtype?: DType;
  /** Whether `backward()` computes a gradient for it. @defaultValue false */
  readonly requiresGrad?: boolean;
}

const fillOptions = optionNames<TensorOptions>({ dtype: true, requiresGrad: 'boolean' });
const tensorOptions = optionNames<TensorOptions & { readonly shape?: Shape }>({
  dtype: true,
  requiresGrad: 'boolean',
  shape: true,
});

function finish(tensor: Tensor, options: TensorOptions): Tensor {
  if (options.requiresGrad === true) tensor.requiresGrad = true;
  return tensor;
}

function shapeOfNested(values: NestedArray): number[] {
  const shape: number[] = [];
  for (let level: NestedArray | undefined = values; Array.isArray(level); level = level[0] as NestedArray | undefined) {
    shape.push(level.length);
  }
  return shape;
}

function flattenNested(values: NestedArray, shape: Shape, axis: number, into: number[]): void {
  if (typeof values === 'number') {
    if (axis === shape.length) {
      into.push(values);
      return;
    }
  } else if (Array.isArray(values) && axis < shape.length && values.length === shape[axis]) {
    for (const value of values as readonly NestedArray[]) flattenNested(value, shape, axis + 1, into);
    return;
  }
  throw new EvenkeelError(
    'SHAPE_MISMATCH',
    `tensor: nested arrays must hold numbers and have equal lengths; expected shape ${formatShape(shape)}`,
  );
}

function checkDType(operation: string, dtype: DType | undefined): void {
  if (dtype === undefined || Object.hasOwn(dtypeCodes, dtype)) return;
  throw new EvenkeelError(
    'DTYPE_MISMATCH',
    `${operation}: dtype is ${show(dtype)}; give 'float32', 'int32' or 'uint8'`,
  );
}

function toTypedArray(values: readonly number[], dtype: DType): TypedArray {
  switch (dtype) {
    case 'float32':
      return Float32Array.from(values);
    case 'int32':
      return Int32Array.from(values);
    case 'uint8':
      return Uint8Array.from(values);
  }
}

/**
 * A tensor with a copy of `values`: a number, nested arrays, or a typed array in row-major order.
 *
 * @param options `shape` gives the values another shape of as many elements (a flat array has `[length]` by default)
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT (detached, shared or resizable buffers),
 * OUT_OF_MEMORY
 */
export function tensor(
  values: NestedArray | TypedArray,
  options: TensorOptions & { readonly shape?: Shape } = {},
): Tensor {
  checkOptions('tensor', options, tensorOptions);
  checkDType('tensor', options.dtype);
  const given = dtypeOfArray(values);
  if (given === undefined && ArrayBuffer.isView(values)) {
    throw new EvenkeelError(
      'DTYPE_MISMATCH',
      `tensor: expected a Float32Array, Int32Array or Uint8Array, got ${Object.prototype.toString.call(values)}; convert it first`,
    );
  }
  let array: TypedArray;
  let shape = options.shape;
  if (given !== undefined) {
    array = values as TypedArray;
    if (options.dtype !== undefined && options.dtype !== given) {
      throw new EvenkeelError('DTYPE_MISMATCH', `tensor: dtype is ${options.dtype}, but the values are ${given}`);
    }
    shape ??= [array.length];
  } else {
    if (typeof values !== 'number' && !Array.isArray(values)) {
      throw new EvenkeelError('INVALID_ARGUMENT', `tensor: expected numbers or a typed array, got ${String(values)}`);
    }
    const nested = shapeOfNested(values as NestedArray);
    const flat: number[] = [];
    flattenNested(values as NestedArray, nested, 0, flat);
    array = toTypedArray(flat, options.dtype ?? 'float32');
    shape ??= nested;
  }
  checkShape('tensor', shape);
  const bytes = bytesOfArray('tensor', array);
  if (sizeOf(shape) !== array.length) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `tensor: shape ${formatShape(shape)} has ${sizeOf(shape)} elements, but ${array.length} values were given`,
    );
  }
  const storage = stream().allocate('tensor', given ?? options.dtype ?? 'float32', array.length);
  stream().upload(storage, bytes);
  return finish(new Tensor(storage, [...shape]), options);
}

function fill(name: string, shape: Shape, value: number, options: TensorOptions): Tensor {
  checkOptions(name, options, fillOptions);
  checkShape(name, shape);
  checkNumber(name, 'value', value);
  checkDType(name, options.dtype);
  const dtype = options.dtype ?? 'float32';
  const result = allocate(name, [...shape], dtype);
  run('fill', [result], dtypeCodes[dtype], result.size, value);
  return finish(result, options);
}

/** A tensor with `value` everywhere. */
export function full(shape: Shape, value: number, options: TensorOptions = {}): Tensor {
  return fill('full', shape, value, options);
}

/** A tensor of zeros. */
export function zeros(shape: Shape, options: TensorOptions = {}): Tensor {
  return fill('zeros', shape, 0, options);
}

/** A tensor of ones. */
export function ones(shape: Shape, options: TensorOptions = {}): Tensor {
  return fill('ones', shape, 1, options);
}
