import { EvenkeelError } from '../errors';
import { checkOptions, optionNames, show } from '../options';
import { keep, Tensor } from '../tensor';
import { checkRange } from './check';

/** Options of {@link Parameter}. */
export interface ParameterOptions {
  /**
   * Whether weight decay applies by default. Scales, shifts, thresholds and biases are better left alone: pass `false` for them.
   * Default `true`.
   */
  readonly decay?: boolean;
  /** What optimizers multiply the learning rate with for this parameter, in a list and in a group; above 0. Default 1. */
  readonly learningRateScale?: number;
  /** Whether the parameter is trained. Default `true`. */
  readonly requiresGrad?: boolean;
}

const parameterOptions = optionNames<ParameterOptions>({
  decay: 'boolean',
  learningRateScale: true,
  requiresGrad: 'boolean',
});

/**
 * A tensor that an optimizer trains. It outlives every scope; it is freed with its module (or by `dispose()`).
 */
export class Parameter extends Tensor {
  /** Whether weight decay applies by default. */
  readonly decay: boolean;
  /** What optimizers multiply the learning rate with. */
  readonly learningRateScale: number;

  /**
   * @param value - The first value. The parameter takes it over: `value` itself is disposed of, without a copy.
   */
  constructor(value: Tensor, options: ParameterOptions = {}) {
    checkOptions('Parameter', options, parameterOptions);
    if (!(value instanceof Tensor)) {
      throw new EvenkeelError('INVALID_ARGUMENT', `Parameter: the first value is ${show(value)}; give a tensor`);
    }
    const { learningRateScale = 1 } = options;
    checkRange('Parameter', 'learningRateScale', learningRateScale, Number.MIN_VALUE, Number.MAX_VALUE);
    super(value.storage.retain(), value.shape);
    value.dispose();
    keep(this);
    this.decay = options.decay ?? true;
    this.learningRateScale = learningRateScale;
    this.requiresGrad = options.requiresGrad ?? true;
  }
}
