import { record } from '../autograd';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat, checkOptions, optionNames } from './check';
import { checkChannels, rowsAndChannels } from './sign';

/** What {@link rprelu} learns, one value of each for every channel: `[channels]`. */
export interface RPReLUParameters {
  /** Added before; the negative of the paper's γ. */
  readonly shiftIn: Tensor;
  /** The slope where the shifted input is not positive. */
  readonly slope: Tensor;
  /** Added after; the paper's ζ. */
  readonly shiftOut: Tensor;
}

const parameterNames = optionNames<RPReLUParameters>({ shiftIn: true, slope: true, shiftOut: true });

/**
 * RPReLU (Liu et al. 2020, ReActNet, equation 2): with `v = input + shiftIn`, `v + shiftOut` where v is positive and
 * `slope * v + shiftOut` elsewhere. `input` is `[..., channels]`; at `v = 0` the gradient is that of the slope's side.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function rprelu(input: Tensor, parameters: RPReLUParameters): Tensor {
  checkOptions('rprelu', parameters, parameterNames);
  const { shiftIn, slope, shiftOut } = parameters;
  checkFloat('rprelu', { input, shiftIn, slope, shiftOut });
  const [, channels] = rowsAndChannels('rprelu', input);
  checkChannels('rprelu', 'shiftIn', shiftIn, channels);
  checkChannels('rprelu', 'slope', slope, channels);
  checkChannels('rprelu', 'shiftOut', shiftOut, channels);
  const output = allocate('rprelu', input.shape);
  const inputs = [input, shiftIn, slope, shiftOut];
  run('rprelu', [output], ...inputs);
  const shapes = inputs.map(({ shape }) => shape);
  return record('rprelu', inputs, output, inputs, (gradient, saved) => {
    const gradients = shapes.map((shape) => allocate('rprelu backward', shape));
    run('rprelu_backward', gradients, gradient, ...saved);
    return gradients;
  });
}
