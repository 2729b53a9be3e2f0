import { EvenkeelError } from '../../errors';
import { show } from '../../options';

/** One number for both axes, or `[vertical, horizontal]`. */
export type Pair = number | readonly [number, number];

/**
 * Both numbers of a pair, whole and at least `least`.
 *
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function pair(operation: string, name: string, value: Pair, least: number): readonly [number, number] {
  const sizes = (Array.isArray(value) ? value : [value, value]) as readonly number[];
  if (sizes.length !== 2 || sizes.some((size) => !Number.isInteger(size) || size < least)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: ${name} must be a whole number of at least ${least}, or two of them, got ${show(value)}`,
    );
  }
  return sizes as readonly [number, number];
}
