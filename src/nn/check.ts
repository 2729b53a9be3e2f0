import { EvenkeelError } from '../errors';
import { show } from '../options';

/** Returns `value` if it is an integer of at least `minimum`; otherwise throws `INVALID_ARGUMENT`. */
export function checkInteger(owner: string, name: string, value: number, minimum: number): number {
  if (!Number.isInteger(value) || value < minimum) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: ${name} is ${show(value)}; give an integer of at least ${minimum}`,
    );
  }
  return value;
}

/** Returns `value` if it is a number in `[low, high]`; otherwise throws `INVALID_ARGUMENT`. */
export function checkRange(owner: string, name: string, value: number, low: number, high: number): number {
  if (typeof value !== 'number' || !(value >= low && value <= high)) {
    const top = high === 1 - Number.EPSILON ? 'below 1' : high;
    const range = high === Number.POSITIVE_INFINITY ? `at least ${low}` : `from ${low} to ${top}`;
    throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: ${name} is ${show(value)}; give a number ${range}`);
  }
  return value;
}

/** Returns `value` if it is a finite number; otherwise throws `INVALID_ARGUMENT`. */
export function checkFinite(owner: string, name: string, value: number): number {
  if (!Number.isFinite(value)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: ${name} is ${show(value)}; give a finite number`);
  }
  return value;
}

/** Returns `value` if it is one of `choices`; otherwise throws `INVALID_ARGUMENT`. */
export function checkChoice<Choice extends string>(
  owner: string,
  name: string,
  value: Choice,
  choices: readonly Choice[],
): Choice {
  if (choices.includes(value)) return value;
  const quoted = choices.map(show);
  const given = `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`;
  throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: ${name} is ${show(value)}; give ${given}`);
}

/**
 * Returns `value` if it has all `methods`; otherwise throws `INVALID_ARGUMENT`.
 *
 * @param advice - What to give.
 */
export function checkMethods<Value>(
  owner: string,
  name: string,
  value: Value,
  methods: readonly string[],
  advice: string,
): Value {
  const members = Object(value) as Readonly<Record<string, unknown>>;
  // A function has a method `call`, too, which is not the one that is meant.
  if (typeof value !== 'function' && methods.every((method) => typeof members[method] === 'function')) return value;
  throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: ${name} is ${show(value)}; give ${advice}`);
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
