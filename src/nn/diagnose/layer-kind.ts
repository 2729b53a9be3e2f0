import { Tensor } from '../../tensor';
import {
  batchNorm,
  filterResponseNorm,
  groupNorm,
  instanceNorm,
  layerNorm,
  rmsNorm,
} from '../../tensor/operations/normalization';
import { RPReLU } from '../binary';
import * as layers from '../layers';
import type { AnyModule } from '../module';
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

/**
 * What a norm makes of its input before its scale, shift and activation, computed anew without the parameters. For norms that are not
 * known here `undefined`: then the output has to do.
 */
export function normalized(module: AnyModule, input: Tensor): Tensor | undefined {
  if (!(module instanceof layers.NormalizationLayer)) return undefined;
  const { epsilon } = module;
  if (module instanceof layers.BatchNorm) {
    // Without the running statistics nothing is updated.
    const { runningMean, runningVariance } = module;
    return batchNorm(
      input,
      module.training ? { training: true, epsilon } : { training: false, epsilon, runningMean, runningVariance },
    );
  }
  if (module instanceof layers.ProxyNorm || module instanceof layers.GroupNorm) {
    return groupNorm(input, { groups: module.groups, epsilon });
  }
  if (module instanceof layers.LayerNorm) return layerNorm(input, { over: module.over, epsilon });
  if (module instanceof layers.InstanceNorm) return instanceNorm(input, { epsilon });
  if (module instanceof layers.RMSNorm) return rmsNorm(input, { epsilon });
  if (module instanceof layers.FilterResponseNorm) {
    const { epsilonOffset, epsilonForm } = module;
    return filterResponseNorm(input, { epsilon, learnedEpsilon: epsilonOffset, epsilonForm });
  }
  return undefined;
}
