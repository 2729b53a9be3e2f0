import { EvenkeelError } from '../../errors';
import { isGradEnabled, record } from '../autograd';
import { formatShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkOptions, checkTensor, optionNames } from './check';
import { type Pair, pair } from './pair';

export type { Pair } from './pair';

/** What a pooling window slides over. */
export interface PoolOptions {
  /** Size of the window. */
  readonly kernelSize: Pair;
  /** Distance between windows. @defaultValue kernelSize */
  readonly stride?: Pair;
  /** Rows and columns added on either side, at most half the kernel. @defaultValue 0 */
  readonly padding?: Pair;
  /** Whether a last window that hangs over the padded edge counts; one that would start beyond the input never does. @defaultValue false */
  readonly ceilMode?: boolean;
}

/** Options of {@link avgPool2d}. */
export interface AvgPoolOptions extends PoolOptions {
  /** Whether padding counts in the divisor. @defaultValue true */
  readonly countIncludePadding?: boolean;
}

/** The largest window of {@link maxPool2d}, in positions: its indices are bytes. */
const MAX_WINDOW = 256;

interface Geometry {
  readonly outputShape: readonly number[];
  /** The arguments of the native operations. */
  readonly words: readonly number[];
  readonly positions: number;
}

function checkImages(operation: string, input: Tensor): readonly [number, number, number, number] {
  checkTensor(operation, 'input', input);
  const [batch, height, width, channels] = input.shape;
  if (
    input.rank !== 4 ||
    batch === undefined ||
    height === undefined ||
    width === undefined ||
    channels === undefined ||
    height * width * channels === 0
  ) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected images [batch, height, width, channels], got shape ${formatShape(input.shape)}`,
    );
  }
  if (input.dtype !== 'float32') {
    throw new EvenkeelError('DTYPE_MISMATCH', `${operation}: expected float32 images, got ${input.dtype}`);
  }
  return [batch, height, width, channels];
}

/** Windows along one axis; the rule of `Pool2d::output_size` in crate evenkeel-kernels. */
function outputLength(length: number, kernel: number, stride: number, padding: number, ceilMode: boolean): number {
  const slack = length + 2 * padding - kernel;
  const whole = Math.floor(slack / stride) + 1;
  return ceilMode && slack % stride !== 0 && whole * stride < length + padding ? whole + 1 : whole;
}

function geometryOf(operation: string, input: Tensor, options: PoolOptions): Geometry {
  const [batch, height, width, channels] = checkImages(operation, input);
  const kernel = pair(operation, 'kernelSize', options.kernelSize, 1);
  const stride = pair(operation, 'stride', options.stride ?? kernel, 1);
  const padding = pair(operation, 'padding', options.padding ?? 0, 0);
  const ceilMode = options.ceilMode ?? false;
  const sizes = [height, width].map((length, axis) => {
    const [k, s, p] = [kernel[axis]!, stride[axis]!, padding[axis]!];
    if (p > Math.floor(k / 2)) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `${operation}: padding ${p} must be at most half the kernel ${k}, or windows would hold nothing but padding`,
      );
    }
    if (k > length + 2 * p) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `${operation}: a window of ${k} does not fit into ${length} + 2 * ${p} of padding (input ${formatShape(input.shape)})`,
      );
    }
    return outputLength(length, k, s, p, ceilMode);
  });
  return {
    outputShape: [batch, sizes[0]!, sizes[1]!, channels],
    words: [batch, height, width, channels, ...kernel, ...stride, ...padding, Number(ceilMode)],
    positions: kernel[0] * kernel[1],
  };
}

const maxPoolOptions = optionNames<PoolOptions>({ kernelSize: true, stride: true, padding: true, ceilMode: 'boolean' });

/**
 * The largest value of each window, per channel.
 *
 * `input` is `[batch, height, width, channels]`, the result `[batch, outputHeight, outputWidth, channels]`. The first of equal
 * values wins and gets the gradient; a NaN wins over every number. Padding never wins.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT (sizes, or a window of more than 256 positions)
 */
export function maxPool2d(input: Tensor, options: PoolOptions): Tensor {
  checkOptions('maxPool2d', options, maxPoolOptions);
  const geometry = geometryOf('maxPool2d', input, options);
  if (geometry.positions > MAX_WINDOW) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `maxPool2d: a window holds at most ${MAX_WINDOW} positions, got ${geometry.positions}; pool in two steps`,
    );
  }
  const output = allocate('maxPool2d', geometry.outputShape);
  if (!isGradEnabled() || !input.requiresGrad) {
    run('max_pool', [output], input, ...geometry.words, false);
    return output;
  }
  const indices = allocate('maxPool2d', geometry.outputShape, 'uint8');
  run('max_pool', [output, indices], input, ...geometry.words, true);
  const inputShape = input.shape;
  record('maxPool2d', [input], output, [indices], (gradient, saved) => {
    const inputGradient = allocate('maxPool2d backward', inputShape);
    run('max_pool_backward', [inputGradient], gradient, saved[0]!, ...geometry.words);
    return [inputGradient];
  });
  indices.dispose();
  return output;
}

const avgPoolOptions = optionNames<AvgPoolOptions>({
  kernelSize: true,
  stride: true,
  padding: true,
  ceilMode: 'boolean',
  countIncludePadding: 'boolean',
});

/**
 * The mean of each window, per channel, summed in float64.
 *
 * `input` is `[batch, height, width, channels]`, the result `[batch, outputHeight, outputWidth, channels]`.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function avgPool2d(input: Tensor, options: AvgPoolOptions): Tensor {
  checkOptions('avgPool2d', options, avgPoolOptions);
  const geometry = geometryOf('avgPool2d', input, options);
  const countIncludePadding = options.countIncludePadding ?? true;
  const output = allocate('avgPool2d', geometry.outputShape);
  run('average_pool', [output], input, ...geometry.words, countIncludePadding);
  const inputShape = input.shape;
  return record('avgPool2d', [input], output, [], (gradient) => {
    const inputGradient = allocate('avgPool2d backward', inputShape);
    run('average_pool_backward', [inputGradient], gradient, ...geometry.words, countIncludePadding);
    return [inputGradient];
  });
}

/**
 * The mean over all pixels of each image, per channel, summed in float64: `[batch, height, width, channels]` to
 * `[batch, channels]`.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function globalAvgPool(input: Tensor): Tensor {
  const [batch, height, width, channels] = checkImages('globalAvgPool', input);
  const words = [batch, height * width, channels];
  const output = allocate('globalAvgPool', [batch, channels]);
  run('global_average_pool', [output], input, ...words);
  const inputShape = input.shape;
  return record('globalAvgPool', [input], output, [], (gradient) => {
    const inputGradient = allocate('globalAvgPool backward', inputShape);
    run('global_average_pool_backward', [inputGradient], gradient, ...words);
    return [inputGradient];
  });
}
