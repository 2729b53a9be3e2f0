import { EvenkeelError } from '../errors';
import { describe, show } from '../options';
import { Tensor } from '../tensor';
import type { Initializer } from './init';

/**
 * The first value of a parameter, by an initializer that may be the user's.
 *
 * @throws EvenkeelError INVALID_ARGUMENT for what is no initializer, SHAPE_MISMATCH for what it makes.
 */
export function initialValue(owner: string, name: string, initializer: Initializer, shape: readonly number[]): Tensor {
  if (typeof initializer !== 'function') {
    const advice = 'give a function from a shape to a tensor, such as nn.init.kaimingNormal() or nn.init.constant(0)';
    throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: ${name} is ${show(initializer)}; ${advice}`);
  }
  const value = initializer(shape);
  const given = value instanceof Tensor ? `[${value.shape.join(', ')}]` : describe(value);
  const expected = `[${shape.join(', ')}]`;
  if (given !== expected) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${owner}: ${name} returned ${given}; it is called with the shape ${expected}, and must return a tensor of that shape`,
    );
  }
  return value;
}
