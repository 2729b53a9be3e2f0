import { EvenkeelError } from '../../errors';
import { checkNumber, show } from '../../options';
import { record } from '../autograd';
import { bytesPerElement, type DType, dtypeCodes } from '../dtype';
import { checkShape, formatShape, resolveAxis, type Shape, sameShape, sizeOf } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { broadcastShapes, broadcastTo, sumToShape } from './broadcast';
import { checkFloat, checkOptions, checkTensor, optionNames } from './check';

/** Throws `INVALID_ARGUMENT` where JavaScript gave no list: `permute(0, 2, 1)` in place of `permute([0, 2, 1])`. For operations. */
export function checkList(operation: string, name: string, list: readonly unknown[], example: string): void {
  if (Array.isArray(list)) return;
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `${operation}: ${name} is ${show(list)}; give an array, such as ${example}`,
  );
}

/** `shape` with another size along `axis`. */
function resized(shape: Shape, axis: number, size: number): number[] {
  return shape.map((length, at) => (at === axis ? size : length));
}

/**
 * The same elements in another shape, without a copy. One size may be -1: it follows from the others.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, INVALID_ARGUMENT
 */
export function reshape(input: Tensor, shape: Shape): Tensor {
  checkTensor('reshape', 'input', input);
  checkList('reshape', 'shape', shape, '[2, -1]');
  const unknown = shape.indexOf(-1);
  let target = [...shape];
  if (unknown !== -1) {
    target[unknown] = 1;
    const known = sizeOf(target);
    if (target.includes(-1) || known === 0 || input.size % known !== 0) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `reshape: ${formatShape(input.shape)} has ${input.size} elements, which do not make ${formatShape(shape)}` +
          ' (one size may be -1, where the others divide the number of elements)',
      );
    }
    target = resized(target, unknown, input.size / known);
  }
  checkShape('reshape', target);
  if (sizeOf(target) !== input.size) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `reshape: ${formatShape(input.shape)} has ${input.size} elements, but ${formatShape(shape)} needs ${sizeOf(target)}`,
    );
  }
  const inputShape = input.shape;
  return record('reshape', [input], input.alias(target), [], (gradient) => [gradient.alias(inputShape)]);
}

/** Joins all axes from `firstAxis` on; without one, all. @throws EvenkeelError INVALID_ARGUMENT */
export function flatten(input: Tensor, firstAxis = 0): Tensor {
  checkTensor('flatten', 'input', input);
  if (input.rank === 0) return reshape(input, [1]);
  const first = resolveAxis('flatten', firstAxis, input.rank);
  return reshape(input, [...input.shape.slice(0, first), sizeOf(input.shape.slice(first))]);
}

function permuteForward(input: Tensor, axes: readonly number[]): Tensor {
  const output = allocate(
    'permute',
    axes.map((axis) => input.shape[axis]!),
    input.dtype,
  );
  run('permute', [output], input, input.shape, axes);
  return output;
}

/**
 * Reorders the axes: axis `k` of the result is axis `axes[k]` of the input. Copies.
 *
 * @throws EvenkeelError INVALID_ARGUMENT unless every axis is given once
 */
export function permute(input: Tensor, axes: readonly number[]): Tensor {
  checkTensor('permute', 'input', input);
  checkList('permute', 'axes', axes, '[0, 2, 1]');
  const order = axes.map((axis) => resolveAxis('permute', axis, input.rank));
  if (order.length !== input.rank || new Set(order).size !== order.length) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `permute: expected each of the ${input.rank} axes once, got [${axes.join(', ')}]`,
    );
  }
  const inverse = order.map((_, axis) => order.indexOf(axis));
  return record('permute', [input], permuteForward(input, order), [], (gradient) => [
    permuteForward(gradient, inverse),
  ]);
}

/** Exchanges two axes, by default the last two. @throws EvenkeelError INVALID_ARGUMENT */
export function transpose(input: Tensor, first = -2, second = -1): Tensor {
  checkTensor('transpose', 'input', input);
  const axes = input.shape.map((_, axis) => axis);
  const [a, b] = [resolveAxis('transpose', first, input.rank), resolveAxis('transpose', second, input.rank)];
  axes[a] = b;
  axes[b] = a;
  return permute(input, axes);
}

