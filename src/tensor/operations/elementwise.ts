import { EvenkeelError } from '../../errors';
import { checkNumber } from '../../options';
import { type Backward, record } from '../autograd';
import { formatShape, sameShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { broadcastShapes, sumToShape, withOperands } from './broadcast';
import { checkFloat, checkOptions, optionNames } from './check';

/** The numbers of `BinaryOperation` in crate evenkeel-kernels. */
const binaryCodes = {
  add: 0,
  sub: 1,
  mul: 2,
  div: 3,
  maximum: 4,
  minimum: 5,
  pow: 6,
  addRelu: 7,
  equal: 8,
  notEqual: 9,
  less: 10,
  lessEqual: 11,
  greater: 12,
  greaterEqual: 13,
} as const;

type BinaryName = keyof typeof binaryCodes;

/** The numbers of `UnaryOperation` in crate evenkeel-kernels. */
const unaryCodes = {
  neg: 0,
  abs: 1,
  sqrt: 2,
  exp: 3,
  log: 4,
  square: 5,
  reciprocal: 6,
  addScalar: 7,
  mulScalar: 8,
  pow: 9,
  clamp: 10,
} as const;

type UnaryName = keyof typeof unaryCodes;

/** An operand of arithmetic: a tensor, or a number that stands for a tensor without axes. */
export type Operand = Tensor | number;

function binaryForward(name: BinaryName, a: Tensor, b: Tensor): Tensor {
  const shape = broadcastShapes(name, a.shape, b.shape);
  const output = allocate(name, shape);
  run('binary', [output], a, b, binaryCodes[name], a.shape, b.shape, shape);
  return output;
}

/** The gradient of a binary operation for one operand, summed to its shape. */
function operandGradient(name: BinaryName, second: boolean, a: Tensor, b: Tensor, gradient: Tensor): Tensor {
  const full = allocate(`${name} backward`, gradient.shape);
  run('binary_backward', [full], a, b, gradient, binaryCodes[name], second, a.shape, b.shape, gradient.shape);
  return sumToShape(full, second ? b.shape : a.shape);
}

/** Records an operation whose gradients need both operands. */
function recordBoth(name: BinaryName, a: Tensor, b: Tensor, output: Tensor): Tensor {
  return record(name, [a, b], output, [a, b], (gradient, [left, right], needs) => [
    needs[0] === true ? operandGradient(name, false, left!, right!, gradient) : undefined,
    needs[1] === true ? operandGradient(name, true, left!, right!, gradient) : undefined,
  ]);
}

function unaryForward(name: UnaryName, input: Tensor, first = 0, second = 0): Tensor {
  const output = allocate(name, input.shape);
  run('unary', [output], input, unaryCodes[name], first, second);
  return output;
}

/** One of the functions of one tensor, with its gradient from the input. */
function unary(name: UnaryName, input: Tensor, first = 0, second = 0): Tensor {
  checkFloat(name, { input });
  const output = unaryForward(name, input, first, second);
  return record(name, [input], output, [input], (gradient, [saved]) => {
    const inputGradient = allocate(`${name} backward`, saved!.shape);
    run('unary_backward', [inputGradient], saved!, gradient, unaryCodes[name], first, second);
    return [inputGradient];
  });
}

/** `input + term` or `input * factor`: linear, so nothing is saved. */
function linear(name: 'addScalar' | 'mulScalar', input: Tensor, value: number): Tensor {
  checkFloat(name === 'addScalar' ? 'add' : 'mul', { input });
  const output = unaryForward(name, input, value);
  return record(name, [input], output, [], (gradient) => [
    name === 'addScalar' ? gradient : unaryForward('mulScalar', gradient, value),
  ]);
}

/** Records a sum or difference: the gradients are that of the result, perhaps negated, summed to the operands' shapes. */
function recordSum(name: 'add' | 'sub', a: Tensor, b: Tensor, output: Tensor): Tensor {
  const [aShape, bShape] = [a.shape, b.shape];
  const backward: Backward = (gradient, _saved, needs) => {
    const forA = needs[0] === true ? sumToShape(gradient, aShape) : undefined;
    if (needs[1] !== true) return [forA, undefined];
    const sum = sumToShape(gradient, bShape);
    return [forA, name === 'sub' ? unaryForward('neg', sum) : sum];
  };
  return record(name, [a, b], output, [], backward);
}

/**
 * `a + b`, with NumPy's broadcasting.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function add(a: Operand, b: Operand): Tensor {
  if (typeof b === 'number' && typeof a !== 'number') return linear('addScalar', a, b);
  if (typeof a === 'number' && typeof b !== 'number') return linear('addScalar', b, a);
  return withOperands('add', [a, b], (x, y) => recordSum('add', x!, y!, binaryForward('add', x!, y!)));
}

/**
 * `a - b`, with NumPy's broadcasting.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function sub(a: Operand, b: Operand): Tensor {
  if (typeof b === 'number' && typeof a !== 'number') return linear('addScalar', a, -b);
  return withOperands('sub', [a, b], (x, y) => recordSum('sub', x!, y!, binaryForward('sub', x!, y!)));
}

/**
 * `a * b`, element by element, with NumPy's broadcasting.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function mul(a: Operand, b: Operand): Tensor {
  if (typeof b === 'number' && typeof a !== 'number') return linear('mulScalar', a, b);
  if (typeof a === 'number' && typeof b !== 'number') return linear('mulScalar', b, a);
  return withOperands('mul', [a, b], (x, y) => {
    const output = binaryForward('mul', x!, y!);
    const [aShape, bShape] = [x!.shape, y!.shape];
    // Each gradient needs the other factor only: do not keep one for a factor that is constant.
    const saved = [...(y!.requiresGrad ? [x!] : []), ...(x!.requiresGrad ? [y!] : [])];
    return record('mul', [x!, y!], output, saved, (gradient, kept, needs) => [
      needs[0] === true ? sumToShape(binaryForward('mul', gradient, kept[kept.length - 1]!), aShape) : undefined,
      needs[1] === true ? sumToShape(binaryForward('mul', gradient, kept[0]!), bShape) : undefined,
    ]);
  });
}

/**
 * `a / b`, element by element, with NumPy's broadcasting.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function div(a: Operand, b: Operand): Tensor {
  return withOperands('div', [a, b], (x, y) => recordBoth('div', x!, y!, binaryForward('div', x!, y!)));
}

/**
 * The larger of each pair, with NumPy's broadcasting. The first where they are equal, which then takes the whole gradient; NaN
 * where either is NaN.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function maximum(a: Operand, b: Operand): Tensor {
  return withOperands('maximum', [a, b], (x, y) => recordBoth('maximum', x!, y!, binaryForward('maximum', x!, y!)));
}

/**
 * The smaller of each pair, with NumPy's broadcasting. The first where they are equal, which then takes the whole gradient; NaN
 * where either is NaN.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function minimum(a: Operand, b: Operand): Tensor {
  return withOperands('minimum', [a, b], (x, y) => recordBoth('minimum', x!, y!, binaryForward('minimum', x!, y!)));
}

/**
 * `base` to the power `exponent`, with NumPy's broadcasting.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function pow(base: Operand, exponent: Operand): Tensor {
  if (typeof exponent === 'number' && typeof base !== 'number') return unary('pow', base, exponent);
  return withOperands('pow', [base, exponent], (x, y) => recordBoth('pow', x!, y!, binaryForward('pow', x!, y!)));
}

/**
 * `max(a + b, 0)` in one pass: the end of a residual block. Only the result is kept for the gradient.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function addRelu(a: Tensor, b: Tensor): Tensor {
  return withOperands('addRelu', [a, b], (x, y) => {
    const output = binaryForward('addRelu', x!, y!);
    const [aShape, bShape] = [x!.shape, y!.shape];
    return record('addRelu', [x!, y!], output, [output], (gradient, [result], needs) => {
      const gated = gateByOutput(result!, gradient);
      return [
        needs[0] === true ? sumToShape(gated, aShape) : undefined,
        needs[1] === true ? sumToShape(gated, bShape) : undefined,
      ];
    });
  });
}

/** `gradient` where `output` is positive, zero elsewhere. For operations. */
export function gateByOutput(output: Tensor, gradient: Tensor): Tensor {
  const gated = allocate('relu backward', output.shape);
  run('add_relu_backward', [gated], output, gradient);
  return gated;
}

/** A comparison: 1 where it holds and 0 elsewhere, as float32. It has no gradient. */
function compare(name: BinaryName, a: Operand, b: Operand): Tensor {
  return withOperands(name, [a, b], (x, y) => binaryForward(name, x!, y!));
}

/** 1 where `a == b`, else 0, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
export function equal(a: Operand, b: Operand): Tensor {
  return compare('equal', a, b);
}

/** 1 where `a != b`, else 0, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
export function notEqual(a: Operand, b: Operand): Tensor {
  return compare('notEqual', a, b);
}

/** 1 where `a < b`, else 0, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
export function less(a: Operand, b: Operand): Tensor {
  return compare('less', a, b);
}

/** 1 where `a <= b`, else 0, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
export function lessEqual(a: Operand, b: Operand): Tensor {
  return compare('lessEqual', a, b);
}

/** 1 where `a > b`, else 0, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
export function greater(a: Operand, b: Operand): Tensor {
  return compare('greater', a, b);
}

/** 1 where `a >= b`, else 0, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
export function greaterEqual(a: Operand, b: Operand): Tensor {
  return compare('greaterEqual', a, b);
}

/**
 * `a` where `condition` is not 0 and `b` elsewhere, with NumPy's broadcasting. The condition is float32, as comparisons give it,
 * and has no gradient; where an operand is not chosen its gradient is 0.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH
 */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  return withOperands('where', [condition, a, b], (chooser, x, y) => {
    const output = select(chooser!, x!, y!);
    const [aShape, bShape] = [x!.shape, y!.shape];
    return record('where', [x!, y!], output, [chooser!], (gradient, [saved], needs) =>
      withOperands('where backward', [0], (zero) => [
        needs[0] === true ? sumToShape(select(saved!, gradient, zero!), aShape) : undefined,
        needs[1] === true ? sumToShape(select(saved!, zero!, gradient), bShape) : undefined,
      ]),
    );
  });
}

