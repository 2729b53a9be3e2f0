export type { BinaryLayerRow } from './binary-metrics';
export type { CheckpointInfo, CheckpointLoader, LoadOptions, SaveOptions } from './checkpoint';
export * as checkpoint from './checkpoint';
export { type EvaluateOptions, type Evaluation, evaluate, type Prediction, predict } from './evaluate';
export type { FitOptions } from './fit-run';
export type { Findings, Metrics, Mistake } from './metrics';
export { type ProfileStepsOptions, profileSteps } from './profile-callback';
export { showProgress } from './progress-callback';
export { type EpochRow, RunDirectory, type RunEvent } from './run-directory';
export type { ReportOptions } from './run-recorder';
export { Trainer, type TrainerOptions } from './trainer';
export type {
  Batch,
  EvaluationLoader,
  FitResult,
  Network,
  RunControl,
  StepReport,
  StopReason,
  TrainingCallback,
  TrainingLoader,
} from './types';
