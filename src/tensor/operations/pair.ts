import { EvenkeelError } from '../../errors';

/** One number for both axes, or `[vertical, horizontal]`. */
export type Pair = number | readonly [number, number];

/**
 * Both numbers of a pair, whole and at least `least`.
 *
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function pair(operation: string, name: string, value: Pair, least: number): readonly [number, number] {
  const [vertical, horizontal] = typeof value === 'number' ? [value, value] : value;
  for (const size of [vertical, horizontal]) {
    if (!Number.isInteger(size) || size < least) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `${operation}: ${name} must be a whole number of at least ${least}, or two of them, got ${String(value)}`,
      );
    }
  }
  return [vertical, horizontal];
}
