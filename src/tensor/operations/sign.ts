import { EvenkeelError } from '../../errors';
import { isGradEnabled, record } from '../autograd';
import { formatShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat, checkOptions, optionNames } from './check';
import { biasGradient } from './matmul';

/**
 * What the gradient of the sign of `v`, which is zero almost everywhere, is taken for:
 *
 * - `approxSign`: `max(0, 2 - 2|v|)` (Liu et al. 2018, Bi-Real Net, equation 7)
 * - `steClip`: 1 where `|v| <= bound`, else 0 (Hubara et al. 2016, equation 4)
 * - `identity`: 1
 * - `swishSign`: `β (2 - βv tanh(βv/2)) / (1 + cosh(βv))` (Darabi et al. 2018, BNN+, equation 6)
 * - `sigmoidMask`: `2δ σ(δv) (1 - σ(δv))` (Ma et al. 2024, A&B BNN)
 */
export type ActivationGradient = 'approxSign' | 'steClip' | 'identity' | 'swishSign' | 'sigmoidMask';

/** Options of {@link binarize}. */
export interface BinarizeOptions {
  /** Added before the sign is taken, one value for each channel: `[channels]`. @defaultValue 0 everywhere */
  readonly shift?: Tensor | undefined;
  /** What stands in for the gradient of the sign. @defaultValue approxSign */
  readonly activationGradient?: ActivationGradient | undefined;
  /** The bound of `steClip` (default 1), the β of `swishSign` (5) or the δ of `sigmoidMask` (3). The others have none. */
  readonly activationGradientParameter?: number | undefined;
}

/** A surrogate gradient as the native operations take it: its number and its parameter. For operations. */
export type SurrogateWords = readonly [code: number, parameter: number];

const surrogates: Readonly<Record<ActivationGradient, { readonly code: number; readonly parameter?: number }>> = {
  identity: { code: 0 },
  steClip: { code: 1, parameter: 1 },
  approxSign: { code: 2 },
  swishSign: { code: 3, parameter: 5 },
  sigmoidMask: { code: 4, parameter: 3 },
};

/** Words of 32 signs for each row of `channels`. For operations. */
export function wordsOf(channels: number): number {
  return Math.ceil(channels / 32);
}

/** @throws EvenkeelError INVALID_ARGUMENT. For operations. */
export function surrogateOf(operation: string, options: BinarizeOptions): SurrogateWords {
  const name = options.activationGradient ?? 'approxSign';
  if (!Object.hasOwn(surrogates, name)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: activationGradient must be one of ${Object.keys(surrogates).join(', ')}, got ${String(name)}`,
    );
  }
  const { code, parameter } = surrogates[name];
  const asked = options.activationGradientParameter;
  if (asked !== undefined && (parameter === undefined || !(asked > 0 && Number.isFinite(asked)))) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      parameter === undefined
        ? `${operation}: activationGradient ${name} has no parameter, got ${asked}`
        : `${operation}: activationGradientParameter must be a finite number above 0, got ${asked}`,
    );
  }
  return [code, asked ?? parameter ?? 0];
}

/** @throws EvenkeelError SHAPE_MISMATCH where a tensor is not `[channels]`. For operations. */
export function checkChannels(operation: string, name: string, value: Tensor | undefined, channels: number): void {
  if (value !== undefined && (value.rank !== 1 || value.size !== channels)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected ${name} of shape [${channels}], one value for each channel, got ${formatShape(value.shape)}`,
    );
  }
}

/** The channels and rows of a tensor whose last axis is the channels. @throws EvenkeelError SHAPE_MISMATCH. For operations. */
export function rowsAndChannels(operation: string, input: Tensor): readonly [rows: number, channels: number] {
  const channels = input.shape[input.rank - 1];
  if (channels === undefined || channels === 0) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected an input [..., channels] with at least one channel, got shape ${formatShape(input.shape)}`,
    );
  }
  return [input.size / channels, channels];
}

/** Signs as bits, and what their gradient needs. Its owner disposes of both. For operations. */
export interface PackedSigns {
  /** `[rows, words]` in int32: a bit is 1 for -1. */
  readonly bits: Tensor;
  /** The derivative of the surrogate in 16 bits or one for each element, where it was asked for. */
  readonly derivative: Tensor | undefined;
}

/** Packs the signs of `input + shift`. For operations. */
export function packSigns(
  operation: string,
  input: Tensor,
  shift: Tensor | undefined,
  surrogate: SurrogateWords,
  keepDerivative: boolean,
): PackedSigns {
  const [rows, channels] = rowsAndChannels(operation, input);
  const bits = allocate(operation, [rows, wordsOf(channels)], 'int32');
  if (!keepDerivative) {
    run('binary_pack', [bits], input, shift, channels, ...surrogate, false);
    return { bits, derivative: undefined };
  }
  // As `Surrogate::stored_bytes` in crate evenkeel-kernels.
  const rowBytes = [0, 4 * wordsOf(channels)][surrogate[0]] ?? 2 * channels;
  const derivative = allocate(operation, [rows * rowBytes], 'uint8');
  run('binary_pack', [bits, derivative], input, shift, channels, ...surrogate, true);
  return { bits, derivative };
}

const binarizeOptions = optionNames<BinarizeOptions>({
  shift: true,
  activationGradient: true,
  activationGradientParameter: true,
});

/**
 * The signs of `input + shift` as ±1, with a surrogate gradient: RSign where the shift is learned.
 *
 * `input` is `[..., channels]`. The signs of 0, -0 and NaN are +1. For the backward pass it keeps not the input but 16 bits an
 * element (`steClip`: one bit, `identity`: nothing).
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function binarize(input: Tensor, options: BinarizeOptions = {}): Tensor {
  checkOptions('binarize', options, binarizeOptions);
  const { shift } = options;
  checkFloat('binarize', { input }, { shift });
  const [rows, channels] = rowsAndChannels('binarize', input);
  checkChannels('binarize', 'a shift', shift, channels);
  const surrogate = surrogateOf('binarize', options);
  const inputs = shift === undefined ? [input] : [input, shift];
  const differentiable = isGradEnabled() && inputs.some(({ requiresGrad }) => requiresGrad);
  const { bits, derivative } = packSigns('binarize', input, shift, surrogate, differentiable);
  const output = allocate('binarize', input.shape);
  run('binary_unpack', [output], bits, rows, channels);
  bits.dispose();
  if (derivative === undefined) return output;
  const { shape } = input;
  record('binarize', inputs, output, [derivative], (gradient, [kept], needs) => {
    const inputGradient = allocate('binarize backward', shape);
    run('binary_apply_derivative', [inputGradient], gradient, kept!, channels, ...surrogate);
    return needs[1] === true ? [inputGradient, biasGradient(inputGradient)] : [inputGradient];
  });
  derivative.dispose();
  return output;
}

const rsignOptions = optionNames<Omit<BinarizeOptions, 'shift'>>({
  activationGradient: true,
  activationGradientParameter: true,
});

/**
 * RSign (Liu et al. 2020, ReActNet, equation 1): {@link binarize} with a learned shift for each channel. The paper's threshold is the
 * negative of the shift.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function rsign(input: Tensor, shift: Tensor, options: Omit<BinarizeOptions, 'shift'> = {}): Tensor {
  checkOptions('rsign', options, rsignOptions);
  return binarize(input, { ...options, shift });
}
