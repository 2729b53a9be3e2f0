import { EvenkeelError } from '../../errors';
import { record } from '../autograd';
import { checkShape, type Shape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat, checkOptions, optionNames } from './check';

/**
 * Where the random numbers of this process are. Each random operation takes the next sequence of the seed, so that the same
 * program gives the same numbers, and a run that is resumed with its state continues with the same ones.
 */
export interface RandomState {
  /** A whole number from 0 to 2^53 - 1. */
  readonly seed: number;
  /** Sequences taken so far. */
  readonly sequence: number;
}

let state: RandomState = { seed: 0, sequence: 0 };

function checkWhole(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${name}: expected a whole number from 0 to ${Number.MAX_SAFE_INTEGER}, got ${value}`,
    );
  }
}

/**
 * Restarts all random numbers from `seed`. Without it every process starts from seed 0.
 *
 * @throws EvenkeelError INVALID_ARGUMENT unless it is a whole number from 0 to 2^53 - 1
 */
export function manualSeed(seed: number): void {
  checkWhole('manualSeed', seed);
  state = { seed, sequence: 0 };
}

/** Where the random numbers are, for a checkpoint. */
export function getRandomState(): RandomState {
  return state;
}

/** Continues from a state of {@link getRandomState}. @throws EvenkeelError INVALID_ARGUMENT */
export function setRandomState(next: RandomState): void {
  checkWhole('setRandomState seed', next.seed);
  checkWhole('setRandomState sequence', next.sequence);
  state = { seed: next.seed, sequence: next.sequence };
}

/** The next sequence: arguments of the native operations. */
export function nextSequence(): readonly [seed: number, sequence: number] {
  const { seed, sequence } = state;
  state = { seed, sequence: sequence + 1 };
  return [seed, sequence];
}

/** Options of {@link uniform}. */
export interface UniformOptions {
  /** The lower limit, included. @defaultValue 0 */
  readonly low?: number;
  /** The upper limit, excluded. @defaultValue 1 */
  readonly high?: number;
}

const uniformOptions = optionNames<UniformOptions>({ low: true, high: true });

/**
 * Random values, uniform in `[low, high)`.
 *
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function uniform(shape: Shape, options: UniformOptions = {}): Tensor {
  checkOptions('uniform', options, uniformOptions);
  checkShape('uniform', shape);
  const { low = 0, high = 1 } = options;
  if (!(low <= high && Number.isFinite(Math.fround(Math.fround(high) - Math.fround(low))))) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `uniform: expected finite low <= high, got low ${low} and high ${high}`,
    );
  }
  const output = allocate('uniform', [...shape]);
  run('random_uniform', [output], output.size, ...nextSequence(), low, high);
  return output;
}

/** Options of {@link randn}. */
export interface NormalOptions {
  /** @defaultValue 0 */
  readonly mean?: number;
  /** Not negative. @defaultValue 1 */
  readonly standardDeviation?: number;
}

const normalOptions = optionNames<NormalOptions>({ mean: true, standardDeviation: true });

/**
 * Random values with a normal distribution.
 *
 * @throws EvenkeelError INVALID_ARGUMENT
 */
export function randn(shape: Shape, options: NormalOptions = {}): Tensor {
  checkOptions('randn', options, normalOptions);
  checkShape('randn', shape);
  const { mean = 0, standardDeviation = 1 } = options;
  const finite = Number.isFinite(Math.fround(mean)) && Number.isFinite(Math.fround(standardDeviation));
  if (!finite || standardDeviation < 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `randn: expected a finite mean and standardDeviation >= 0, got ${mean} and ${standardDeviation}`,
    );
  }
  const output = allocate('randn', [...shape]);
  run('random_normal', [output], output.size, ...nextSequence(), mean, standardDeviation);
  return output;
}

/** Limits of {@link randint}. */
export interface IntegerOptions {
  /** The lowest value. @defaultValue 0 */
  readonly low?: number;
  /** One more than the highest value. */
  readonly high: number;
}

const integerOptions = optionNames<IntegerOptions>({ low: true, high: true });

/**
 * Random whole numbers from `low` to `high - 1`, as int32.
 *
 * @throws EvenkeelError INVALID_ARGUMENT unless both are 32-bit integers and `low < high`
 */
export function randint(shape: Shape, options: IntegerOptions): Tensor {
  checkOptions('randint', options, integerOptions);
  checkShape('randint', shape);
  const { low = 0, high } = options;
  if ((low | 0) !== low || (high | 0) !== high || low >= high) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `randint: expected 32-bit integers low < high, got low ${low} and high ${high}`,
    );
  }
  const output = allocate('randint', [...shape], 'int32');
  run('random_integers', [output], output.size, ...nextSequence(), low, high);
  return output;
}

/** Options of {@link dropout}. */
export interface DropoutOptions {
  /** Chance that an element is set to 0, at least 0 and less than 1. @defaultValue 0.5 */
  readonly probability?: number;
  /** Whether anything is dropped at all. @defaultValue true */
  readonly training?: boolean;
}

const dropoutOptions = optionNames<DropoutOptions>({ probability: true, training: 'boolean' });

/**
 * Dropout (Srivastava et al., 2014): sets each element to 0 with the given chance and divides the others by what is left, so that
 * the expectation stays. The mask is not kept: the backward pass makes it again.
 *
 * @param options the options, or the probability alone
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function dropout(input: Tensor, options: DropoutOptions | number = {}): Tensor {
  if (typeof options !== 'number') checkOptions('dropout', options, dropoutOptions);
  checkFloat('dropout', { input });
  const { probability = 0.5, training = true } = typeof options === 'number' ? { probability: options } : options;
  // As float32, because that is what the kernel compares.
  if (!(probability >= 0 && Math.fround(probability) < 1)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `dropout: probability must be at least 0 and less than 1, got ${probability}`,
    );
  }
  if (!training || probability === 0) {
    return record('dropout', [input], input.detach(), [], (gradient) => [gradient]);
  }
  const generator = nextSequence();
  const output = allocate('dropout', input.shape);
  run('dropout', [output], input, ...generator, probability);
  return record('dropout', [input], output, [], (gradient) => {
    const inputGradient = allocate('dropout backward', gradient.shape);
    run('dropout', [inputGradient], gradient, ...generator, probability);
    return [inputGradient];
  });
}
