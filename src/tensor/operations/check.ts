import { EvenkeelError } from '../../errors';
import { Tensor } from '../tensor';

/** Tensors with the names that messages call them by. */
type Named = Readonly<Record<string, Tensor | undefined>>;

/**
 * Checks the tensors of an operation, as JavaScript gave them. For operations.
 *
 * @param optional - Those that may be left out.
 * @throws EvenkeelError INVALID_ARGUMENT where one is no tensor; DTYPE_MISMATCH where one is not float32.
 */
export function checkFloat(operation: string, required: Named, optional: Named = {}): void {
  for (const [name, value] of Object.entries(required)) {
    checkOne(operation, name, value, 'give a float32 tensor (tensor(…) makes one of numbers)');
  }
  for (const [name, value] of Object.entries(optional)) {
    if (value === undefined) continue;
    checkOne(operation, name, value, 'give a float32 tensor, or undefined for none; options are the last argument');
  }
}

/** The names of an operation's options, each true: the compiler asks for all of them, and for no others. */
type Names<Options extends object> = Readonly<Record<keyof Options & string, true>>;

/** The names that {@link checkOptions} looks for. Made once for each operation, because the check is in the way of every call. */
export function optionNames<Options extends object>(names: Names<Options>): ReadonlySet<string> {
  return new Set(Object.keys(names));
}

/**
 * Checks the options of an operation, as JavaScript gave them: an object, without names that are not in `known`. For operations; it
 * allocates nothing where the options are right.
 *
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function checkOptions(operation: string, options: object, known: ReadonlySet<string>): void {
  if (typeof options !== 'object' || options === null) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: expected an object of options, got ${describe(options)}; the options are ${[...known].join(', ')}`,
    );
  }
  for (const name in options) {
    // Says which, and lets pass what comes from a prototype.
    if (!known.has(name)) checkNames(operation, options, [...known]);
  }
}

/** Throws `INVALID_ARGUMENT` if `options` has a name that is not in `known`: most likely a typing error. */
export function checkNames(owner: string, options: object, known: readonly string[]): void {
  const unknown = Object.keys(options).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: there is no option ${unknown.join(', ')}; the options are ${known.join(', ')}`,
    );
  }
}

function checkOne(operation: string, name: string, value: unknown, advice: string): void {
  if (!(value instanceof Tensor)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: expected a tensor as ${name}, got ${describe(value)}; ${advice}`,
    );
  }
  if (value.dtype !== 'float32') {
    throw new EvenkeelError('DTYPE_MISMATCH', `${operation}: expected a float32 ${name}, got ${value.dtype}`);
  }
}

/** What was given in place of a tensor, in a few words. */
function describe(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return 'an array';
  const keys = Object.keys(value);
  return keys.length === 0 ? 'an empty object' : `an object { ${keys.join(', ')} }`;
}
