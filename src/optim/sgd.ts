import { EvenkeelError } from '../errors';
import { type KnownOptions, optionNames } from '../options';
import { checkNumber, Optimizer, type OptimizerOptions, optimizerNames, type Trainable } from './optimizer';

/** Options of {@link SGD}. */
export interface SGDOptions extends OptimizerOptions {
  /** How much of the velocity is kept, in `[0, 1)`. @defaultValue 0 */
  readonly momentum?: number;
  /** Whether the step looks ahead along the velocity (Nesterov); needs momentum. @defaultValue false */
  readonly nesterov?: boolean;
}

type Settings = Required<Omit<SGDOptions, 'learningRate'>>;

const sgdOptions = optionNames<SGDOptions>({ ...optimizerNames, momentum: true, nesterov: 'boolean' });

/**
 * Stochastic gradient descent, with PyTorch's semantics and no dampening: `g = gradient + weightDecay * w`,
 * `v = momentum * v + g`, `w -= learningRate * v` (Nesterov: `w -= learningRate * (g + momentum * v)`).
 *
 * ```ts
 * const optimizer = new optim.SGD(model.parameters(), { learningRate: 0.1, momentum: 0.9, weightDecay: 1e-4 });
 * ```
 */
export class SGD extends Optimizer<SGDOptions, Settings> {
  protected override readonly command = 'sgd_step';
  protected override readonly states = ['velocity'];

  /** @throws EvenkeelError INVALID_ARGUMENT for a hyperparameter out of its range, or nothing to train */
  constructor(parameters: Trainable<SGDOptions>, options: SGDOptions) {
    super(parameters, options);
  }

  protected override optionNames(): KnownOptions {
    return sgdOptions;
  }

  protected override settings({ momentum = 0, nesterov = false, weightDecay = 0 }: SGDOptions): Settings {
    checkNumber('SGD', 'momentum', momentum, 0, 1);
    checkNumber('SGD', 'weightDecay', weightDecay, 0, Number.POSITIVE_INFINITY);
    if (nesterov && momentum === 0) {
      throw new EvenkeelError('INVALID_ARGUMENT', 'SGD: nesterov needs a momentum above 0');
    }
    return { momentum, nesterov, weightDecay };
  }

  protected override stateNames({ momentum }: Settings): readonly string[] {
    return momentum > 0 ? ['velocity'] : [];
  }

  protected override numbers({ weightDecay, momentum, nesterov }: Settings): readonly (number | boolean)[] {
    return [weightDecay, momentum, nesterov];
  }
}
