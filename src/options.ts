import { EvenkeelError } from './errors';
import { nearest } from './spelling';

/** The names of all options, each true: the compiler asks for all of them, and for no others. */
export type OptionNames<Options extends object> = Readonly<Record<keyof Options & string, true>>;

/** The names that {@link checkOptions} looks for. Made once for each owner, because the check is in the way of every call. */
export function optionNames<Options extends object>(names: OptionNames<Options>): ReadonlySet<string> {
  return new Set(Object.keys(names));
}

/**
 * Checks options as JavaScript gave them: an object, without names that are not in `known`. It allocates nothing where they are right.
 *
 * @param owner - The function or class whose options they are, as its caller knows it.
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function checkOptions(owner: string, options: object, known: ReadonlySet<string>): void {
  if (typeof options !== 'object' || options === null) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: expected an object of options, got ${describe(options)}; ${list(known)}`,
    );
  }
  for (const name in options) {
    // Says which, and lets pass what comes from a prototype.
    if (!known.has(name)) refuseUnknown(owner, options, known);
  }
}

function refuseUnknown(owner: string, options: object, known: ReadonlySet<string>): void {
  const unknown = Object.keys(options).filter((name) => !known.has(name));
  if (unknown.length === 0) return;
  const found = unknown.map((name) => {
    const meant = nearest(name, [...known]);
    return meant === undefined ? name : `${name} (did you mean ${meant}?)`;
  });
  throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: there is no option ${found.join(', ')}; ${list(known)}`);
}

function list(known: ReadonlySet<string>): string {
  return known.size === 0 ? 'it has no options' : `the options are ${[...known].join(', ')}`;
}

/** What kind of value was given in place of an object or a tensor, in a few words. */
export function describe(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return 'an array';
  const keys = Object.keys(value);
  return keys.length === 0 ? 'an empty object' : `an object { ${keys.join(', ')} }`;
}

/** What was given in place of another value, for messages: strings in quotes, so that `'3'` is told from `3`. */
export function show(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (Array.isArray(value)) return value.length > 8 ? `an array of ${value.length}` : `[${value.map(show).join(', ')}]`;
  const simple = value === null || (typeof value !== 'object' && typeof value !== 'function');
  return simple ? String(value) : describe(value);
}