function select(condition: Tensor, a: Tensor, b: Tensor): Tensor {
  const shape = broadcastShapes('where', broadcastShapes('where', a.shape, b.shape), condition.shape);
  const output = allocate('where', shape);
  run('select', [output], condition, a, b, condition.shape, a.shape, b.shape, shape);
  return output;
}

/** `-input`. @throws EvenkeelError DTYPE_MISMATCH */
export function neg(input: Tensor): Tensor {
  checkFloat('neg', { input });
  return record('neg', [input], unaryForward('neg', input), [], (gradient) => [unaryForward('neg', gradient)]);
}

/** The absolute value; its derivative at 0 is 0. @throws EvenkeelError DTYPE_MISMATCH */
export function abs(input: Tensor): Tensor {
  return unary('abs', input);
}

/** The square root; NaN below zero. @throws EvenkeelError DTYPE_MISMATCH */
export function sqrt(input: Tensor): Tensor {
  return unary('sqrt', input);
}

/** `e` to the power of each element. @throws EvenkeelError DTYPE_MISMATCH */
export function exp(input: Tensor): Tensor {
  return unary('exp', input);
}

/** The natural logarithm; minus infinity of zero, NaN below. @throws EvenkeelError DTYPE_MISMATCH */
export function log(input: Tensor): Tensor {
  return unary('log', input);
}

