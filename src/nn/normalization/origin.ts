import type { AnyModule, Module } from '../module';
import type { GradientTransform, Normalization, WeightRole } from './normalization';

/** Where a weight layer of a model comes from. */
export interface Origin {
  /** The method that the network was built with. */
  readonly normalization: Normalization;
  /** What the layer is for. */
  readonly role: WeightRole;
}

const origins = new WeakMap<object, Origin>();

/** Notes where a weight layer comes from. */
export function recordOrigin(layer: Module, origin: Origin): void {
  origins.set(layer, origin);
}

/** Where a layer comes from, if it is a weight layer that `NormalizedLayers` made. */
export function originOf(module: AnyModule): Origin | undefined {
  return origins.get(module);
}

/**
 * What the method that a model was built with does to gradients: call its `apply` between the backward pass and the optimizer's step.
 * `undefined` where the method does nothing there. Ask once for a model: a transform may listen to the model's calls.
 */
export function gradientTransformOf(model: AnyModule): GradientTransform | undefined {
  for (const module of model.modules()) {
    const origin = originOf(module);
    if (origin !== undefined) return origin.normalization.gradient?.(model);
  }
  return undefined;
}
