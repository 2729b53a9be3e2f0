import { EvenkeelError } from '../errors';
import { type KnownOptions, optionNames } from '../options';
import { checkNumber, Optimizer, type OptimizerOptions, optimizerNames, type Trainable } from './optimizer';

/** Options of {@link Bop}. */
export interface BopOptions extends OptimizerOptions {
  /** γ, the share of each new gradient in the average, in `[0, 1]`; 1e-4 is usual. Schedules lower it like a step size. */
  readonly learningRate: number;
  /** τ, how far the average must lie on the weight's own side before it flips; at least 0. @defaultValue 1e-8 */
  readonly threshold?: number;
  /** Must be 0: signs do not decay. @defaultValue 0 */
  readonly weightDecay?: number;
}

interface Settings {
  readonly threshold: number;
  readonly weightDecay: number;
}

const bopOptions = optionNames<BopOptions>({ ...optimizerNames, threshold: true });

/**
 * Bop (Helwegen et al. 2019, "Latent Weights Do Not Exist", algorithm 1): weights that are nothing but signs.
 * `m += learningRate * (gradient - m)`, and a weight flips where `w * m > threshold`; at equality it stays.
 *
 * For the weights of `BinaryConv2d` and `BinaryLinear` (with `weightGradient: 'identity'`); give the other parameters to another
 * optimizer. Weights count as their signs and are ±1 from the first step on.
 */
export class Bop extends Optimizer<BopOptions, Settings> {
  protected override readonly command = 'bop_step';
  protected override readonly states = ['average'];

  /** @throws EvenkeelError INVALID_ARGUMENT for a hyperparameter out of its range, or nothing to train */
  constructor(parameters: Trainable<BopOptions>, options: BopOptions) {
    super(parameters, options);
  }

  protected override optionNames(): KnownOptions {
    return bopOptions;
  }

  protected override settings(options: BopOptions): Settings {
    const { learningRate, threshold = 1e-8, weightDecay = 0 } = options;
    checkNumber('Bop', 'threshold', threshold, 0, Number.POSITIVE_INFINITY);
    if (weightDecay !== 0) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `Bop: weightDecay must be 0 (signs do not decay), got ${weightDecay}`,
      );
    }
    if (learningRate > 1) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `Bop: learningRate is the share of the new gradient, at most 1, got ${learningRate}`,
      );
    }
    return { threshold, weightDecay };
  }

  protected override stateNames(): readonly string[] {
    return ['average'];
  }

  protected override numbers({ threshold }: Settings): readonly number[] {
    return [threshold];
  }
}
