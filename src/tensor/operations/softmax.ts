import { EvenkeelError } from '../../errors';
import { record } from '../autograd';
import { scope } from '../scope';
import { formatShape, resolveAxis, sameShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkFloat, checkOptions, checkTensor, optionNames } from './check';
import { transpose } from './layout';

/** The size of the last axis, of at least one. */
function classesOf(operation: string, input: Tensor): number {
  const classes = input.shape[input.rank - 1];
  if (classes === undefined || classes === 0) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected a last axis with at least one class, got shape ${formatShape(input.shape)}`,
    );
  }
  return classes;
}

function normalized(name: 'softmax' | 'logSoftmax', input: Tensor, axis: number): Tensor {
  checkFloat(name, { input });
  if (axis !== -1 && resolveAxis(name, axis, input.rank) !== input.rank - 1) {
    return scope(() => transpose(normalized(name, transpose(input, axis, -1), -1), axis, -1));
  }
  const classes = classesOf(name, input);
  const logarithm = name === 'logSoftmax';
  const output = allocate(name, input.shape);
  run('softmax', [output], input, classes, logarithm);
  return record(name, [input], output, [output], (gradient, [saved]) => {
    const inputGradient = allocate(`${name} backward`, saved!.shape);
    run('softmax_backward', [inputGradient], saved!, gradient, classes, logarithm);
    return [inputGradient];
  });
}

/**
 * `e^x / Σ e^x` along `axis` (the last by default), for logits of any size.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT (no such axis)
 */
export function softmax(input: Tensor, axis = -1): Tensor {
  return normalized('softmax', input, axis);
}

/**
 * `x - ln Σ e^x` along `axis` (the last by default), for logits of any size.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT (no such axis)
 */
export function logSoftmax(input: Tensor, axis = -1): Tensor {
  return normalized('logSoftmax', input, axis);
}

/** The numbers of the loss reductions in crate evenkeel-node. */
const reductions = { mean: 0, sum: 1, none: 2 } as const;

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions {
  /** Weight that is taken from the label and spread evenly over all classes, 0 to 1 (Szegedy et al., 2016). @defaultValue 0 */
  readonly labelSmoothing?: number;
  /** What becomes of the losses of the rows: their mean, their sum, or one for each row. @defaultValue mean */
  readonly reduction?: 'mean' | 'sum' | 'none';
}

const crossEntropyOptions = optionNames<CrossEntropyOptions>({ labelSmoothing: true, reduction: true });

/**
 * The cross-entropy `-Σ q · log softmax(logits)` along the last axis.
 *
 * A label that is not a class makes the loss fail with INVALID_ARGUMENT when it is read.
 *
 * @param logits `[..., classes]`
 * @param targets `q`: int32 labels `[...]`, or float32 weights `[..., classes]` (a distribution, as for distillation; it gets no
 * gradient, so `detach()` it)
 * @returns a tensor without axes, or `[...]` without reduction
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function crossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  checkOptions('crossEntropy', options, crossEntropyOptions);
  checkFloat('crossEntropy', { logits });
  const { labelSmoothing = 0, reduction = 'mean' } = options;
  checkTensor('crossEntropy', 'targets', targets, 'tensor(Int32Array.of(…)) makes one of class numbers');
  const classes = classesOf('crossEntropy', logits);
  const rowShape = logits.shape.slice(0, -1);
  if (targets.dtype === 'uint8') {
    throw new EvenkeelError(
      'DTYPE_MISMATCH',
      'crossEntropy: expected int32 labels or float32 weights, got uint8; convert labels with cast("int32")',
    );
  }
  const expected = targets.dtype === 'int32' ? rowShape : logits.shape;
  if (!sameShape(targets.shape, expected)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `crossEntropy: expected ${targets.dtype === 'int32' ? 'labels' : 'weights'} of shape ${formatShape(expected)} for logits ` +
        `${formatShape(logits.shape)}, got ${formatShape(targets.shape)}` +
        (sameShape(targets.shape, rowShape) ? "; class numbers must be int32: cast('int32') makes them so" : ''),
    );
  }
  if (targets.requiresGrad) {
    throw new EvenkeelError('INVALID_ARGUMENT', 'crossEntropy: the targets get no gradient; pass targets.detach()');
  }
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `crossEntropy: labelSmoothing must be 0 to 1, got ${labelSmoothing}`);
  }
  if (!Object.hasOwn(reductions, reduction)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `crossEntropy: reduction must be mean, sum or none, got ${String(reduction)}`,
    );
  }
  const words = [classes, labelSmoothing, reductions[reduction]];
  const loss = allocate('crossEntropy', reduction === 'none' ? rowShape : []);
  const rows = rowShape.reduce((product, length) => product * length, 1);
  run('cross_entropy', [loss], logits, targets, rows, ...words);
  return record('crossEntropy', [logits], loss, [logits, targets], (gradient, [savedLogits, savedTargets]) => {
    const logitsGradient = allocate('crossEntropy backward', savedLogits!.shape);
    run('cross_entropy_backward', [logitsGradient], savedLogits!, savedTargets!, gradient, ...words);
    return [logitsGradient];
  });
}

/**
 * The number of rows whose label is among the `k` largest logits, as an int32 tensor without axes. Of equal logits the earlier
 * class ranks first; a row with a NaN is never right. It has no gradient.
 *
 * @param logits `[..., classes]`
 * @param labels int32 `[...]`
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function countTopK(logits: Tensor, labels: Tensor, k = 1): Tensor {
  checkFloat('countTopK', { logits });
  checkTensor('countTopK', 'labels', labels, 'tensor(Int32Array.of(…)) makes one of class numbers');
  const classes = classesOf('countTopK', logits);
  if (labels.dtype !== 'int32') {
    throw new EvenkeelError('DTYPE_MISMATCH', `countTopK: expected int32 labels, got ${labels.dtype}`);
  }
  const expected = logits.shape.slice(0, -1);
  if (!sameShape(labels.shape, expected)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `countTopK: expected labels of shape ${formatShape(expected)}, got ${formatShape(labels.shape)}`,
    );
  }
  if (!Number.isInteger(k) || k < 1) {
    throw new EvenkeelError('INVALID_ARGUMENT', `countTopK: k must be a whole number of at least 1, got ${k}`);
  }
  const output = allocate('countTopK', [], 'int32');
  run('count_top_k', [output], logits, labels, classes, k);
  return output;
}
