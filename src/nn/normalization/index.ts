export type { BatchNormalizationOptions } from './batch';
export { type BnFreeOptions, ScaledResidualSum, VariancePreservingActivation } from './bn-free';
export { BuildContext } from './context';
export type { FilterResponseNormalizationOptions } from './filter-response';
export { fuseActivation } from './fusion';
export type { GroupNormalizationOptions } from './group';
export type { InstanceNormalizationOptions } from './instance';
export type { LayerNormalizationOptions } from './layer';
export type {
  ActivationSite,
  GradientTransform,
  Normalization,
  PreActivation,
  ResidualSite,
  WeightRole,
  WeightSite,
} from './normalization';
export { NormalizedLayers, type NormalizedLayersOptions, type UnitOptions } from './normalized-layers';
export { gradientTransformOf } from './origin';
export type { ProxyNormalizationOptions } from './proxy';
export { ResidualSum } from './residual-sum';
export type { RMSNormalizationOptions } from './rms';
export { type NormalizationName, normalizations, resolveNormalization } from './table';
export { NormalizedActivation, NormalizedSum, PreparedWeight } from './units';
