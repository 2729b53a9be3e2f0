export { Adam, type AdamOptions, AdamW } from './adam';
export { type AdaptiveGradientClippingOptions, adaptiveGradientClipping, type ClippingUnit } from './adaptive-clipping';
export {
  type BatchNormPreconditioning,
  batchNormPreconditioning,
  type PreconditioningOptions,
} from './batch-norm-preconditioning';
export { Bop, type BopOptions } from './bop';
export { clipByGlobalNorm, globalNorm } from './clipping';
export { ExponentialMovingAverage, type ExponentialMovingAverageOptions } from './moving-average';
export {
  Optimizer,
  type OptimizerOptions,
  type OptimizerState,
  type ParameterGroup,
  type StepOptions,
  type Trainable,
} from './optimizer';
export { type DecayGroup, type HasParameters, type ParameterGroupsOptions, parameterGroups } from './parameter-groups';
export { RMSprop, type RMSpropOptions } from './rms-prop';
export type { Schedule } from './schedules';
export * as schedules from './schedules';
export { SGD, type SGDOptions } from './sgd';
