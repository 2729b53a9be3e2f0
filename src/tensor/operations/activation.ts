import { EvenkeelError } from '../../errors';
import { checkNumber, show } from '../../options';
import { record } from '../autograd';
import { formatShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat, checkOptions, optionNames } from './check';
import { gateByOutput } from './elementwise';
import { activationWords, type FusedActivation } from './fused-activation';

type Words = readonly [code: number, first: number, second: number];

function forward(name: string, input: Tensor, words: Words): Tensor {
  checkFloat(name, { input });
  const output = allocate(name, input.shape);
  run('activation', [output], input, ...words);
  return output;
}

/** An activation whose gradient is computed from its input. */
function activate(name: FusedActivation, input: Tensor, first?: number, second?: number): Tensor {
  const [code, usualFirst, usualSecond] = activationWords(name, name);
  const words: Words = [code, first ?? usualFirst, second ?? usualSecond];
  if (!words.every(Number.isFinite) && name !== 'hardTanh') {
    throw new EvenkeelError('INVALID_ARGUMENT', `${name}: the parameter must be a finite number, got ${show(first)}`);
  }
  const output = forward(name, input, words);
  return record(name, [input], output, [input], (gradient, [saved]) => {
    const inputGradient = allocate(`${name} backward`, saved!.shape);
    run('activation_backward', [inputGradient], saved!, gradient, ...words);
    return [inputGradient];
  });
}

/** `max(input, 0)`; the derivative at 0 is 0. Only the result is kept for the gradient. @throws EvenkeelError DTYPE_MISMATCH */
export function relu(input: Tensor): Tensor {
  const output = forward('relu', input, activationWords('relu', 'relu'));
  // The result is positive just where the input is, and the next layer keeps it anyway.
  return record('relu', [input], output, [output], (gradient, [saved]) => [gateByOutput(saved!, gradient)]);
}

/**
 * `input` where it is positive, `slope * input` elsewhere; the derivative at 0 is `slope`.
 *
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function leakyRelu(input: Tensor, slope = 0.01): Tensor {
  return activate('leakyRelu', input, slope);
}

/**
 * `input` where it is positive, `alpha * (e^input - 1)` elsewhere (Clevert et al., 2016).
 *
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function elu(input: Tensor, alpha = 1): Tensor {
  return activate('elu', input, alpha);
}

/** `input * sigmoid(input)`, also called Swish. @throws EvenkeelError DTYPE_MISMATCH */
export function silu(input: Tensor): Tensor {
  return activate('silu', input);
}

/** Options of {@link gelu}. */
export interface GeluOptions {
  /** `tanh` for the approximation through the hyperbolic tangent. @defaultValue none: exact, through the error function */
  readonly approximate?: 'none' | 'tanh';
}

const geluOptions = optionNames<GeluOptions>({ approximate: true });

/** `input * Phi(input)` with the normal distribution function (Hendrycks and Gimpel, 2016). @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT */
export function gelu(input: Tensor, options: GeluOptions = {}): Tensor {
  checkOptions('gelu', options, geluOptions);
  return activate(options.approximate === 'tanh' ? 'geluTanh' : 'gelu', input);
}

/** `1 / (1 + e^-input)`. @throws EvenkeelError DTYPE_MISMATCH */
export function sigmoid(input: Tensor): Tensor {
  return activate('sigmoid', input);
}

/** The hyperbolic tangent. @throws EvenkeelError DTYPE_MISMATCH */
export function tanh(input: Tensor): Tensor {
  return activate('tanh', input);
}

/**
 * `input` limited to `min … max`; the derivative is 1 between the limits and 0 at and beyond them.
 *
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT unless `min < max`
 */
export function hardTanh(input: Tensor, min = -1, max = 1): Tensor {
  checkNumber('hardTanh', 'min', min);
  checkNumber('hardTanh', 'max', max);
  if (!(min < max)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `hardTanh: min must be below max, got min ${min} and max ${max}`);
  }
  return activate('hardTanh', input, min, max);
}

/** `ln(1 + e^input)`. @throws EvenkeelError DTYPE_MISMATCH */
export function softplus(input: Tensor): Tensor {
  return activate('softplus', input);
}

/** `input * min(max(input + 3, 0), 6) / 6` (Howard et al., 2019). @throws EvenkeelError DTYPE_MISMATCH */
export function hardSwish(input: Tensor): Tensor {
  return activate('hardSwish', input);
}

/**
 * PReLU (He et al., 2015): `input` where it is positive, `slope * input` elsewhere, with a learned slope for each channel.
 *
 * @param input `[..., channels]`
 * @param slope `[channels]`, or one value for all
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function prelu(input: Tensor, slope: Tensor): Tensor {
  checkFloat('prelu', { input, slope });
  const channels = input.shape[input.rank - 1] ?? 1;
  if (channels === 0 || (slope.size !== 1 && (slope.rank !== 1 || slope.size !== channels))) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `prelu: expected a slope of shape [${channels}] (or one value) for an input of shape ${formatShape(input.shape)}, got ${formatShape(slope.shape)}`,
    );
  }
  const output = allocate('prelu', input.shape);
  run('prelu', [output], input, slope, channels);
  return record('prelu', [input, slope], output, [input, slope], (gradient, [savedInput, savedSlope]) => {
    const inputGradient = allocate('prelu backward', savedInput!.shape);
    const slopeGradient = allocate('prelu backward', savedSlope!.shape);
    run('prelu_backward', [inputGradient, slopeGradient], savedInput!, savedSlope!, gradient, channels);
    return [inputGradient, slopeGradient];
  });
}
