import { EvenkeelError } from '../errors';
import { type KnownOptions, optionNames, show } from '../options';
import { checkNumber, Optimizer, type OptimizerOptions, optimizerNames, type Trainable } from './optimizer';

/** Options of {@link Adam} and {@link AdamW}. */
export interface AdamOptions extends OptimizerOptions {
  /** How much of the first and second moment is kept, each in `[0, 1)`. @defaultValue [0.9, 0.999] */
  readonly betas?: readonly [number, number];
  /** Added to the root of the second moment, at least 0. @defaultValue 1e-8 */
  readonly epsilon?: number;
}

interface Settings {
  readonly weightDecay: number;
  readonly betas: readonly [number, number];
  readonly epsilon: number;
}

const adamOptions = optionNames<AdamOptions>({ ...optimizerNames, betas: true, epsilon: true });

/** What Adam and AdamW share; they differ in where the weight decay goes. */
abstract class AdamBase extends Optimizer<AdamOptions, Settings> {
  protected override readonly command = 'adam_step';
  protected override readonly states = ['firstMoment', 'secondMoment'];
  protected abstract readonly decoupled: boolean;

  protected override optionNames(): KnownOptions {
    return adamOptions;
  }

  protected override settings(options: AdamOptions): Settings {
    const { betas = [0.9, 0.999], epsilon = 1e-8, weightDecay = this.defaultWeightDecay() } = options;
    const name = this.constructor.name;
    if (!Array.isArray(betas) || betas.length !== 2) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `${name}: betas are ${show(betas)}; give two numbers, such as [0.9, 0.999]`,
      );
    }
    checkNumber(name, 'betas[0]', betas[0], 0, 1);
    checkNumber(name, 'betas[1]', betas[1], 0, 1);
    checkNumber(name, 'epsilon', epsilon, 0, Number.POSITIVE_INFINITY);
    checkNumber(name, 'weightDecay', weightDecay, 0, Number.POSITIVE_INFINITY);
    return { betas, epsilon, weightDecay };
  }

  protected defaultWeightDecay(): number {
    return 0;
  }

  protected override stateNames(): readonly string[] {
    return ['firstMoment', 'secondMoment'];
  }

  protected override numbers({ weightDecay, betas, epsilon }: Settings, step: number): readonly (number | boolean)[] {
    return [weightDecay, ...betas, epsilon, this.decoupled, step];
  }
}

/**
 * Adam (Kingma & Ba 2015), with PyTorch's semantics: the weight decay is added to the gradient.
 *
 * `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g²`,
 * `w -= learningRate / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)`.
 */
export class Adam extends AdamBase {
  protected override readonly decoupled = false;

  /** @throws EvenkeelError INVALID_ARGUMENT for a hyperparameter out of its range, or nothing to train */
  constructor(parameters: Trainable<AdamOptions>, options: AdamOptions) {
    super(parameters, options);
  }
}

/**
 * AdamW (Loshchilov & Hutter 2019): Adam whose weights shrink by `learningRate * weightDecay` apart from the gradient. As in
 * PyTorch, the weight decay is 0.01 where none is given.
 */
export class AdamW extends AdamBase {
  protected override readonly decoupled = true;

  /** @throws EvenkeelError INVALID_ARGUMENT for a hyperparameter out of its range, or nothing to train */
  constructor(parameters: Trainable<AdamOptions>, options: AdamOptions) {
    super(parameters, options);
  }

  protected override defaultWeightDecay(): number {
    return 0.01;
  }
}
