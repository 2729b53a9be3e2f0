import { EvenkeelError } from '../errors';

export { checkNames } from '../tensor/operations/check';

/** Returns `value` if it is an integer of at least `minimum`; otherwise throws `INVALID_ARGUMENT`. */
export function checkInteger(owner: string, name: string, value: number, minimum: number): number {
  if (!Number.isInteger(value) || value < minimum) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: ${name} is ${value}; give an integer of at least ${minimum}`,
    );
  }
  return value;
}

/** Returns `value` if it is a finite number in `[low, high]`; otherwise throws `INVALID_ARGUMENT`. */
export function checkRange(owner: string, name: string, value: number, low: number, high: number): number {
  if (typeof value !== 'number' || !(value >= low && value <= high)) {
    const range = high === Number.POSITIVE_INFINITY ? `at least ${low}` : `from ${low} to ${high}`;
    throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: ${name} is ${value}; give a number ${range}`);
  }
  return value;
}

/** A pair in its shortest form for {@link Module.describe}: `3`, or `[3, 5]`. */
export function formatPair([height, width]: readonly [number, number]): string {
  return height === width ? `${height}` : `[${height}, ${width}]`;
}

/** The options of a layer for {@link Module.describe}: `name: value` pairs, leaving out those that are `undefined`. */
export function formatOptions(options: Readonly<Record<string, string | number | boolean | undefined>>): string {
  return Object.entries(options)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}`)
    .join(', ');
}
