import { EvenkeelError } from '../../errors';
import { record } from '../autograd';
import { formatShape, sameShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat } from './check';
import { checkChannels, geometryOf } from './normalization';

/**
 * `max(a + b, tau)` in one pass: the thresholded linear unit (Singh and Krishnan 2020, section 3.2) at the end of a residual block.
 *
 * `a` and `b` are `[batch, …, channels]` of one shape, `tau` is `[channels]`. At a tie of the maximum the gradient goes to the sum; NaN
 * is passed on.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function addThreshold(a: Tensor, b: Tensor, tau: Tensor): Tensor {
  const name = 'addThreshold';
  checkFloat(name, { a, b, tau });
  if (!sameShape(a.shape, b.shape)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${name}: a and b must have one shape, got ${formatShape(a.shape)} and ${formatShape(b.shape)}`,
    );
  }
  const { batch, positions, channels } = geometryOf(name, a, {});
  checkChannels(name, 'tau', tau, channels, a.shape);
  const words = [batch, positions, channels];
  const output = allocate(name, a.shape);
  run('add_threshold', [output], a, b, tau, ...words);
  return record(name, [a, b, tau], output, [a, b, tau], (gradient, [x, y, threshold], [needsA, needsB, needsTau]) => {
    const sum = needsA === true || needsB === true ? allocate(`${name} backward`, x!.shape) : undefined;
    const ofTau = needsTau === true ? allocate(`${name} backward`, threshold!.shape) : undefined;
    const gradients = [sum, ofTau].filter((tensor) => tensor !== undefined);
    run(
      'add_threshold_backward',
      gradients,
      ...[gradient, x!, y!, threshold!, ...words],
      ...[sum !== undefined, ofTau !== undefined],
    );
    return [needsA === true ? sum : undefined, needsB === true ? sum : undefined, ofTau];
  });
}
