export { type ChannelValues, type PowerDecomposition, powerDecomposition } from './channels';
export { conditionNumber, type Dependence, dependence } from './covariance';
export {
  type DiagnoseOptions,
  type Diagnosis,
  type DiagnosisBatch,
  diagnose,
  type LayerDiagnosis,
  type PowerShares,
} from './diagnose';
export type { Finding, FindingKind } from './findings';
export type { LayerKind } from './layer-kind';
export type { SampleDependence } from './sample-dependence';
