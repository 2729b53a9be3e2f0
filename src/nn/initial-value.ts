import { EvenkeelError } from '../errors';
import { describe, show } from '../options';
import { Tensor } from '../tensor';
import { sameShape } from '../tensor/shape';
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
  const expected = `[${shape.join(', ')}]`;
  if (!(value instanceof Tensor)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: ${name} returned ${describe(value)}; it must return a tensor of the shape it is called with, ${expected}`,
    );
  }
  if (!sameShape(value.shape, shape)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${owner}: ${name} returned a tensor of shape [${value.shape.join(', ')}]; it must have the shape it is called with, ${expected}`,
    );
  }
  return value;
}
