/** Learning rate schedules: pure functions of the step, so that a resumed run needs nothing but its step count. */

import { EvenkeelError } from '../errors';

/** The learning rate of each optimizer step, counted from 0. */
export type Schedule = (step: number) => number;

function checkRate(name: string, rate: number): void {
  if (!(rate >= 0 && rate < Number.POSITIVE_INFINITY)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `schedules.${name}: a learning rate must be at least 0, got ${rate}`);
  }
}

function checkSteps(name: string, steps: number): void {
  if (!(Number.isInteger(steps) && steps >= 1)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `schedules.${name}: steps must be a whole number of at least 1, got ${steps}`,
    );
  }
}

/** How far `step` is on the way from 0 to `steps`, from 0 to 1. */
function progress(step: number, steps: number): number {
  return Math.min(Math.max(step / steps, 0), 1);
}

/** From `from` to `to` along half a cosine. */
function cosineBetween(from: number, to: number, fraction: number): number {
  return to + ((from - to) * (1 + Math.cos(Math.PI * fraction))) / 2;
}

/** Always the same. */
export function constant(options: { readonly learningRate: number }): Schedule {
  const { learningRate } = options;
  checkRate('constant', learningRate);
  return () => learningRate;
}

/** Options of {@link linearWarmup}. */
export interface LinearWarmupOptions {
  /** What it rises to. */
  readonly learningRate: number;
  /** The steps before that. */
  readonly steps: number;
  /** What it rises from. @defaultValue 0 */
  readonly from?: number;
}

/**
 * Rises linearly and stays (Goyal et al. 2017): `from + (learningRate - from) * (step + 1) / (steps + 1)`, which is
 * `learningRate` at step `steps`, and at step 0 not yet 0, which would be a lost step.
 */
export function linearWarmup(options: LinearWarmupOptions): Schedule {
  const { learningRate, steps, from = 0 } = options;
  checkRate('linearWarmup', learningRate);
  checkRate('linearWarmup', from);
  checkSteps('linearWarmup', steps);
  return (step) => (step >= steps ? learningRate : from + ((learningRate - from) * (step + 1)) / (steps + 1));
}

/** Options of {@link step}. */
export interface StepScheduleOptions {
  /** The learning rate at first. */
  readonly learningRate: number;
  /** The steps at which it falls, or one number for every so many steps. */
  readonly at: number | readonly number[];
  /** What it is multiplied with each time. @defaultValue 0.1 */
  readonly factor?: number;
}

/** Falls by a factor at given steps, or every so many steps. */
export function step(options: StepScheduleOptions): Schedule {
  const { learningRate, at, factor = 0.1 } = options;
  checkRate('step', learningRate);
  checkRate('step', factor);
  const milestones = typeof at === 'number' ? [at] : at;
  for (const milestone of milestones) checkSteps('step', milestone);
  return (now) => {
    const falls =
      typeof at === 'number' ? Math.floor(now / at) : milestones.filter((milestone) => now >= milestone).length;
    return learningRate * factor ** falls;
  };
}

/** Options of {@link cosine} and {@link linearToZero}. */
export interface DecayOptions {
  /** The learning rate at step 0. */
  readonly learningRate: number;
  /** The step at which the end is reached; it stays there. */
  readonly steps: number;
}

/** Falls along half a cosine (Loshchilov & Hutter 2017), to 0 or to `to`. */
export function cosine(options: DecayOptions & { readonly to?: number }): Schedule {
  const { learningRate, steps, to = 0 } = options;
  checkRate('cosine', learningRate);
  checkRate('cosine', to);
  checkSteps('cosine', steps);
  return (now) => cosineBetween(learningRate, to, progress(now, steps));
}

/** Falls linearly to 0. */
export function linearToZero(options: DecayOptions): Schedule {
  const { learningRate, steps } = options;
  checkRate('linearToZero', learningRate);
  checkSteps('linearToZero', steps);
  return (now) => learningRate * (1 - progress(now, steps));
}

