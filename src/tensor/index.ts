export { isGradEnabled, noGrad } from './autograd';
export { full, type NestedArray, ones, type TensorOptions, tensor, zeros } from './creation';
export { customFunction, type FunctionContext, type FunctionDefinition } from './custom-function';
export type { DType, TypedArray } from './dtype';
export { type GradcheckOptions, type GradcheckResult, gradcheck } from './gradcheck';
export {
  type BinaryConv2dOptions,
  type BinaryLinearOptions,
  binaryConv2d,
  binaryLinear,
  type PaddingValue,
  type WeightGradient,
} from './operations/binary';
export { type Conv2dOptions, conv2d } from './operations/convolution';
export type { FusedActivation } from './operations/fused-activation';
export { linear, matmul } from './operations/matmul';
export {
  type BatchNormOptions,
  batchNorm,
  type FilterResponseNormOptions,
  filterResponseNorm,
  type GroupNormOptions,
  groupNorm,
  instanceNorm,
  type LayerNormOptions,
  layerNorm,
  type NormalizationOptions,
  type RMSNormOptions,
  rmsNorm,
} from './operations/normalization';
export {
  type AvgPoolOptions,
  avgPool2d,
  globalAvgPool,
  maxPool2d,
  type Pair,
  type PoolOptions,
} from './operations/pooling';
export { type RPReLUParameters, rprelu } from './operations/rprelu';
export { type ActivationGradient, type BinarizeOptions, binarize, rsign } from './operations/sign';
export {
  type ScaledWeightStandardizeOptions,
  scaledWeightStandardize,
  type WeightStandardizeOptions,
  weightStandardize,
} from './operations/standardize';
export { type Profile, type ProfileOptions, type ProfileRow, profile } from './profile';
export { scope } from './scope';
export type { Shape } from './shape';
export { getThreads, instructionSet, type MemoryUse, memory, setThreads, synchronize } from './stream';
export { keep, Tensor } from './tensor';
