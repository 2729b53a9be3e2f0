import { EvenkeelError } from '../errors';
import { show } from '../options';

/** The sizes of a tensor's axes, outermost first. */
export type Shape = readonly number[];

/** The most axes a tensor can have. */
export const MAX_RANK = 8;

/** Elements of a tensor of `shape`. The shape must be checked. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (let axis = 0; axis < shape.length; axis++) size *= shape[axis]!;
  return size;
}

/** `[2, 3]`, as messages show shapes. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}

/** Whether two shapes are equal. */
export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let axis = 0; axis < a.length; axis++) if (a[axis] !== b[axis]) return false;
  return true;
}

/**
 * Checks a shape that a caller gave: whole, non-negative sizes whose product fits.
 *
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function checkShape(operation: string, shape: Shape): void {
  if (!Array.isArray(shape)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${operation}: shape must be an array of sizes, got ${show(shape)}`);
  }
  if (shape.length > MAX_RANK) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${operation}: at most ${MAX_RANK} axes, got ${formatShape(shape)}`);
  }
  let size = 1;
  for (const length of shape) {
    if (!Number.isInteger(length) || length < 0) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `${operation}: sizes must be whole numbers of 0 or more, got ${formatShape(shape)}`,
      );
    }
    // An empty tensor may have large axes, but not ones whose product would overflow.
    size *= Math.max(length, 1);
  }
  if (size > 2 ** 40) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${operation}: ${formatShape(shape)} has too many elements`);
  }
}

/**
 * An axis counted from the front, for one that may be negative (from the back).
 *
 * @throws EvenkeelError INVALID_ARGUMENT where there is no such axis.
 */
export function resolveAxis(operation: string, axis: number, rank: number): number {
  if (!Number.isInteger(axis)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${operation}: axis is ${show(axis)}; give a whole number`);
  }
  if (axis < -rank || axis >= rank) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: axis ${axis} is out of range for ${rank} axes (${-rank} to ${rank - 1})`,
    );
  }
  return axis < 0 ? axis + rank : axis;
}