/** Options of {@link linearByEpoch}. */
export interface LinearByEpochOptions {
  /** The learning rate that it falls from. */
  readonly learningRate: number;
  /** Epochs of the run. */
  readonly epochs: number;
  /** Steps of an epoch. */
  readonly stepsPerEpoch: number;
}

/**
 * Falls linearly once an epoch, as the code of ReActNet and of "BNN − BN = ?" does: `learningRate * (1 - (e + 1) / epochs)` in epoch e
 * from 0, so that the whole last epoch has a learning rate of 0 and settles running statistics only. {@link linearToZero} is what it
 * stands for.
 */
export function linearByEpoch(options: LinearByEpochOptions): Schedule {
  const { learningRate, epochs, stepsPerEpoch } = options;
  checkRate('linearByEpoch', learningRate);
  checkSteps('linearByEpoch', epochs);
  checkSteps('linearByEpoch', stepsPerEpoch);
  return (now) => learningRate * (1 - progress(Math.floor(now / stepsPerEpoch) + 1, epochs));
}

/** Options of {@link oneCycle}. */
export interface OneCycleOptions {
  /** The peak. */
  readonly learningRate: number;
  /** Steps of the whole cycle. */
  readonly steps: number;
  /** The part of the steps before the peak, in `(0, 1)`. @defaultValue 0.3 */
  readonly warmup?: number;
  /** The peak, divided by the learning rate at step 0. @defaultValue 25 */
  readonly initialDivisor?: number;
  /** The learning rate at step 0, divided by that at the end. @defaultValue 10000 */
  readonly finalDivisor?: number;
}

/** Rises to a peak and falls far below the start, along half cosines (Smith & Topin 2018; PyTorch's `OneCycleLR`). */
export function oneCycle(options: OneCycleOptions): Schedule {
  const { learningRate, steps, warmup = 0.3, initialDivisor = 25, finalDivisor = 1e4 } = options;
  checkRate('oneCycle', learningRate);
  checkSteps('oneCycle', steps);
  if (!(warmup > 0 && warmup < 1 && initialDivisor > 0 && finalDivisor > 0)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `schedules.oneCycle: warmup must lie between 0 and 1 and the divisors above 0, got ${warmup}, ${initialDivisor}, ${finalDivisor}`,
    );
  }
  const initial = learningRate / initialDivisor;
  const final = initial / finalDivisor;
  const peak = Math.max(warmup * steps - 1, 0);
  return (now) => {
    if (now < peak) return cosineBetween(initial, learningRate, progress(now, peak));
    return cosineBetween(learningRate, final, progress(now - peak, Math.max(steps - 1 - peak, 1)));
  };
}

/** One part of a {@link sequence}. */
export interface SequencePart {
  readonly schedule: Schedule;
  /** How many steps it lasts. */
  readonly steps: number;
}

/** One schedule after another; each counts its steps from 0, and the last one goes on for ever. */
export function sequence(parts: readonly SequencePart[]): Schedule {
  if (parts.length === 0) {
    throw new EvenkeelError('INVALID_ARGUMENT', 'schedules.sequence: expected at least one part');
  }
  for (const { steps } of parts) checkSteps('sequence', steps);
  return (now) => {
    let start = 0;
    for (const { schedule, steps } of parts.slice(0, -1)) {
      if (now < start + steps) return schedule(now - start);
      start += steps;
    }
    return parts[parts.length - 1]!.schedule(now - start);
  };
}

/**
 * A linear warmup before another schedule, up to where that one begins:
 * `warmup(cosine({ learningRate: 0.1, steps: 900 }), { steps: 100 })` takes 1000 steps in all.
 */
export function warmup(schedule: Schedule, options: { readonly steps: number; readonly from?: number }): Schedule {
  const rise = linearWarmup({ learningRate: schedule(0), ...options });
  return (now) => (now < options.steps ? rise(now) : schedule(now - options.steps));
}
