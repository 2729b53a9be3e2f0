import { EvenkeelError } from '../../errors';
import { record } from '../autograd';
import { countFlops } from '../profile';
import { formatShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat } from './check';

/** @throws EvenkeelError SHAPE_MISMATCH where a bias is not `[channels]`. For operations. */
export function checkBias(operation: string, bias: Tensor | undefined, channels: number): void {
  if (bias !== undefined && (bias.rank !== 1 || bias.size !== channels)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected a bias of shape [${channels}], one value for each output, got ${formatShape(bias.shape)}`,
    );
  }
}

/** The sum of a gradient over everything but its last axis, in float64. For operations. */
export function biasGradient(gradient: Tensor): Tensor {
  const channels = gradient.shape[gradient.rank - 1]!;
  const rows = gradient.shape.slice(0, -1).reduce((product, length) => product * length, 1);
  const sums = allocate('bias backward', [channels]);
  run('bias_gradient', [sums], gradient, rows, channels);
  return sums;
}

interface Sizes {
  /** Rows of `a`: the product of its leading axes. */
  readonly rows: number;
  readonly inner: number;
  readonly columns: number;
  readonly outputShape: readonly number[];
}

function sizesOf(operation: string, names: readonly [string, string], a: Tensor, b: Tensor): Sizes {
  const inner = a.shape[a.rank - 1];
  const [depth, columns] = b.shape;
  if (inner === undefined || b.rank !== 2 || depth !== inner || columns === undefined) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected ${names[0]} [..., k] and ${names[1]} [k, n], got ${formatShape(a.shape)} and ${formatShape(b.shape)}`,
    );
  }
  const leading = a.shape.slice(0, -1);
  return {
    rows: leading.reduce((product, length) => product * length, 1),
    inner,
    columns,
    outputShape: [...leading, columns],
  };
}

/** Records the gradients of `output = a·b (+ bias)`. */
function recordProduct(
  operation: string,
  a: Tensor,
  b: Tensor,
  bias: Tensor | undefined,
  output: Tensor,
  { rows, inner, columns }: Sizes,
): Tensor {
  const [aShape, bShape] = [a.shape, b.shape];
  const inputs = bias === undefined ? [a, b] : [a, b, bias];
  const saved: Tensor[] = [];
  const save = (tensor: Tensor, wanted: boolean): number => (wanted ? saved.push(tensor) - 1 : -1);
  const aAt = save(a, b.requiresGrad);
  const bAt = save(b, a.requiresGrad);
  return record(operation, inputs, output, saved, (gradient, kept, needs) => {
    let aGradient: Tensor | undefined;
    let bGradient: Tensor | undefined;
    if (needs[0] === true) {
      aGradient = allocate(`${operation} backward`, aShape);
      run('matmul', [aGradient], gradient, kept[bAt]!, rows, inner, columns, false, true);
    }
    if (needs[1] === true) {
      bGradient = allocate(`${operation} backward`, bShape);
      run('matmul', [bGradient], kept[aAt]!, gradient, inner, columns, rows, true, false);
    }
    return [aGradient, bGradient, needs[2] === true ? biasGradient(gradient) : undefined].slice(0, inputs.length);
  });
}

/**
 * The matrix product `a·b`: `[..., k]` times `[k, n]` is `[..., n]`. Leading axes of `a` are rows of one large matrix.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  checkFloat('matmul', { a, b });
  const sizes = sizesOf('matmul', ['a', 'b'], a, b);
  const output = allocate('matmul', sizes.outputShape);
  run('matmul', [output], a, b, sizes.rows, sizes.columns, sizes.inner, false, false);
  return recordProduct('matmul', a, b, undefined, output, sizes);
}

/**
 * A fully connected layer, `input·weight + bias`: `[..., inFeatures]` times `[inFeatures, outFeatures]`, plus `[outFeatures]`.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function linear(input: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  checkFloat('linear', { input, weight }, { bias });
  const sizes = sizesOf('linear', ['an input', 'a weight'], input, weight);
  checkBias('linear', bias, sizes.columns);
  const output = allocate('linear', sizes.outputShape);
  run('linear', [output], input, weight, bias, sizes.rows, sizes.inner, sizes.columns);
  return recordProduct('linear', input, weight, bias, output, sizes);
}

/** Two operations for each multiply-add; rows, columns and inner length stand at `first` in the command's words. */
for (const [operation, first] of [
  ['matmul', 2],
  ['linear', 3],
] as const) {
  countFlops(
    operation,
    ({ words }) => 2 * (words[first] as number) * (words[first + 1] as number) * (words[first + 2] as number),
  );
}
