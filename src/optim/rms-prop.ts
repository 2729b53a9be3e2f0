import { type KnownOptions, optionNames } from '../options';
import { checkNumber, Optimizer, type OptimizerOptions, optimizerNames, type Trainable } from './optimizer';

/** Options of {@link RMSprop}. */
export interface RMSpropOptions extends OptimizerOptions {
  /** How much of the averages is kept, in `[0, 1)`. @defaultValue 0.99 */
  readonly smoothing?: number;
  /** Added to the root of the mean square, at least 0. @defaultValue 1e-8 */
  readonly epsilon?: number;
  /** How much of the velocity is kept, in `[0, 1)`. @defaultValue 0 */
  readonly momentum?: number;
  /** Whether the gradient's mean is taken off, so that it is divided by the standard deviation. @defaultValue false */
  readonly centered?: boolean;
}

type Settings = Required<Omit<RMSpropOptions, 'learningRate'>>;

const rmspropOptions = optionNames<RMSpropOptions>({
  ...optimizerNames,
  smoothing: true,
  epsilon: true,
  momentum: true,
  centered: 'boolean',
});

/**
 * RMSprop (Hinton 2012; centred: Graves 2013), with PyTorch's semantics: `q = smoothing * q + (1 - smoothing) g²`,
 * `d = g / (sqrt(q) + epsilon)` (centred: `sqrt(q - mean²)`), `v = momentum * v + d`, `w -= learningRate * v`.
 */
export class RMSprop extends Optimizer<RMSpropOptions, Settings> {
  protected override readonly command = 'rms_prop_step';
  protected override readonly states = ['meanSquare', 'velocity', 'mean'];

  /** @throws EvenkeelError INVALID_ARGUMENT for a hyperparameter out of its range, or nothing to train */
  constructor(parameters: Trainable<RMSpropOptions>, options: RMSpropOptions) {
    super(parameters, options);
  }

  protected override optionNames(): KnownOptions {
    return rmspropOptions;
  }

  protected override settings(options: RMSpropOptions): Settings {
    const { smoothing = 0.99, epsilon = 1e-8, momentum = 0, centered = false, weightDecay = 0 } = options;
    checkNumber('RMSprop', 'smoothing', smoothing, 0, 1);
    checkNumber('RMSprop', 'epsilon', epsilon, 0, Number.POSITIVE_INFINITY);
    checkNumber('RMSprop', 'momentum', momentum, 0, 1);
    checkNumber('RMSprop', 'weightDecay', weightDecay, 0, Number.POSITIVE_INFINITY);
    return { smoothing, epsilon, momentum, centered, weightDecay };
  }

  protected override stateNames({ momentum, centered }: Settings): readonly string[] {
    return ['meanSquare', ...(momentum > 0 ? ['velocity'] : []), ...(centered ? ['mean'] : [])];
  }

  protected override numbers({ weightDecay, smoothing, epsilon, momentum }: Settings): readonly number[] {
    return [weightDecay, smoothing, epsilon, momentum];
  }
}
