import { EvenkeelError } from '../../errors';
import { show } from '../../options';
import { full } from '../creation';
import { formatShape, MAX_RANK, type Shape, sameShape } from '../shape';
import { allocate, run, Tensor } from '../tensor';

/**
 * The shape that two shapes broadcast to, as in NumPy: aligned at the last axis; a size of 1 is repeated.
 *
 * @throws EvenkeelError SHAPE_MISMATCH
 */
export function broadcastShapes(operation: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const shape: number[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const left = a[axis - rank + a.length] ?? 1;
    const right = b[axis - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `${operation}: shapes ${formatShape(a)} and ${formatShape(b)} do not broadcast: aligned at the last axis, sizes must be equal or 1`,
      );
    }
    shape.push(left === 1 ? right : left);
  }
  if (rank > MAX_RANK) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${operation}: at most ${MAX_RANK} axes, got ${formatShape(shape)}`);
  }
  return shape;
}

/** Reverses broadcasting: sums `gradient` (in float64) over the axes along which `shape` was repeated. For operations. */
export function sumToShape(gradient: Tensor, shape: Shape): Tensor {
  if (sameShape(gradient.shape, shape)) return gradient;
  const sum = allocate('sum', shape);
  run('sum_to_shape', [sum], gradient, gradient.shape, shape);
  return sum;
}

/** Repeats `input` along axes of size 1 to `shape`, times `factor`. For operations. */
export function broadcastTo(input: Tensor, shape: Shape, factor = 1): Tensor {
  const output = allocate('broadcast', shape);
  run('broadcast', [output], input, factor, input.shape, shape);
  return output;
}

/**
 * Runs `body` with tensors in place of numbers; frees those it made.
 *
 * @throws EvenkeelError DTYPE_MISMATCH where a tensor is not float32, INVALID_ARGUMENT where something is neither tensor nor number.
 */
export function withOperands<T>(
  operation: string,
  values: readonly (Tensor | number)[],
  body: (...tensors: Tensor[]) => T,
): T {
  const made: Tensor[] = [];
  const tensors = values.map((value, index) => {
    if (typeof value === 'number') {
      const scalar = full([], value);
      made.push(scalar);
      return scalar;
    }
    if (!(value instanceof Tensor)) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `${operation}: operand ${index + 1} must be a tensor or a number, got ${show(value)}`,
      );
    }
    if (value.dtype !== 'float32') {
      throw new EvenkeelError(
        'DTYPE_MISMATCH',
        `${operation}: operand ${index + 1} is ${value.dtype}, expected float32; convert it with cast('float32')`,
      );
    }
    return value;
  });
  try {
    return body(...tensors);
  } finally {
    for (const scalar of made) scalar.dispose();
  }
}
