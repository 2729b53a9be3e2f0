import { EvenkeelError } from '../errors';
import { show } from '../options';
import type { Tensor } from '../tensor';
import { allocate, run } from '../tensor/tensor';
import { checkParameters } from './optimizer';

function gradientsOf(owner: string, parameters: readonly Tensor[]): Tensor[] {
  checkParameters(owner, parameters);
  return parameters.flatMap(({ grad }) => (grad === undefined ? [] : [grad]));
}

/**
 * The Euclidean norm of all gradients together, summed in float64: a tensor with one element. 0 where there are no gradients.
 */
export function globalNorm(parameters: readonly Tensor[]): Tensor {
  const gradients = gradientsOf('globalNorm', parameters);
  const norm = allocate('globalNorm', []);
  run('global_norm', [norm], gradients.length, ...gradients);
  return norm;
}

/**
 * Scales all gradients by one factor, in place, so that their norm together is at most `maxNorm` (Pascanu et al. 2013, as
 * PyTorch's `clip_grad_norm_`). Gradients within the limit are not touched.
 *
 * @returns the norm before, a tensor with one element; it is not finite where a gradient was not
 * @throws EvenkeelError INVALID_ARGUMENT unless `maxNorm` is above 0
 */
export function clipByGlobalNorm(parameters: readonly Tensor[], maxNorm: number): Tensor {
  if (typeof maxNorm !== 'number' || !(maxNorm > 0)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `clipByGlobalNorm: maxNorm must be a number above 0, got ${show(maxNorm)}`,
    );
  }
  const gradients = gradientsOf('clipByGlobalNorm', parameters);
  const norm = allocate('clipByGlobalNorm', []);
  for (const { storage } of gradients) storage.version++;
  run('clip_by_global_norm', [norm], maxNorm, gradients.length, ...gradients);
  return norm;
}
