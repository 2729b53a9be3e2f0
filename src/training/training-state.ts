import { EvenkeelError } from '../errors';
import type { FlipCounts } from './binary-metrics';
import type { Findings, MetricSums } from './metrics';
import type { EpochRow } from './run-directory';

/** All of a run's progress that is not tensors: plain values, so that a checkpoint can hold it exactly. */
export interface TrainingState {
  /** These three must be the same when a run is resumed, or its steps would be different ones. */
  seed: number;
  batches: number;
  gradientAccumulation: number;
  /** Optimizer steps done. */
  step: number;
  /** Whole epochs done. */
  epoch: number;
  /** Batches done in the epoch that is going on. */
  batch: number;
  /** Metrics of the epoch that is going on. */
  totals: MetricSums;
  /** Seconds spent on the training steps of this epoch, and on everything else in it. */
  trainSeconds: number;
  seconds: number;
  history: EpochRow[];
  best: EpochRow | undefined;
  epochsWithoutImprovement: number;
  /** Signs of binary weights that changed in the epoch that is going on. */
  flips?: FlipCounts;
  /** What the last whole validation found. */
  findings: Findings | undefined;
}

/**
 * Whether an epoch is better than the best before it: a higher validation accuracy, or the same with a lower validation
 * loss; without validation a lower training loss.
 */
export function isBetter(row: EpochRow, best: EpochRow | undefined): boolean {
  if (best === undefined) {
    return true;
  }
  const { validationTop1: accuracy, validationLoss: loss } = row;
  if (accuracy === undefined || loss === undefined) {
    return row.trainLoss < best.trainLoss;
  }
  const { validationTop1: bestAccuracy = 0, validationLoss: bestLoss = Number.POSITIVE_INFINITY } = best;
  return accuracy > bestAccuracy || (accuracy === bestAccuracy && loss < bestLoss);
}

/**
 * The seed of one batch's random numbers: two rounds of SplitMix64 (Steele, Lea & Flood 2014) over the run's seed and the
 * batch's number, so that neighbouring batches and neighbouring seeds have nothing in common. A whole number below 2^53.
 */
export function seedOfBatch(seed: number, batch: number): number {
  const mixed = splitMix(splitMix(BigInt(seed)) ^ BigInt(batch));
  return Number(mixed >> 11n);
}

function splitMix(value: bigint): bigint {
  let mixed = BigInt.asUintN(64, value + 0x9e3779b97f4a7c15n);
  mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 30n)) * 0xbf58476d1ce4e5b9n);
  mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn);
  return mixed ^ (mixed >> 31n);
}

/**
 * Checks the training state of a checkpoint against the run that wants to go on from it.
 *
 * @throws EvenkeelError `CORRUPT_FILE` when it is no training state, `INVALID_ARGUMENT` when it belongs to another set-up.
 */
export function parseTrainingState(path: string, value: unknown, own: TrainingState): TrainingState {
  if (!isTrainingState(value)) {
    throw new EvenkeelError(
      'CORRUPT_FILE',
      `${path} holds no training state to resume from; use the last.safetensors of a training run.`,
    );
  }
  const names = { seed: 'seed', batches: 'batches an epoch', gradientAccumulation: 'gradient accumulation' } as const;
  for (const key of ['seed', 'batches', 'gradientAccumulation'] as const) {
    if (value[key] !== own[key]) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `${path} was made with ${names[key]} ${value[key]}, and this run has ${own[key]}: resume with the same data and options.`,
      );
    }
  }
  return { ...value, best: value.best, findings: value.findings };
}

const NUMBERS = [
  'seed',
  'batches',
  'gradientAccumulation',
  'step',
  'epoch',
  'batch',
  'epochsWithoutImprovement',
] as const;

function isTrainingState(value: unknown): value is TrainingState {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  const state = value as Partial<Record<keyof TrainingState, unknown>>;
  return (
    NUMBERS.every((key) => Number.isSafeInteger(state[key])) &&
    typeof state.totals === 'object' &&
    state.totals !== null &&
    Array.isArray(state.history)
  );
}
