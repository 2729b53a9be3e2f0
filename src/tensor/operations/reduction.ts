import { EvenkeelError } from '../../errors';
import { show } from '../../options';
import { record } from '../autograd';
import { scope } from '../scope';
import { formatShape, resolveAxis } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { broadcastTo } from './broadcast';
import { checkFloat, checkOptions, optionNames } from './check';
import { permute } from './layout';

/** `input` with its axis `axis` behind the others, which keep their order. */
function moveLast(input: Tensor, axis: number): Tensor {
  const others = input.shape.map((_, at) => at).filter((at) => at !== axis);
  return permute(input, [...others, axis]);
}

/** Options of the reductions. */
export interface ReductionOptions {
  /** The axes to reduce; negative ones count from the last. @defaultValue all axes */
  readonly axes?: number | readonly number[];
  /** Whether reduced axes stay, with size 1. @defaultValue false */
  readonly keepDims?: boolean;
}

/** The numbers of `Reduction` in crate evenkeel-kernels. */
const codes = { sum: 0, mean: 1, max: 2, min: 3 } as const;

/** What a reduction makes of a shape. For operations. */
export interface Geometry {
  /** The reduced axes, counted from the front. */
  readonly axes: readonly number[];
  /** The output's shape. */
  readonly shape: readonly number[];
  /** The output's shape with size 1 for each reduced axis. */
  readonly kept: readonly number[];
  /** Elements that make one element of the output. */
  readonly count: number;
}

/** Checks the axes of a reduction. For operations. @throws EvenkeelError INVALID_ARGUMENT */
export function geometryOf(operation: string, input: Tensor, options: ReductionOptions): Geometry {
  const given = options.axes ?? input.shape.map((_, axis) => axis);
  if (typeof given !== 'number' && !Array.isArray(given)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: axes is ${show(given)}; give a number, or an array of them`,
    );
  }
  const axes = (typeof given === 'number' ? [given] : given).map((axis) => resolveAxis(operation, axis, input.rank));
  if (new Set(axes).size !== axes.length) {
    throw new EvenkeelError('INVALID_ARGUMENT', `${operation}: an axis is given twice in [${String(given)}]`);
  }
  const kept = input.shape.map((length, axis) => (axes.includes(axis) ? 1 : length));
  const shape = options.keepDims === true ? kept : input.shape.filter((_, axis) => !axes.includes(axis));
  const count = axes.reduce((product, axis) => product * input.shape[axis]!, 1);
  return { axes, shape, kept, count };
}

function reduceForward(name: keyof typeof codes, input: Tensor, options: ReductionOptions): [Tensor, Geometry] {
  checkFloat(name, { input });
  const geometry = geometryOf(name, input, options);
  const output = allocate(name, geometry.shape);
  run('reduce', [output], input, codes[name], input.shape, geometry.axes);
  return [output, geometry];
}

function linear(name: 'sum' | 'mean', input: Tensor, options: ReductionOptions): Tensor {
  const [output, { kept, count }] = reduceForward(name, input, options);
  const inputShape = input.shape;
  return record(name, [input], output, [], (gradient) => [
    broadcastTo(gradient.alias(kept), inputShape, name === 'mean' ? 1 / count : 1),
  ]);
}

const reductionOptions = optionNames<ReductionOptions>({ axes: true, keepDims: 'boolean' });

/**
 * The sum over axes, accumulated in float64; 0 of nothing.
 *
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT (an axis that does not exist, or twice)
 */
export function sum(input: Tensor, options: ReductionOptions = {}): Tensor {
  checkOptions('sum', options, reductionOptions);
  return linear('sum', input, options);
}

/**
 * The mean over axes, accumulated in float64; NaN of nothing.
 *
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT (an axis that does not exist, or twice)
 */
export function mean(input: Tensor, options: ReductionOptions = {}): Tensor {
  checkOptions('mean', options, reductionOptions);
  return linear('mean', input, options);
}

function extremum(name: 'max' | 'min', input: Tensor, options: ReductionOptions): Tensor {
  checkFloat(name, { input });
  const empty = geometryOf(name, input, options);
  if (empty.count === 0 && empty.shape.every((length) => length > 0)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${name}: there is no ${name} of nothing; the input of shape ${formatShape(input.shape)} has no elements along the axes`,
    );
  }
  const [output, { axes }] = reduceForward(name, input, options);
  return record(name, [input], output, [input, output], (gradient, [savedInput, savedOutput]) => {
    const inputGradient = allocate(`${name} backward`, savedInput!.shape);
    run('extremum_backward', [inputGradient], savedInput!, savedOutput!, gradient, savedInput!.shape, axes);
    return [inputGradient];
  });
}

/**
 * The largest element over axes; NaN where there is one. The first of equal elements takes the gradient.
 *
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT (an axis that does not exist, or twice, or of size 0)
 */
export function max(input: Tensor, options: ReductionOptions = {}): Tensor {
  checkOptions('max', options, reductionOptions);
  return extremum('max', input, options);
}

/**
 * The smallest element over axes; NaN where there is one. The first of equal elements takes the gradient.
 *
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT (an axis that does not exist, or twice, or of size 0)
 */
export function min(input: Tensor, options: ReductionOptions = {}): Tensor {
  checkOptions('min', options, reductionOptions);
  return extremum('min', input, options);
}

/**
 * The index along `axis` (the last by default) of its largest element, as int32: `[..., n]` to `[...]`. The first of equal elements,
 * and the first NaN where there is one. It has no gradient.
 *
 * @throws EvenkeelError DTYPE_MISMATCH, SHAPE_MISMATCH (no axes, or an empty one), INVALID_ARGUMENT (no such axis)
 */
export function argmax(input: Tensor, axis = -1): Tensor {
  checkFloat('argmax', { input });
  if (axis !== -1 && resolveAxis('argmax', axis, input.rank) !== input.rank - 1) {
    return scope(() => argmax(moveLast(input, resolveAxis('argmax', axis, input.rank))));
  }
  const columns = input.shape[input.rank - 1];
  if (columns === undefined || columns === 0) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `argmax: expected a last axis with at least one element, got shape ${formatShape(input.shape)}`,
    );
  }
  const output = allocate('argmax', input.shape.slice(0, -1), 'int32');
  run('argmax', [output], input, output.size, columns);
  return output;
}

/**
 * Whether all elements are finite: resolves with the index of the first NaN or infinity in row-major order, or undefined.
 *
 * @throws EvenkeelError DTYPE_MISMATCH
 */
export async function firstNonFinite(input: Tensor): Promise<number | undefined> {
  checkFloat('firstNonFinite', { input });
  const output = allocate('firstNonFinite', [1], 'int32');
  run('first_non_finite', [output], input);
  try {
    const index = await output.item();
    return index < 0 ? undefined : index;
  } finally {
    output.dispose();
  }
}