/** `input * input`. @throws EvenkeelError DTYPE_MISMATCH */
export function square(input: Tensor): Tensor {
  return unary('square', input);
}

/** `1 / input`. @throws EvenkeelError DTYPE_MISMATCH */
export function reciprocal(input: Tensor): Tensor {
  return unary('reciprocal', input);
}

/** Limits of {@link clamp}. */
export interface ClampOptions {
  /** The lower limit. @defaultValue -Infinity */
  readonly min?: number;
  /** The upper limit. @defaultValue Infinity */
  readonly max?: number;
}

const clampOptions = optionNames<ClampOptions>({ min: true, max: true });

/**
 * Limits each element to `min … max`; NaN stays. The gradient passes where the element lies within the limits, both included.
 *
 * @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT (`min` above `max`, NaN)
 */
export function clamp(input: Tensor, options: ClampOptions): Tensor {
  checkOptions('clamp', options, clampOptions);
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = options;
  checkNumber('clamp', 'min', min);
  checkNumber('clamp', 'max', max);
  if (!(min <= max)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `clamp: min must not be above max, got min ${min} and max ${max}`);
  }
  return unary('clamp', input, min, max);
}

/** @throws EvenkeelError SHAPE_MISMATCH where two shapes differ. For operations that do not broadcast. */
export function checkSameShape(operation: string, a: Tensor, b: Tensor): void {
  if (!sameShape(a.shape, b.shape)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${operation}: expected equal shapes, got ${formatShape(a.shape)} and ${formatShape(b.shape)}`,
    );
  }
}