/** Options of {@link slice}: for each axis, outermost first; axes that are left out are kept whole. */
export interface SliceOptions {
  /** The first index; a negative one counts from the end. @defaultValue 0 */
  readonly starts?: readonly number[];
  /** One past the last index; a negative one counts from the end. @defaultValue the size */
  readonly ends?: readonly number[];
  /** The distance between indices, at least 1. @defaultValue 1 */
  readonly steps?: readonly number[];
}

const sliceOptions = optionNames<SliceOptions>({ starts: true, ends: true, steps: true });

/**
 * A part of a tensor: along each axis, indices `start, start + step, …` below `end`. Copies. As in NumPy, indices beyond the ends
 * are moved to them.
 *
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function slice(input: Tensor, options: SliceOptions): Tensor {
  checkTensor('slice', 'input', input);
  checkOptions('slice', options, sliceOptions);
  for (const [name, list] of Object.entries(options) as [string, readonly number[] | undefined][]) {
    if (list === undefined) continue;
    checkList('slice', name, list, '[0, 1]');
    if (list.length > input.rank || !list.every(Number.isInteger)) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `slice: ${name} must be at most ${input.rank} whole numbers for shape ${formatShape(input.shape)}, got ${show(list)}`,
      );
    }
  }
  const bounded = (index: number, length: number) => Math.min(length, Math.max(0, index < 0 ? index + length : index));
  const starts = input.shape.map((length, axis) => bounded(options.starts?.[axis] ?? 0, length));
  const ends = input.shape.map((length, axis) => bounded(options.ends?.[axis] ?? length, length));
  const steps = input.shape.map((_, axis) => options.steps?.[axis] ?? 1);
  if (steps.some((step) => step < 1)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `slice: steps must be at least 1, got [${steps.join(', ')}]`);
  }
  const sizes = starts.map((start, axis) => Math.ceil(Math.max(0, ends[axis]! - start) / steps[axis]!));
  const output = allocate('slice', sizes, input.dtype);
  run('slice', [output], input, input.shape, starts, steps, sizes);
  const inputShape = input.shape;
  return record('slice', [input], output, [], (gradient) => {
    const inputGradient = allocate('slice backward', inputShape);
    run('pad', [inputGradient], gradient, 0, inputShape, starts, steps, sizes);
    return [inputGradient];
  });
}

/**
 * Adds `[before, after]` elements of `value` along each axis.
 *
 * @throws EvenkeelError INVALID_ARGUMENT unless there is a pair of whole, non-negative numbers for each axis
 */
export function pad(input: Tensor, widths: readonly (readonly [before: number, after: number])[], value = 0): Tensor {
  checkTensor('pad', 'input', input);
  checkList('pad', 'widths', widths, '[[0, 0], [1, 1]]');
  checkNumber('pad', 'value', value);
  const fine = widths.flat().every((width) => Number.isInteger(width) && width >= 0);
  if (widths.length !== input.rank || !fine) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `pad: expected [before, after] for each of the ${input.rank} axes, whole and at least 0, got ${JSON.stringify(widths)}`,
    );
  }
  const shape = input.shape.map((length, axis) => length + widths[axis]![0] + widths[axis]![1]);
  checkShape('pad', shape);
  const starts = widths.map(([before]) => before);
  const steps = widths.map(() => 1);
  const sizes = input.shape;
  const output = allocate('pad', shape, input.dtype);
  run('pad', [output], input, value, shape, starts, steps, sizes);
  return record('pad', [input], output, [], (gradient) => {
    const inputGradient = allocate('pad backward', sizes);
    run('slice', [inputGradient], gradient, shape, starts, steps, sizes);
    return [inputGradient];
  });
}

/** The most tensors that one command joins. */
const MAX_JOINED = 16;

function join(tensors: readonly Tensor[], axis: number): Tensor {
  if (tensors.length > MAX_JOINED) {
    const parts: Tensor[] = [];
    for (let first = 0; first < tensors.length; first += MAX_JOINED) {
      parts.push(join(tensors.slice(first, first + MAX_JOINED), axis));
    }
    const joined = join(parts, axis);
    for (const part of parts) part.dispose();
    return joined;
  }
  const [first] = tensors;
  const sizes = tensors.map((tensor) => tensor.shape[axis]!);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const shape = resized(first!.shape, axis, total);
  const output = allocate('concatenate', shape, first!.dtype);
  const slots = tensors.map((tensor) => tensor.storage.slot);
  run('concatenate', [output], slots, sizes, shape, axis);
  return output;
}

/**
 * Joins tensors along an axis; their other sizes and their dtypes must be equal.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT (no tensors, no such axis)
 */
