export { isGradEnabled, noGrad } from './autograd';
export { full, type NestedArray, ones, type TensorOptions, tensor, zeros } from './creation';
export { customFunction, type FunctionContext, type FunctionDefinition } from './custom-function';
export type { DType, TypedArray } from './dtype';
export { type GradcheckOptions, type GradcheckResult, gradcheck } from './gradcheck';
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
export { type Profile, type ProfileOptions, type ProfileRow, profile } from './profile';
export { scope } from './scope';
export type { Shape } from './shape';
export { getThreads, instructionSet, type MemoryUse, memory, setThreads, synchronize } from './stream';
export { keep, Tensor } from './tensor';
