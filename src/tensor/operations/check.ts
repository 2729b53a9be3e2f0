import { EvenkeelError } from '../../errors';
import { describe } from '../../options';
import { Tensor } from '../tensor';

export { checkOptions, optionNames } from '../../options';

/** Tensors with the names that messages call them by. */
type Named = Readonly<Record<string, Tensor | undefined>>;

/**
 * Checks the tensors of an operation, as JavaScript gave them. For operations.
 *
 * @param optional - Those that may be left out.
 * @throws EvenkeelError INVALID_ARGUMENT where one is no tensor; DTYPE_MISMATCH where one is not float32.
 */
export function checkFloat(operation: string, required: Named, optional: Named = {}): void {
  // Every operation comes through here: no arrays of entries.
  for (const name in required) {
    checkOne(operation, name, required[name], 'give a float32 tensor (tensor(…) makes one of numbers)');
  }
  for (const name in optional) checkOptionalFloat(operation, name, optional[name]);
}

/** As {@link checkFloat}, for one tensor that may be left out. */
export function checkOptionalFloat(operation: string, name: string, value: Tensor | undefined): void {
  if (value === undefined) return;
  checkOne(operation, name, value, 'give a float32 tensor, or undefined for none; options are the last argument');
}

/**
 * Checks that an argument of an operation that takes any dtype is a tensor. For operations.
 *
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function checkTensor(
  operation: string,
  name: string,
  value: unknown,
  advice = 'tensor(…) makes one of numbers',
): asserts value is Tensor {
  if (value instanceof Tensor) return;
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `${operation}: expected a tensor as ${name}, got ${describe(value)}; ${advice}`,
  );
}

function checkOne(operation: string, name: string, value: unknown, advice: string): void {
  checkTensor(operation, name, value, advice);
  if (value.dtype !== 'float32') {
    throw new EvenkeelError('DTYPE_MISMATCH', `${operation}: expected a float32 ${name}, got ${value.dtype}`);
  }
}
