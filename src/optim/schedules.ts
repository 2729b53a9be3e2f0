/** Learning rate schedules: pure functions of the step, so that a resumed run needs nothing but its step count. */

import { EvenkeelError } from '../errors';
import { checkOptions, type OptionNames, optionNames, show } from '../options';

/** The learning rate of each optimizer step, counted from 0. */
export type Schedule = (step: number) => number;

function checkRate(name: string, rate: number, option = 'learningRate'): void {
  if (!(Number.isFinite(rate) && rate >= 0)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `schedules.${name}: ${option} must be a number of at least 0, got ${show(rate)}`,
    );
  }
}

function checkSteps(name: string, steps: number, option = 'steps'): void {
  if (!(Number.isInteger(steps) && steps >= 1)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `schedules.${name}: ${option} must be a whole number of at least 1, got ${show(steps)}`,
    );
  }
}

function checkSchedule(name: string, schedule: Schedule): void {
  if (typeof schedule !== 'function') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `schedules.${name}: schedule is ${show(schedule)}; give a function of the step, such as optim.schedules.cosine({ … })`,
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

/** Options of {@link constant}. */
export interface ConstantOptions {
  /** The rate of every step. */
  readonly learningRate: number;
}

const constantOptions = optionNames<ConstantOptions>({ learningRate: true });

/** Always the same. */
export function constant(options: ConstantOptions): Schedule {
  checkOptions('schedules.constant', options, constantOptions);
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

const linearWarmupOptions = optionNames<LinearWarmupOptions>({ learningRate: true, steps: true, from: true });

/**
 * Rises linearly and stays (Goyal et al. 2017): `from + (learningRate - from) * (step + 1) / (steps + 1)`, which is
 * `learningRate` at step `steps`, and at step 0 not yet 0, which would be a lost step.
 */
export function linearWarmup(options: LinearWarmupOptions): Schedule {
  checkOptions('schedules.linearWarmup', options, linearWarmupOptions);
  const { learningRate, steps, from = 0 } = options;
  checkRate('linearWarmup', learningRate);
  checkRate('linearWarmup', from, 'from');
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

const stepOptions = optionNames<StepScheduleOptions>({ learningRate: true, at: true, factor: true });

/** Falls by a factor at given steps, or every so many steps. */
export function step(options: StepScheduleOptions): Schedule {
  checkOptions('schedules.step', options, stepOptions);
  const { learningRate, at, factor = 0.1 } = options;
  checkRate('step', learningRate);
  checkRate('step', factor, 'factor');
  const milestones: readonly number[] = Array.isArray(at) ? at : [at];
  for (const milestone of milestones) checkSteps('step', milestone, 'at');
  return (now) => {
    const falls =
      typeof at === 'number' ? Math.floor(now / at) : milestones.filter((milestone) => now >= milestone).length;
    return learningRate * factor ** falls;
  };
}

/** Options of {@link linearToZero}; {@link cosine} has one more. */
export interface DecayOptions {
  /** The learning rate at step 0. */
  readonly learningRate: number;
  /** The step at which the end is reached; it stays there. */
  readonly steps: number;
}

/** Options of {@link cosine}. */
export interface CosineOptions extends DecayOptions {
  /** The learning rate at the end. @defaultValue 0 */
  readonly to?: number;
}

const decayNames: OptionNames<DecayOptions> = { learningRate: true, steps: true };
const decayOptions = optionNames<DecayOptions>(decayNames);
const cosineOptions = optionNames<CosineOptions>({ ...decayNames, to: true });

/** Falls along half a cosine (Loshchilov & Hutter 2017), to 0 or to `to`. */
export function cosine(options: CosineOptions): Schedule {
  checkOptions('schedules.cosine', options, cosineOptions);
  const { learningRate, steps, to = 0 } = options;
  checkRate('cosine', learningRate);
  checkRate('cosine', to, 'to');
  checkSteps('cosine', steps);
  return (now) => cosineBetween(learningRate, to, progress(now, steps));
}

/** Falls linearly to 0. */
export function linearToZero(options: DecayOptions): Schedule {
  checkOptions('schedules.linearToZero', options, decayOptions);
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

const linearByEpochOptions = optionNames<LinearByEpochOptions>({
  learningRate: true,
  epochs: true,
  stepsPerEpoch: true,
});

/**
 * Falls linearly once an epoch, as the code of ReActNet and of "BNN − BN = ?" does: `learningRate * (1 - (e + 1) / epochs)` in epoch e
 * from 0, so that the whole last epoch has a learning rate of 0 and settles running statistics only. {@link linearToZero} is what it
 * stands for.
 */
export function linearByEpoch(options: LinearByEpochOptions): Schedule {
  checkOptions('schedules.linearByEpoch', options, linearByEpochOptions);
  const { learningRate, epochs, stepsPerEpoch } = options;
  checkRate('linearByEpoch', learningRate);
  checkSteps('linearByEpoch', epochs, 'epochs');
  checkSteps('linearByEpoch', stepsPerEpoch, 'stepsPerEpoch');
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

const oneCycleOptions = optionNames<OneCycleOptions>({
  learningRate: true,
  steps: true,
  warmup: true,
  initialDivisor: true,
  finalDivisor: true,
});

/** Rises to a peak and falls far below the start, along half cosines (Smith & Topin 2018; PyTorch's `OneCycleLR`). */
export function oneCycle(options: OneCycleOptions): Schedule {
  checkOptions('schedules.oneCycle', options, oneCycleOptions);
  const { learningRate, steps, warmup = 0.3, initialDivisor = 25, finalDivisor = 1e4 } = options;
  checkRate('oneCycle', learningRate);
  checkSteps('oneCycle', steps);
  if (!(Number.isFinite(warmup) && warmup > 0 && warmup < 1)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `schedules.oneCycle: warmup must be a number between 0 and 1, got ${show(warmup)}`,
    );
  }
  for (const [name, divisor] of Object.entries({ initialDivisor, finalDivisor })) {
    if (!(Number.isFinite(divisor) && divisor > 0)) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `schedules.oneCycle: ${name} must be a number above 0, got ${show(divisor)}`,
      );
    }
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

const sequencePartOptions = optionNames<SequencePart>({ schedule: true, steps: true });

/** One schedule after another; each counts its steps from 0, and the last one goes on for ever. */
export function sequence(parts: readonly SequencePart[]): Schedule {
  if (!Array.isArray(parts) || parts.length === 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `schedules.sequence: expected a list of at least one part { schedule, steps }, got ${show(parts)}`,
    );
  }
  for (const part of parts as readonly SequencePart[]) {
    checkOptions('schedules.sequence part', part, sequencePartOptions);
    checkSchedule('sequence', part.schedule);
    checkSteps('sequence', part.steps);
  }
  return (now) => {
    let start = 0;
    for (const { schedule, steps } of parts.slice(0, -1)) {
      if (now < start + steps) return schedule(now - start);
      start += steps;
    }
    return parts[parts.length - 1]!.schedule(now - start);
  };
}

/** Options of {@link warmup}. */
export interface WarmupOptions {
  /** The steps before the other schedule begins. */
  readonly steps: number;
  /** What it rises from. @defaultValue 0 */
  readonly from?: number;
}

const warmupOptions = optionNames<WarmupOptions>({ steps: true, from: true });

/**
 * A linear warmup before another schedule, up to where that one begins:
 * `warmup(cosine({ learningRate: 0.1, steps: 900 }), { steps: 100 })` takes 1000 steps in all.
 */
export function warmup(schedule: Schedule, options: WarmupOptions): Schedule {
  checkSchedule('warmup', schedule);
  checkOptions('schedules.warmup', options, warmupOptions);
  const rise = linearWarmup({ learningRate: schedule(0), ...options });
  return (now) => (now < options.steps ? rise(now) : schedule(now - options.steps));
}
