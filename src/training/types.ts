import type { Module } from '../nn/module';
import type { Tensor } from '../tensor';
import type { CheckpointOptimizer } from './checkpoint';
import type { Metrics } from './metrics';
import type { EpochRow } from './run-directory';

/** A network from images to one row of outputs an image. */
export type Network = Module<Tensor, Tensor>;

/** What a loader yields. The trainer frees both tensors. */
export interface Batch {
  /** `[batch, height, width, channels]`. */
  readonly images: Tensor;
  /** `[batch]`, int32. */
  readonly labels: Tensor;
}

/** Batches to evaluate, in a fixed order. */
export interface EvaluationLoader extends AsyncIterable<Batch> {
  /** How many batches one pass has. */
  readonly length: number;
  /** Goes back to the first batch, where a pass that was left early would go on in the middle. */
  restart?(): void;
}

/** Batches to train on: each iteration is the rest of one epoch. */
export interface TrainingLoader extends EvaluationLoader {
  /** Where the next iteration begins, as JSON. */
  state(): unknown;
  /** Continues where {@link state} was. */
  loadState(state: unknown): void;
}

/** An optimizer as the trainer uses it. */
export interface TrainingOptimizer extends CheckpointOptimizer {
  learningRate: number;
  /** Updates the parameters; `gradientScale` is a factor on every gradient. */
  step(options: { readonly gradientScale: number }): void;
}

/** One optimizer step, as callbacks see it. */
export interface StepReport {
  /** Optimizer steps done, this one included. */
  readonly step: number;
  /** Counted from 1. */
  readonly epoch: number;
  readonly epochs: number;
  /** Batches done in this epoch, and how many it has. */
  readonly batch: number;
  readonly batches: number;
  /** Mean loss of this step's batches. */
  readonly loss: number;
  readonly learningRate: number;
  /** Averages of this epoch so far. */
  readonly metrics: Metrics;
  readonly imagesPerSecond: number;
}

/** How a run ended. */
export type StopReason = 'finished' | 'early stopping' | 'maximum steps' | 'stopped by a callback' | 'interrupted';

/** What {@link Trainer.fit} returns. */
export interface FitResult {
  readonly reason: StopReason;
  /** Whole epochs done. */
  readonly epochs: number;
  /** Optimizer steps done. */
  readonly steps: number;
  readonly history: readonly EpochRow[];
  /** The epoch with the best validation accuracy (training loss where nothing is validated). */
  readonly best: EpochRow | undefined;
  /** Paths of the files that were written; empty without a run directory. */
  readonly files: readonly string[];
}

/** What callbacks can do to a run. */
export interface RunControl {
  /** Ends the run after the current step; it can be resumed. */
  stop(): void;
}

/** Hooks into a training run. Each may be asynchronous; training waits for it. */
export interface TrainingCallback {
  /** Before the first step. */
  onStart?(run: { readonly resumedAtStep: number; readonly epochs: number }): void | Promise<void>;
  /** After each optimizer step. */
  onStep?(report: StepReport, control: RunControl): void | Promise<void>;
  /** After each batch of a validation pass. */
  onValidationBatch?(progress: {
    readonly epoch: number;
    readonly epochs: number;
    readonly batch: number;
    readonly batches: number;
    /** How many batches a training epoch has. */
    readonly trainBatches: number;
    readonly metrics: Metrics;
    /** Of this validation pass. */
    readonly imagesPerSecond: number;
  }): void | Promise<void>;
  /** After each epoch and its validation. */
  onEpoch?(row: EpochRow, control: RunControl): void | Promise<void>;
  /** At the end, unless training failed. */
  onEnd?(result: FitResult): void | Promise<void>;
  /** When training fails; `fit` throws the error afterwards. */
  onFailure?(error: unknown): void;
}
