import { keep, Tensor } from '../tensor';

/** Options of {@link Parameter}. */
export interface ParameterOptions {
  /**
   * Whether weight decay applies by default. Scales, shifts, thresholds and biases are better left alone: pass `false` for them.
   * Default `true`.
   */
  readonly decay?: boolean;
  /** Whether the parameter is trained. Default `true`. */
  readonly requiresGrad?: boolean;
}

/**
 * A tensor that an optimizer trains. It outlives every scope; it is freed with its module (or by `dispose()`).
 */
export class Parameter extends Tensor {
  /** Whether weight decay applies by default. */
  readonly decay: boolean;

  /**
   * @param value - The first value. The parameter takes it over: `value` itself is disposed of, without a copy.
   */
  constructor(value: Tensor, options: ParameterOptions = {}) {
    super(value.storage.retain(), value.shape);
    value.dispose();
    keep(this);
    this.decay = options.decay ?? true;
    this.requiresGrad = options.requiresGrad ?? true;
  }
}
