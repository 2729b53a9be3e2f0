export type { BatchNormalizationOptions } from './batch';
export type { BatchRenormalizationOptions } from './batch-renorm';
export { type BetaTable, type BnFreeOptions, ScaledResidualSum, VariancePreservingActivation } from './bn-free';
export type { BnpOptions } from './bnp';
export { BuildContext } from './context';
export type { EvoNormB0NormalizationOptions, EvoNormS0NormalizationOptions } from './evo-norm';
export type { FilterResponseNormalizationOptions } from './filter-response';
export { fuseActivation } from './fusion';
export type { GhostNormalizationOptions } from './ghost';
export type { GroupNormalizationOptions } from './group';
export type { IndependentComponentMethodOptions } from './independent-component';
export type { InstanceNormalizationOptions } from './instance';
export type { KalmanNormalizationOptions } from './kalman';
export type { LayerNormalizationOptions } from './layer';
export type {
  ActivationSite,
  GradientTransform,
  Normalization,
  PoolingSite,
  PreActivation,
  ResidualSite,
  WeightRole,
  WeightSite,
} from './normalization';
export { NormalizedLayers, type NormalizedLayersOptions, type UnitOptions } from './normalized-layers';
export type { OnlineNormalizationOptions } from './online';
export { gradientTransformOf } from './origin';
export {
  BatchNormPreconditioning,
  InputStatistics,
  ObservedConv2d,
  ObservedLinear,
  type PreconditioningOptions,
} from './preconditioning';
export type { ProxyNormalizationOptions } from './proxy';
export { ResidualSum } from './residual-sum';
export type { RMSNormalizationOptions } from './rms';
export type { SwitchableNormalizationOptions } from './switchable';
export { type NormalizationName, normalizations, resolveNormalization } from './table';
export { NormalizedActivation, NormalizedSum, PreparedWeight } from './units';
