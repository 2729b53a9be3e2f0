import { EvenkeelError } from '../errors';
import { checkOptions, optionNames, show } from '../options';
import type { Tensor } from '../tensor';
import { run } from '../tensor/tensor';
import { checkNumber, checkParameters } from './optimizer';

/** What shares a limit: the weights of one `output` (the last axis), the whole `tensor`, or each `element` by itself. */
export type ClippingUnit = 'output' | 'tensor' | 'element';

/** Options of {@link adaptiveGradientClipping}. */
export interface AdaptiveGradientClippingOptions {
  /** λ, the largest norm of a unit's gradient, as a share of the norm of its weights; above 0. @defaultValue 0.01 */
  readonly clipping?: number;
  /** The least norm that weights count with, so that zeros can move; above 0. @defaultValue 1e-3 */
  readonly epsilon?: number;
  /** The units of a parameter. @defaultValue outputs of matrices and kernels; the whole of vectors */
  readonly unitOf?: (parameter: Tensor) => ClippingUnit;
}

function defaultUnit({ rank }: Tensor): ClippingUnit {
  return rank >= 2 ? 'output' : 'tensor';
}

function unitsIn(parameter: Tensor, unit: ClippingUnit): number {
  switch (unit) {
    case 'output':
      return parameter.shape[parameter.rank - 1] ?? 1;
    case 'tensor':
      return 1;
    case 'element':
      return parameter.size;
    default:
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `adaptiveGradientClipping: unitOf must return output, tensor or element, got ${String(unit)}`,
      );
  }
}

const adaptiveGradientClippingOptions = optionNames<AdaptiveGradientClippingOptions>({
  clipping: true,
  epsilon: true,
  unitOf: true,
});

/**
 * Adaptive gradient clipping (Brock et al. 2021, equation 3): scales the gradient of every unit whose norm exceeds
 * `clipping * max(‖weights‖, epsilon)` down to that, in place. What keeps networks without normalization trainable at high learning
 * rates; call it between `backward()` and `step()`, without the parameters of the last layer.
 *
 * Norms are of the parameters as they are (latent weights, not standardized ones), in float64. A unit whose gradient is not
 * finite is left as it is.
 *
 * With Adam, whose step does not depend on a gradient's scale, it only tames outliers.
 *
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function adaptiveGradientClipping(
  parameters: readonly Tensor[],
  options: AdaptiveGradientClippingOptions = {},
): void {
  checkOptions('adaptiveGradientClipping', options, adaptiveGradientClippingOptions);
  checkParameters('adaptiveGradientClipping', parameters);
  const { clipping = 0.01, epsilon = 1e-3, unitOf = defaultUnit } = options;
  for (const [name, value] of Object.entries({ clipping, epsilon })) {
    checkNumber('adaptiveGradientClipping', name, value, Number.MIN_VALUE, Number.POSITIVE_INFINITY);
  }
  if (typeof unitOf !== 'function') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `adaptiveGradientClipping: unitOf is ${show(unitOf)}; give a function from a parameter to output, tensor or element`,
    );
  }
  const clipped = parameters.flatMap((parameter) =>
    parameter.grad === undefined || parameter.size === 0
      ? []
      : [{ parameter, gradient: parameter.grad, units: unitsIn(parameter, unitOf(parameter)) }],
  );
  for (const { parameter, gradient, units } of clipped) {
    gradient.storage.version++;
    run('clip_units', [], gradient, parameter, units, clipping, epsilon);
  }
}