export function concatenate(tensors: readonly Tensor[], axis = 0): Tensor {
  checkList('concatenate', 'the first argument', tensors, '[first, second]');
  for (const tensor of tensors) checkTensor('concatenate', 'part', tensor);
  const [first] = tensors;
  if (first === undefined) {
    throw new EvenkeelError('INVALID_ARGUMENT', 'concatenate: expected at least one tensor, got none');
  }
  const along = resolveAxis('concatenate', axis, first.rank);
  for (const tensor of tensors) {
    if (tensor.dtype !== first.dtype) {
      throw new EvenkeelError(
        'DTYPE_MISMATCH',
        `concatenate: expected one dtype, got ${first.dtype} and ${tensor.dtype}`,
      );
    }
    const fits =
      tensor.rank === first.rank && sameShape(resized(tensor.shape, along, 0), resized(first.shape, along, 0));
    if (!fits) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `concatenate: expected equal sizes but along axis ${along}, got ${formatShape(first.shape)} and ${formatShape(tensor.shape)}`,
      );
    }
  }
  const output = join(tensors, along);
  const [shape, shapes] = [output.shape, tensors.map((tensor) => tensor.shape)];
  return record('concatenate', tensors, output, [], (gradient, _saved, needs) => {
    let start = 0;
    return shapes.map((own, index) => {
      const starts = own.map((_, at) => (at === along ? start : 0));
      start += own[along]!;
      if (needs[index] !== true) return undefined;
      const part = allocate('concatenate backward', own);
      run(
        'slice',
        [part],
        gradient,
        shape,
        starts,
        own.map(() => 1),
        own,
      );
      return part;
    });
  });
}

/**
 * Repeats axes of size 1 (and new leading axes) to `shape`, as NumPy's broadcasting does.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function expand(input: Tensor, shape: Shape): Tensor {
  checkShape('expand', shape);
  checkFloat('expand', { input });
  if (!sameShape(broadcastShapes('expand', input.shape, shape), shape)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `expand: ${formatShape(input.shape)} does not broadcast to ${formatShape(shape)}`,
    );
  }
  const inputShape = input.shape;
  return record('expand', [input], broadcastTo(input, [...shape]), [], (gradient) => [
    sumToShape(gradient, inputShape),
  ]);
}

/**
 * Chooses along the first axis: `result[i] = input[indices[i]]`. An index out of range makes the result fail with
 * INVALID_ARGUMENT when it is read.
 *
 * @param indices int32 `[count]`
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function gather(input: Tensor, indices: Tensor): Tensor {
  checkTensor('gather', 'input', input);
  checkTensor('gather', 'indices', indices, 'tensor(Int32Array.of(…)) makes one of numbers');
  if (indices.dtype !== 'int32') {
    throw new EvenkeelError('DTYPE_MISMATCH', `gather: expected int32 indices, got ${indices.dtype}`);
  }
  if (indices.rank !== 1 || input.rank === 0) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `gather: expected indices [count] and an input with at least one axis, got ${formatShape(indices.shape)} and ${formatShape(input.shape)}`,
    );
  }
  const rowShape = input.shape.slice(1);
  const [rows, width] = [input.shape[0]!, sizeOf(rowShape)];
  const output = allocate('gather', [indices.size, ...rowShape], input.dtype);
  run('gather_rows', [output], input, indices, width);
  return record('gather', [input], output, [indices], (gradient, [saved]) => {
    const inputGradient = allocate('gather backward', [rows, ...rowShape]);
    run('scatter_add_rows', [inputGradient], gradient, saved!, width, rows);
    return [inputGradient];
  });
}

/**
 * The elements in another dtype: toward zero, limited to what the dtype holds, NaN to 0. It has no gradient, unless the dtype is
 * the same.
 *
 * @throws EvenkeelError DTYPE_MISMATCH for an unknown dtype
 */
export function cast(input: Tensor, dtype: DType): Tensor {
  checkTensor('cast', 'input', input);
  if (!Object.hasOwn(bytesPerElement, dtype)) {
    throw new EvenkeelError('DTYPE_MISMATCH', `cast: expected float32, int32 or uint8, got ${String(dtype)}`);
  }
  if (dtype === input.dtype) return record('cast', [input], input.alias(), [], (gradient) => [gradient]);
  const output = allocate('cast', input.shape, dtype);
  run('cast', [output], input, dtypeCodes[dtype]);
  return output;
}
