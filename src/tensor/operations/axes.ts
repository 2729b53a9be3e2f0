import { EvenkeelError } from '../../errors';
import { scope } from '../scope';
import { checkShape, formatShape, resolveAxis, type Shape, sameShape } from '../shape';
import type { Tensor } from '../tensor';
import { checkTensor } from './check';
import { checkList, concatenate, reshape } from './layout';

/** `shape` with another axis in front of its axis `axis`. */
function inserted(shape: Shape, axis: number, length: number): number[] {
  return [...shape.slice(0, axis), length, ...shape.slice(axis)];
}

/**
 * The input without an axis of size 1; without `axis`, without all of them: `[2, 1, 3]` to `[2, 3]`. No copy.
 *
 * @throws EvenkeelError INVALID_ARGUMENT (no such axis), SHAPE_MISMATCH (an axis of another size)
 */
export function squeeze(input: Tensor, axis?: number): Tensor {
  checkTensor('squeeze', 'input', input);
  const { shape } = input;
  if (axis === undefined) {
    return reshape(
      input,
      shape.filter((length) => length !== 1),
    );
  }
  const removed = resolveAxis('squeeze', axis, input.rank);
  if (shape[removed] !== 1) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `squeeze: axis ${axis} of shape ${formatShape(shape)} has the size ${shape[removed]}; give an axis of size 1, or none for all of ` +
        'those',
    );
  }
  return reshape(
    input,
    shape.filter((_, at) => at !== removed),
  );
}

/**
 * The input with a new axis of size 1, which is axis `axis` of the result; negative ones count from the result's last: `[2, 3]` to
 * `[2, 1, 3]` for 1 and for -2. No copy.
 *
 * @throws EvenkeelError INVALID_ARGUMENT (no such axis, too many of them)
 */
export function unsqueeze(input: Tensor, axis: number): Tensor {
  checkTensor('unsqueeze', 'input', input);
  const target = inserted(input.shape, resolveAxis('unsqueeze', axis, input.rank + 1), 1);
  checkShape('unsqueeze', target);
  return reshape(input, target);
}

/**
 * Puts tensors of one shape and dtype beside one another along a new axis, which is axis `axis` of the result (the first by
 * default): `n` tensors `[2, 3]` make `[n, 2, 3]`, or `[2, n, 3]` along axis 1. Copies.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT (no tensors, no such axis, too many axes)
 */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  checkList('stack', 'the first argument', tensors, '[first, second]');
  for (const tensor of tensors) checkTensor('stack', 'part', tensor);
  const [first] = tensors;
  if (first === undefined) {
    throw new EvenkeelError('INVALID_ARGUMENT', 'stack: expected at least one tensor, got none');
  }
  const along = resolveAxis('stack', axis, first.rank + 1);
  checkShape('stack', inserted(first.shape, along, tensors.length));
  for (const { dtype, shape } of tensors) {
    if (dtype !== first.dtype) {
      throw new EvenkeelError(
        'DTYPE_MISMATCH',
        `stack: expected one dtype, got ${first.dtype} and ${dtype}; make them equal with cast()`,
      );
    }
    if (!sameShape(shape, first.shape)) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `stack: expected equal shapes, got ${formatShape(first.shape)} and ${formatShape(shape)}; concatenate() joins along an axis ` +
          'in which sizes differ',
      );
    }
  }
  return scope(() => {
    const parts = tensors.map((tensor) => unsqueeze(tensor, along));
    return concatenate(parts, along);
  });
}
