export type { FusedActivation } from '../../tensor/operations/fused-activation';
export {
  type ActivationName,
  createActivation,
  ELU,
  type ELUOptions,
  GELU,
  type GELUOptions,
  HardSwish,
  HardTanh,
  type HardTanhOptions,
  LeakyReLU,
  type LeakyReLUOptions,
  PReLU,
  type PReLUOptions,
  ReLU,
  Sigmoid,
  SiLU,
  Softplus,
  Tanh,
} from './activations';
export { NormalizationLayer, type NormalizationLayerOptions, type ResidualPair } from './affine';
export { BatchNorm, type BatchNormOptions } from './batch-norm';
export { BatchRenorm, type BatchRenormOptions } from './batch-renorm';
export { Concatenate } from './concatenate';
export { Conv2d, type Conv2dOptions } from './conv2d';
export { Dropout, type DropoutOptions } from './dropout';
export { EvoNormB0, type EvoNormB0Options, type EvoNormOptions, EvoNormS0, type EvoNormS0Options } from './evo-norm';
export {
  FilterResponseNorm,
  type FilterResponseNormOptions,
  ThresholdedLinearUnit,
  type ThresholdedLinearUnitOptions,
} from './filter-response-norm';
export { Flatten } from './flatten';
export { GhostBatchNorm, type GhostBatchNormOptions } from './ghost-batch-norm';
export { defaultGroups, GroupNorm, type GroupNormOptions } from './group-norm';
export { IndependentComponent, type IndependentComponentOptions } from './independent-component';
export { InstanceNorm, type InstanceNormOptions } from './instance-norm';
export {
  BatchKalmanNorm,
  type BatchKalmanNormOptions,
  KalmanConv2d,
  KalmanLinear,
  type KalmanMode,
  type KalmanPrediction,
  type KalmanTransitionOptions,
} from './kalman';
export { LayerNorm, type LayerNormOptions } from './layer-norm';
export { Linear, type LinearOptions } from './linear';
export { OnlineNorm, type OnlineNormGuard, type OnlineNormOptions } from './online-norm';
export { AvgPool2d, type AvgPool2dOptions, GlobalAvgPool, MaxPool2d, type Pool2dOptions } from './pooling';
export { ProxyNorm, type ProxyNormOptions } from './proxy-norm';
export { RMSNorm, type RMSNormOptions } from './rms-norm';
export { SqueezeExcitation, type SqueezeExcitationOptions } from './squeeze-excitation';
export {
  type ScaledStandardizationOptions,
  ScaledStandardizedConv2d,
  type ScaledStandardizedConv2dOptions,
  ScaledStandardizedLinear,
  type ScaledStandardizedLinearOptions,
  WeightStandardizedConv2d,
  type WeightStandardizedConv2dOptions,
} from './standardized';
export { StochasticDepth, type StochasticDepthOptions } from './stochastic-depth';
export { SwitchableNorm, type SwitchableNormOptions } from './switchable-norm';
