export { AuxiliaryLoss, type AuxiliaryLossOptions, type AuxiliaryNetwork, isAuxiliaryNetwork } from './auxiliary-loss';
export * from './binary';
export * as binary from './binary/packed';
export { Identity, Sequential } from './containers';
export {
  type DiagnoseOptions,
  type Diagnosis,
  type DiagnosisBatch,
  diagnose,
  type Finding,
  type FindingKind,
  type LayerDiagnosis,
  type PowerShares,
  type SampleDependence,
} from './diagnose';
export { DistillationLoss, type DistillationLossOptions } from './distillation';
export * as init from './init';
export {
  constant,
  type FanMode,
  type Initializer,
  type KaimingOptions,
  kaimingNormal,
  kaimingUniform,
  normal,
  type XavierOptions,
  xavierNormal,
  xavierUniform,
} from './init';
export * from './layers';
export {
  BinaryCrossEntropyLoss,
  type BinaryCrossEntropyLossOptions,
  CrossEntropyLoss,
  type CrossEntropyLossOptions,
  type Loss,
  MSELoss,
  type MSELossOptions,
  NegativeLogLikelihoodLoss,
  type NegativeLogLikelihoodLossOptions,
  type Reduction,
} from './losses';
export { type ChannelStatistics, type MergedStatistics, mergeStatistics } from './merge-statistics';
export {
  type AnyModule,
  type CallListener,
  type LoadStateOptions,
  Module,
  Parameter,
  type StateArray,
  type StateDifference,
  type StateSource,
  type StateValue,
} from './module';
export * from './normalization';
export type { ParameterOptions } from './parameter';
export { recomputeRunningStatistics, type StatisticsBatch } from './recompute-running-statistics';
export { type ModelSummary, type SummaryRow, summary } from './summary';
