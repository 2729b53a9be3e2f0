import { Tensor } from '../../tensor';
import { RPReLU } from '../binary';
import * as layers from '../layers';
import type { AnyModule } from '../module';
import { AskedActivation } from '../normalization/independent-component';
import { ResidualSumReLU } from '../normalization/residual-sum';
import { Parameter } from '../parameter';

/** What a layer is for the diagnosis. */
export type LayerKind = 'weight' | 'norm' | 'activation';

const ACTIVATIONS = [
  layers.ReLU,
  layers.LeakyReLU,
  layers.PReLU,
  layers.SiLU,
  layers.ELU,
  layers.GELU,
  layers.HardSwish,
  layers.HardTanh,
  layers.Sigmoid,
  layers.Softplus,
  layers.Tanh,
  layers.ThresholdedLinearUnit,
  RPReLU,
  AskedActivation,
  // The addition at the end of a block of version 1, with its activation in the same pass.
  ResidualSumReLU,
] as const;

/** The kind of a layer; `undefined` for what is not looked at (containers, pooling, dropout). */
export function kindOf(module: AnyModule): LayerKind | undefined {
  if (module instanceof layers.NormalizationLayer) return 'norm';
  if (ACTIVATIONS.some((type) => module instanceof type)) return 'activation';
  return weightOf(module) === undefined ? undefined : 'weight';
}

/** The weight of a convolution or linear layer. */
export function weightOf(module: AnyModule): Parameter | undefined {
  if (!('weight' in module)) return undefined;
  return module.weight instanceof Parameter && module.weight.rank >= 2 ? module.weight : undefined;
}

/** Whether the layer's output went through an activation. */
export function activates(module: AnyModule): boolean {
  if (!(module instanceof layers.NormalizationLayer)) return kindOf(module) === 'activation';
  if (module instanceof layers.EvoNormS0 || module instanceof layers.EvoNormB0) return module.slope !== undefined;
  return (
    module.activation !== 'none' ||
    (module instanceof layers.FilterResponseNorm && (module.tau ?? module.unit) !== undefined)
  );
}

/** The layer's tensor input: of a pair, the branch that is normalized. */
export function tensorInput(input: unknown): Tensor | undefined {
  const first: unknown = Array.isArray(input) ? input[0] : input;
  return first instanceof Tensor ? first : undefined;
}
