import { EvenkeelError } from '../../errors';
import { isGradEnabled, noGrad, record } from '../autograd';
import { scope } from '../scope';
import { formatShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat, checkOptions, optionNames } from './check';
import { type Conv2dOptions, geometryOf } from './convolution';
import { biasGradient } from './matmul';
import { type BinarizeOptions, binarize, checkChannels, packSigns, surrogateOf } from './sign';

/**
 * How the gradient passes from `scale * sign(W)` to the latent weight W:
 *
 * - `clip`: where `|W| <= 1`; the scale is a constant and left out (Bi-Real Net, ReActNet)
 * - `scaleAndClip`: times `1 / fanIn + scale * [|W| <= 1]` (XNOR-Net, equation 11)
 * - `identity`: everywhere
 */
export type WeightGradient = 'clip' | 'scaleAndClip' | 'identity';

const weightGradients: Readonly<Record<WeightGradient, number>> = { clip: 0, scaleAndClip: 1, identity: 2 };

/** Options of {@link binaryLinear}. */
export interface BinaryLinearOptions extends BinarizeOptions {
  /** Multiplies each output channel: `[outChannels]`. @defaultValue 1 everywhere */
  readonly gain?: Tensor | undefined;
  /** How the gradient passes to the latent weight. @defaultValue clip */
  readonly weightGradient?: WeightGradient | undefined;
}

/** Options of {@link binaryConv2d}. */
export interface BinaryConv2dOptions extends BinaryLinearOptions, Omit<Conv2dOptions, 'groups'> {
  /**
   * What lies around the image: nothing (products with it are left out, as if it were 0), +1 or -1. All are exact.
   * @defaultValue zero
   */
  readonly paddingValue?: PaddingValue | undefined;
}

/** What lies around the image of a binary convolution. */
export type PaddingValue = 'zero' | 'plus' | 'minus';

const paddingValues: Readonly<Record<PaddingValue, number>> = { zero: 0, plus: 1, minus: 2 };

function codeOf<Name extends string>(
  operation: string,
  option: string,
  codes: Readonly<Record<Name, number>>,
  name: Name,
): number {
  if (Object.hasOwn(codes, name)) return codes[name];
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `${operation}: ${option} must be one of ${Object.keys(codes).join(', ')}, got ${String(name)}`,
  );
}

/** The product of signs and its gradients; `geometry` are the arguments of the native operations. */
function binaryProduct(
  operation: string,
  input: Tensor,
  weight: Tensor,
  options: BinaryLinearOptions,
  outputShape: readonly number[],
  geometry: readonly number[],
): Tensor {
  const { shift, gain } = options;
  const outChannels = weight.shape[weight.rank - 1]!;
  checkChannels(operation, 'a shift', shift, input.shape[input.rank - 1]!);
  checkChannels(operation, 'a gain', gain, outChannels);
  const surrogate = surrogateOf(operation, options);
  const rule = codeOf(operation, 'weightGradient', weightGradients, options.weightGradient ?? 'clip');
  const wanted = (...tensors: readonly (Tensor | undefined)[]) =>
    isGradEnabled() && tensors.some((tensor) => tensor?.requiresGrad === true);
  const { bits, derivative } = packSigns(operation, input, shift, surrogate, wanted(input, shift));
  const scale = allocate(operation, [outChannels]);
  run('binary_mean_magnitude', [scale], weight, outChannels);
  const output = allocate(operation, outputShape);
  run('binary_conv2d_forward', [output], bits, weight, scale, gain, ...geometry);

  const inputs = [input, weight];
  const saved = [weight, scale];
  const add = (list: Tensor[], tensor: Tensor | undefined): number =>
    tensor === undefined ? -1 : list.push(tensor) - 1;
  const [shiftAt, gainAt] = [add(inputs, shift), add(inputs, gain)];
  const savedGainAt = add(saved, gain);
  const derivativeAt = add(saved, derivative);
  const bitsAt = add(saved, wanted(weight, gain) ? bits : undefined);
  const [inputShape, weightShape] = [input.shape, weight.shape];
  record(operation, inputs, output, saved, (gradient, kept, needs) => {
    const [keptWeight, keptScale, keptGain] = [kept[0]!, kept[1]!, kept[savedGainAt]];
    const gradients: (Tensor | undefined)[] = inputs.map(() => undefined);
    if (needs[0] === true || needs[shiftAt] === true) {
      const inputGradient = allocate(`${operation} backward`, inputShape);
      const around = [keptWeight, keptScale, keptGain, kept[derivativeAt]!] as const;
      run('binary_conv2d_backward_data', [inputGradient], gradient, ...around, ...surrogate, ...geometry);
      gradients[0] = inputGradient;
      if (needs[shiftAt] === true) gradients[shiftAt] = biasGradient(inputGradient);
    }
    if (needs[1] === true || needs[gainAt] === true) {
      const product = allocate(`${operation} backward`, weightShape);
      run('binary_conv2d_backward_weights', [product], kept[bitsAt]!, gradient, ...geometry);
      const weightGradient = allocate(`${operation} backward`, weightShape);
      const results = [weightGradient];
      if (keptGain !== undefined) results.push(allocate(`${operation} backward`, [outChannels]));
      run('binary_weight_gradient', results, product, keptWeight, keptScale, keptGain, rule);
      gradients[1] = weightGradient;
      if (gainAt >= 0) gradients[gainAt] = results[1];
    }
    return gradients;
  });
  for (const own of [bits, derivative, scale]) own?.dispose();
  return output;
}

