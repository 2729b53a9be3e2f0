import { EvenkeelError } from '../errors';
import { checkNumber, checkOptions, optionNames } from '../options';
import type { Tensor } from '../tensor';
import { full, randn, uniform as uniformTensor } from '../tensor';
import { checkChoice, checkFinite, checkRange } from './check';

/**
 * Makes the first value of a parameter.
 *
 * Random initializers draw from the library's generator: after `manualSeed(n)` the k-th parameter made always gets the k-th
 * stream, whatever the shapes of the others.
 *
 * @param shape - Shape of the parameter: `[kernelHeight, kernelWidth, inChannels / groups, outChannels]` or
 * `[inFeatures, outFeatures]`.
 */
export type Initializer = (shape: readonly number[]) => Tensor;

/** Which way through the layer keeps its variance: forward (`fanIn`) or backward (`fanOut`). */
export type FanMode = 'fanIn' | 'fanOut';

/** Options of the Kaiming initializers. */
export interface KaimingOptions {
  /** Whether to keep the variance of activations (`fanIn`, the default) or of gradients (`fanOut`). */
  readonly mode?: FanMode;
  /** Factor that makes up for what the activation removes. Default √2, for ReLU. */
  readonly gain?: number;
}

/** Options of the Xavier initializers. */
export interface XavierOptions {
  /** Factor on the standard deviation. Default 1. */
  readonly gain?: number;
}

const kaimingOptions = optionNames<KaimingOptions>({ mode: true, gain: true });
const xavierOptions = optionNames<XavierOptions>({ gain: true });

/**
 * Number of inputs that one output sums over (`fanIn`) and of outputs that one input reaches (`fanOut`).
 *
 * @param shape - `[...kernel, inChannels / groups, outChannels]`.
 * @throws EvenkeelError `INVALID_ARGUMENT` for fewer than two axes.
 */
export function fans(shape: readonly number[]): { readonly fanIn: number; readonly fanOut: number } {
  const inputs = shape.at(-2);
  const outputs = shape.at(-1);
  if (inputs === undefined || outputs === undefined) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `initializer: a weight of shape [${shape.join(', ')}] has no fan in and fan out; ` +
        'give a shape of at least two axes [...kernel, in, out], or use init.constant, init.normal or init.uniform',
    );
  }
  const window = shape.slice(0, -2).reduce((size, axis) => size * axis, 1);
  return { fanIn: window * inputs, fanOut: window * outputs };
}

/** Every value equal to `value`. @throws EvenkeelError `INVALID_ARGUMENT` */
export function constant(value: number): Initializer {
  checkNumber('init.constant', 'value', value);
  return (shape) => full(shape, value);
}

/** Every value 0. */
export const zeros: Initializer = constant(0);

/** Every value 1. */
export const ones: Initializer = constant(1);

/** Gaussian values with mean 0 and the given standard deviation. @throws EvenkeelError `INVALID_ARGUMENT` */
export function normal(standardDeviation: number): Initializer {
  checkRange('init.normal', 'standardDeviation', standardDeviation, 0, Number.POSITIVE_INFINITY);
  return (shape) => randn(shape, { standardDeviation });
}

/** Values spread evenly over `[low, high)`. @throws EvenkeelError `INVALID_ARGUMENT` */
export function uniform(low: number, high: number): Initializer {
  checkFinite('init.uniform', 'low', low);
  checkFinite('init.uniform', 'high', high);
  return (shape) => uniformTensor(shape, { low, high });
}

/** Gaussian with standard deviation `gain / √fan` (He et al. 2015, "Delving Deep into Rectifiers", equation 10). */
export function kaimingNormal(options: KaimingOptions = {}): Initializer {
  const deviation = kaimingDeviation('kaimingNormal', options);
  return (shape) => normal(deviation(shape))(shape);
}

/** Even spread with the standard deviation of {@link kaimingNormal}: bounds `±gain · √(3 / fan)`. */
export function kaimingUniform(options: KaimingOptions = {}): Initializer {
  const deviation = kaimingDeviation('kaimingUniform', options);
  return (shape) => evenWithDeviation(deviation(shape))(shape);
}

/** Gaussian with standard deviation `gain · √(2 / (fanIn + fanOut))` (Glorot and Bengio 2010). */
export function xavierNormal(options: XavierOptions = {}): Initializer {
  const deviation = xavierDeviation('xavierNormal', options);
  return (shape) => normal(deviation(shape))(shape);
}

/** Even spread with the standard deviation of {@link xavierNormal}: bounds `±gain · √(6 / (fanIn + fanOut))`. */
export function xavierUniform(options: XavierOptions = {}): Initializer {
  const deviation = xavierDeviation('xavierUniform', options);
  return (shape) => evenWithDeviation(deviation(shape))(shape);
}

/** What convolutions and linear layers use when nothing is said, as PyTorch does: bounds `±1 / √fanIn`. */
export const defaultWeight: Initializer = kaimingUniform({ gain: Math.sqrt(1 / 3) });

/** What the bias of such a layer uses when nothing is said, as PyTorch does: bounds `±1 / √fanIn` of the layer's weight. */
export function defaultBias(weightShape: readonly number[]): Initializer {
  const bound = 1 / Math.sqrt(Math.max(1, fans(weightShape).fanIn));
  return uniform(-bound, bound);
}

/** The standard deviation of a weight by its shape. */
type Deviation = (shape: readonly number[]) => number;

function kaimingDeviation(name: string, options: KaimingOptions): Deviation {
  checkOptions(name, options, kaimingOptions);
  const { mode = 'fanIn', gain = Math.SQRT2 } = options;
  checkChoice(name, 'mode', mode, ['fanIn', 'fanOut']);
  checkFinite(name, 'gain', gain);
  return (shape) => gain / Math.sqrt(Math.max(1, fans(shape)[mode]));
}

function xavierDeviation(name: string, options: XavierOptions): Deviation {
  checkOptions(name, options, xavierOptions);
  const gain = checkFinite(name, 'gain', options.gain ?? 1);
  return (shape) => {
    const { fanIn, fanOut } = fans(shape);
    return gain * Math.sqrt(2 / Math.max(1, fanIn + fanOut));
  };
}

function evenWithDeviation(standardDeviation: number): Initializer {
  const bound = standardDeviation * Math.sqrt(3);
  return uniform(-bound, bound);
}
