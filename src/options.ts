import { EvenkeelError } from './errors';
import { advice } from './spelling';

/** What {@link checkOptions} asks of an option's value: `'boolean'` that it is one, `true` nothing, because its owner does. */
export type OptionKind = 'boolean' | true;

/** The names of all options with their kinds: the compiler asks for all of them, for no others, and to mark what is a boolean. */
export type OptionNames<Options extends object> = {
  readonly [Name in keyof Options & string]-?: [NonNullable<Options[Name]>] extends [boolean] ? 'boolean' : true;
};

/** What {@link checkOptions} looks names up in. */
export type KnownOptions = ReadonlyMap<string, OptionKind>;

/** The options that {@link checkOptions} knows. Made once for each owner, because the check is in the way of every call. */
export function optionNames<Options extends object>(names: OptionNames<Options>): KnownOptions {
  return new Map(Object.entries<OptionKind>(names));
}

/**
 * Checks options as JavaScript gave them: an object, without names that are not in `known`, and with booleans where those belong.
 * It allocates nothing where they are right.
 *
 * @param owner - The function or class whose options they are, as its caller knows it.
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function checkOptions(owner: string, options: object, known: KnownOptions): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: expected an object of options, got ${describe(options)}; ${list(known)}`,
    );
  }
  for (const name in options) {
    const kind = known.get(name);
    // Says which, and lets pass what comes from a prototype.
    if (kind === undefined) refuseUnknown(owner, options, known);
    else if (kind === 'boolean')
      checkOptionalBoolean(owner, name, (options as Readonly<Record<string, unknown>>)[name]);
  }
}

function checkOptionalBoolean(owner: string, name: string, value: unknown): void {
  if (value !== undefined) checkBoolean(owner, name, value);
}

/** Throws `INVALID_ARGUMENT` where `value` is neither `true` nor `false`: JavaScript would take `'no'` for yes. */
export function checkBoolean(owner: string, name: string, value: unknown): void {
  if (typeof value === 'boolean') return;
  throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: ${name} is ${show(value)}; give true or false`);
}

const noOptions = optionNames<Record<never, never>>({});

/**
 * For what takes no options: throws `INVALID_ARGUMENT` where it was given some all the same, which JavaScript would ignore.
 *
 * @param given - The arguments beyond those that there are. Empty options pass.
 */
export function checkNoOptions(owner: string, given: readonly unknown[]): void {
  for (const value of given) {
    if (value === undefined) continue;
    if (value === null || Object.getPrototypeOf(value) !== Object.prototype) {
      throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: there is no place for ${show(value)}; it has no options`);
    }
    checkOptions(owner, value as object, noOptions);
  }
}

/** Throws `INVALID_ARGUMENT` where JavaScript gave something else in place of a number; NaN and infinities are numbers. */
export function checkNumber(owner: string, name: string, value: unknown): void {
  if (typeof value === 'number') return;
  throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: ${name} is ${show(value)}; give a number`);
}

/** Throws `INVALID_ARGUMENT` where JavaScript gave something else in place of a function. */
export function checkFunction(owner: string, name: string, value: unknown): void {
  if (typeof value === 'function') return;
  throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: ${name} is ${show(value)}; give a function`);
}

function refuseUnknown(owner: string, options: object, known: KnownOptions): void {
  const unknown = Object.keys(options).filter((name) => !known.has(name));
  if (unknown.length === 0) return;
  const found = unknown.map((name) => {
    const help = advice(name, [...known.keys()]);
    return help === undefined ? name : `${name} (${help})`;
  });
  throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: there is no option ${found.join(', ')}; ${list(known)}`);
}

function list(known: KnownOptions): string {
  return known.size === 0 ? 'it has no options' : `the options are ${[...known.keys()].join(', ')}`;
}

/** What kind of value was given in place of an object or a tensor, in a few words. */
export function describe(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  if (Array.isArray(value)) return 'an array';
  const prototype = Object.getPrototypeOf(value) as { readonly constructor?: { readonly name?: unknown } } | null;
  const maker = prototype?.constructor?.name;
  // Of a class, the name says more than what is in it.
  if (typeof maker === 'string' && maker !== '' && maker !== 'Object')
    return `${/^([AEIO]|[FHLMNRSX][A-Z])/.test(maker) ? 'an' : 'a'} ${maker}`;
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
