import { EvenkeelError } from '../../errors';
import { Tensor } from '../tensor';

/**
 * For operations.
 *
 * @throws EvenkeelError INVALID_ARGUMENT where a value is given that is no tensor; DTYPE_MISMATCH where a tensor is not float32.
 */
export function checkFloat(operation: string, tensors: Readonly<Record<string, Tensor | undefined>>): void {
  for (const [name, value] of Object.entries(tensors)) {
    if (value === undefined) continue;
    if (!(value instanceof Tensor)) {
      throw new EvenkeelError('INVALID_ARGUMENT', `${operation}: expected a tensor as ${name}, got ${describe(value)}`);
    }
    if (value.dtype !== 'float32') {
      throw new EvenkeelError('DTYPE_MISMATCH', `${operation}: expected a float32 ${name}, got ${value.dtype}`);
    }
  }
}

/** What JavaScript gave in place of a tensor, and what to do. */
function describe(value: unknown): string {
  if (value === null) return 'null; give a tensor, or undefined where it may be left out';
  if (typeof value !== 'object') return `a ${typeof value}; tensor(…) makes a tensor of numbers`;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return 'an array; tensor(…) makes a tensor of it';
  const keys = Object.keys(value).join(', ');
  return `an object ${keys === '' ? '{}' : `{ ${keys} }`}; options are the last argument: give undefined for a tensor that is left out`;
}