const convolutionOptions = optionNames<BinaryConv2dOptions>({
  shift: true,
  activationGradient: true,
  activationGradientParameter: true,
  gain: true,
  weightGradient: true,
  stride: true,
  padding: true,
  dilation: true,
  paddingValue: true,
});

/**
 * The convolution of signs by signs, `gain * mean|W| * conv2d(sign(input + shift), sign(weight))` (Rastegari et al. 2016, XNOR-Net),
 * on packed bits: the sums are exact integers, and the backward pass keeps the signs as bits.
 *
 * `input` is `[batch, height, width, inChannels]`, `weight` (latent, float) `[kernelHeight, kernelWidth, inChannels, outChannels]`; the
 * mean is over each output channel's weights and a constant for the gradient. The signs of 0, -0 and NaN are +1. For a BN-free
 * network, pass a weight from {@link scaledWeightStandardize} and a learned gain (Chen et al. 2021, "BNN - BN = ?").
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function binaryConv2d(input: Tensor, weight: Tensor, options: BinaryConv2dOptions = {}): Tensor {
  checkOptions('binaryConv2d', options, convolutionOptions);
  const operation = 'binaryConv2d';
  checkFloat(operation, { input, weight }, { shift: options.shift, gain: options.gain });
  const { stride, padding, dilation } = options;
  const { outputShape, words } = geometryOf(operation, input, weight, {
    ...(stride === undefined ? {} : { stride }),
    ...(padding === undefined ? {} : { padding }),
    ...(dilation === undefined ? {} : { dilation }),
  });
  const paddingValue = codeOf(operation, 'paddingValue', paddingValues, options.paddingValue ?? 'zero');
  return binaryProduct(operation, input, weight, options, outputShape, [...words.slice(0, -1), paddingValue]);
}

const linearOptions = optionNames<BinaryLinearOptions>({
  shift: true,
  activationGradient: true,
  activationGradientParameter: true,
  gain: true,
  weightGradient: true,
});

/**
 * A fully connected layer of signs by signs, `gain * mean|W| * (sign(input + shift) · sign(weight))`; see {@link binaryConv2d}.
 *
 * `input` is `[..., inFeatures]`, `weight` `[inFeatures, outFeatures]`, the result `[..., outFeatures]`.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function binaryLinear(input: Tensor, weight: Tensor, options: BinaryLinearOptions = {}): Tensor {
  checkOptions('binaryLinear', options, linearOptions);
  const operation = 'binaryLinear';
  checkFloat(operation, { input, weight }, { shift: options.shift, gain: options.gain });
  const inFeatures = input.shape[input.rank - 1];
  const [depth, outFeatures] = weight.shape;
  if (
    inFeatures === undefined ||
    outFeatures === undefined ||
    weight.rank !== 2 ||
    depth !== inFeatures ||
    weight.size === 0
  ) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected an input [..., inFeatures] and a weight [inFeatures, outFeatures], got ` +
        `${formatShape(input.shape)} and ${formatShape(weight.shape)}`,
    );
  }
  const rows = input.size / inFeatures;
  // A 1×1 convolution over one tall image, or over no image.
  const sizes = rows === 0 ? [0, 1, 1] : [1, rows, 1];
  const geometry = [...sizes, inFeatures, outFeatures, 1, 1, 1, 1, 0, 0, 1, 1, 0];
  return binaryProduct(operation, input, weight, options, [...input.shape.slice(0, -1), outFeatures], geometry);
}

/** Options of {@link binaryWeight}. */
export type BinaryWeightOptions = Pick<BinaryLinearOptions, 'gain' | 'weightGradient'>;

const weightOptions = optionNames<BinaryWeightOptions>({ gain: true, weightGradient: true });

/**
 * A binary weight in float, `gain * mean|W| * sign(W)` with the mean over each output's weights: for layers that meet inputs which are
 * not signs (Rastegari et al. 2016, Binary-Weight-Networks). `weight` is `[..., outputs]`; gradients pass as in {@link binaryConv2d}.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function binaryWeight(weight: Tensor, options: BinaryWeightOptions = {}): Tensor {
  checkOptions('binaryWeight', options, weightOptions);
  const operation = 'binaryWeight';
  const { gain } = options;
  checkFloat(operation, { weight }, { gain });
  const outputs = weight.shape[weight.rank - 1] ?? 0;
  checkChannels(operation, 'a gain', gain, outputs);
  const rule = codeOf(operation, 'weightGradient', weightGradients, options.weightGradient ?? 'clip');
  return scope(() => {
    const scale = allocate(operation, [outputs]);
    run('binary_mean_magnitude', [scale], weight, outputs);
    const output = noGrad(() => binarize(weight).mul(gain === undefined ? scale : scale.mul(gain)));
    const inputs = gain === undefined ? [weight] : [weight, gain];
    return record(operation, inputs, output, [weight, scale, ...inputs.slice(1)], (gradient, saved) => {
      const gradients = inputs.map(({ shape }) => allocate(`${operation} backward`, shape));
      run('binary_weight_gradient', gradients, gradient, saved[0]!, saved[1]!, saved[2], rule);
      return gradients;
    });
  });
}
