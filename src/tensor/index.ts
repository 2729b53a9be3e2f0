import './methods';

export { isGradEnabled, noGrad } from './autograd';
export { full, type NestedArray, ones, type TensorOptions, tensor, zeros } from './creation';
export { customFunction, type FunctionContext, type FunctionDefinition } from './custom-function';
export type { DType, TypedArray } from './dtype';
export { type GradcheckOptions, type GradcheckResult, gradcheck } from './gradcheck';
export {
  elu,
  type GeluOptions,
  gelu,
  hardSwish,
  hardTanh,
  leakyRelu,
  prelu,
  relu,
  sigmoid,
  silu,
  softplus,
  tanh,
} from './operations/activation';
export { squeeze, stack, unsqueeze } from './operations/axes';
export {
  type BinaryConv2dOptions,
  type BinaryLinearOptions,
  binaryConv2d,
  binaryLinear,
  binaryWeight,
  type PaddingValue,
  type WeightGradient,
} from './operations/binary';
export { type Conv2dOptions, conv2d } from './operations/convolution';
export {
  abs,
  add,
  addRelu,
  type ClampOptions,
  clamp,
  div,
  equal,
  exp,
  greater,
  greaterEqual,
  less,
  lessEqual,
  log,
  maximum,
  minimum,
  mul,
  neg,
  notEqual,
  type Operand,
  pow,
  reciprocal,
  sqrt,
  square,
  sub,
  where,
} from './operations/elementwise';
export type { FusedActivation } from './operations/fused-activation';
export { type IndependentComponentOptions, independentComponent } from './operations/independent-component';
export {
  type KalmanNormOptions,
  type KalmanNormResult,
  type KalmanPredictOptions,
  type KalmanShortcut,
  type KalmanTransition,
  kalmanNorm,
  kalmanNormalized,
  kalmanPredict,
  kalmanRectify,
} from './operations/kalman';
export {
  cast,
  concatenate,
  expand,
  flatten,
  gather,
  pad,
  permute,
  reshape,
  type SliceOptions,
  slice,
  transpose,
} from './operations/layout';
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
export {
  type DropoutOptions,
  dropout,
  getRandomState,
  type IntegerOptions,
  manualSeed,
  type NormalOptions,
  type RandomState,
  randint,
  randn,
  setRandomState,
  type UniformOptions,
  uniform,
} from './operations/random';
export { argmax, firstNonFinite, max, mean, min, type ReductionOptions, sum } from './operations/reduction';
export { type RPReLUParameters, rprelu } from './operations/rprelu';
export { type ActivationGradient, type BinarizeOptions, binarize, rsign } from './operations/sign';
export { type CrossEntropyOptions, countTopK, crossEntropy, logSoftmax, softmax } from './operations/softmax';
export {
  type ScaledWeightStandardizeOptions,
  scaledWeightStandardize,
  type WeightStandardizeOptions,
  weightStandardize,
} from './operations/standardize';
export { addThreshold } from './operations/threshold';
export { standardDeviation, type VarianceOptions, variance } from './operations/variance';
export { type Profile, type ProfileOptions, type ProfileRow, profile } from './profile';
export { scope } from './scope';
export type { Shape } from './shape';
export { getThreads, instructionSet, type MemoryUse, memory, setThreads, synchronize } from './stream';
export { keep, Tensor } from './tensor';
