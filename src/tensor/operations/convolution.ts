import { EvenkeelError } from '../../errors';
import { record } from '../autograd';
import { countFlops } from '../profile';
import { formatShape } from '../shape';
import type { RecordedCommand } from '../stream';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat, checkOptions, optionNames } from './check';
import { biasGradient, checkBias } from './matmul';
import { type Pair, pair } from './pair';

/** How the kernel of {@link conv2d} moves over the image. */
export interface Conv2dOptions {
  /** Distance between windows. @defaultValue 1 */
  readonly stride?: Pair;
  /** Rows of zeros above and below, columns of zeros left and right. @defaultValue 0 */
  readonly padding?: Pair;
  /** Distance between the kernel's elements. @defaultValue 1 */
  readonly dilation?: Pair;
  /** Groups of channels that do not see each other; divides both channel counts. @defaultValue 1 */
  readonly groups?: number;
}

interface Geometry {
  readonly outputShape: readonly number[];
  /** The arguments of the native operations. */
  readonly words: readonly number[];
}

function checkRank(
  operation: string,
  name: string,
  tensor: Tensor,
  layout: string,
): readonly [number, number, number, number] {
  const { shape } = tensor;
  // Every convolution comes through here: no iterators.
  const a = shape[0];
  const b = shape[1];
  const c = shape[2];
  const d = shape[3];
  if (tensor.rank !== 4 || a === undefined || b === undefined || c === undefined || d === undefined) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected ${name} ${layout}, got shape ${formatShape(shape)}`,
    );
  }
  return [a, b, c, d];
}

/** Checks the sizes of a convolution and finds those of its output. For operations. */
export function geometryOf(operation: string, input: Tensor, weight: Tensor, options: Conv2dOptions): Geometry {
  const [batch, height, width, inChannels] = checkRank(
    operation,
    'an input',
    input,
    '[batch, height, width, inChannels]',
  );
  const [kernelHeight, kernelWidth, groupChannels, outChannels] = checkRank(
    operation,
    'a weight',
    weight,
    '[kernelHeight, kernelWidth, inChannels / groups, outChannels]',
  );
  if (weight.size === 0 || height * width * inChannels === 0) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: only the batch may be empty, got input ${formatShape(input.shape)}, weight ${formatShape(weight.shape)}`,
    );
  }
  const stride = pair(operation, 'stride', options.stride ?? 1, 1);
  const padding = pair(operation, 'padding', options.padding ?? 0, 0);
  const dilation = pair(operation, 'dilation', options.dilation ?? 1, 1);
  const groups = options.groups ?? 1;
  if (!Number.isInteger(groups) || groups < 1) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: groups must be a whole number of at least 1, got ${groups}`,
    );
  }
  if (inChannels !== groupChannels * groups || outChannels % groups !== 0) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: ${groups} group(s) of weight ${formatShape(weight.shape)} need ${groupChannels * groups} input channels and ` +
        `output channels that ${groups} divides, got input ${formatShape(input.shape)}` +
        (height === groupChannels * groups
          ? '; images are [batch, height, width, channels]: permute([0, 2, 3, 1]) makes them of [batch, channels, height, width]'
          : ''),
    );
  }
  const kernel = [kernelHeight, kernelWidth] as const;
  const sizes = [height, width].map((length, axis) => {
    const span = dilation[axis]! * (kernel[axis]! - 1) + 1;
    const slack = length + 2 * padding[axis]! - span;
    if (slack < 0) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `${operation}: a kernel that spans ${span} does not fit into ${length} + 2 * ${padding[axis]!} of padding ` +
          `(input ${formatShape(input.shape)}, weight ${formatShape(weight.shape)}); use more padding or a smaller kernel`,
      );
    }
    return Math.floor(slack / stride[axis]!) + 1;
  });
  return {
    outputShape: [batch, sizes[0]!, sizes[1]!, outChannels],
    words: [batch, height, width, inChannels, outChannels, ...kernel, ...stride, ...padding, ...dilation, groups],
  };
}

const conv2dOptions = optionNames<Conv2dOptions>({ stride: true, padding: true, dilation: true, groups: true });

/**
 * 2-D convolution (cross-correlation, as in every deep learning library).
 *
 * `input` is `[batch, height, width, inChannels]`, `weight` `[kernelHeight, kernelWidth, inChannels / groups, outChannels]`,
 * `bias` `[outChannels]`; the result is `[batch, outHeight, outWidth, outChannels]` with
 * `outHeight = floor((height + 2 * padding - dilation * (kernelHeight - 1) - 1) / stride) + 1`.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function conv2d(input: Tensor, weight: Tensor, bias?: Tensor, options: Conv2dOptions = {}): Tensor {
  checkOptions('conv2d', options, conv2dOptions);
  checkFloat('conv2d', { input, weight }, { bias });
  const { outputShape, words } = geometryOf('conv2d', input, weight, options);
  checkBias('conv2d', bias, outputShape[3]!);
  const output = allocate('conv2d', outputShape);
  run('conv2d_forward', [output], input, weight, bias, ...words);
  const [inputShape, weightShape] = [input.shape, weight.shape];
  // The weight's gradient needs the input and the other way round: what no gradient needs is not kept.
  const inputs = bias === undefined ? [input, weight] : [input, weight, bias];
  const saved: Tensor[] = [];
  const save = (tensor: Tensor, wanted: boolean): number => (wanted ? saved.push(tensor) - 1 : -1);
  const inputAt = save(input, weight.requiresGrad);
  const weightAt = save(weight, input.requiresGrad);
  return record('conv2d', inputs, output, saved, (gradient, kept, needs) => {
    let inputGradient: Tensor | undefined;
    let weightGradient: Tensor | undefined;
    if (needs[0] === true) {
      inputGradient = allocate('conv2d backward', inputShape);
      run('conv2d_backward_data', [inputGradient], gradient, kept[weightAt]!, ...words);
    }
    if (needs[1] === true) {
      weightGradient = allocate('conv2d backward', weightShape);
      run('conv2d_backward_weights', [weightGradient], kept[inputAt]!, gradient, ...words);
    }
    if (inputs.length === 2) return [inputGradient, weightGradient];
    return [inputGradient, weightGradient, needs[2] === true ? biasGradient(gradient) : undefined];
  });
}

/** Two operations for each multiply-add, in every pass; the geometry is the command's last fourteen words. */
function flopsOf({ words }: RecordedCommand): number {
  const [batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, ...rest] = words.slice(
    -14,
  ) as number[];
  const [strideY, strideX, paddingY, paddingX, dilationY, dilationX, groups] = rest;
  const length = (size: number, kernel: number, stride: number, padding: number, dilation: number): number =>
    Math.floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1;
  const positions =
    length(height!, kernelHeight!, strideY!, paddingY!, dilationY!) *
    length(width!, kernelWidth!, strideX!, paddingX!, dilationX!);
  return (2 * batch! * positions * outChannels! * inChannels! * kernelHeight! * kernelWidth!) / groups!;
}

for (const operation of ['conv2d_forward', 'conv2d_backward_data', 'conv2d_backward_weights']) {
  countFlops(operation, flopsOf);
}
