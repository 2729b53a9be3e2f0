import type { DType } from './dtype';
import * as activation from './operations/activation';
import * as axes from './operations/axes';
import type { ClampOptions, Operand } from './operations/elementwise';
import * as elementwise from './operations/elementwise';
import type { SliceOptions } from './operations/layout';
import * as layout from './operations/layout';
import { matmul } from './operations/matmul';
import type { ReductionOptions } from './operations/reduction';
import * as reduction from './operations/reduction';
import * as softmax from './operations/softmax';
import type { VarianceOptions } from './operations/variance';
import * as variance from './operations/variance';
import type { Shape } from './shape';
import { Tensor } from './tensor';

// Operations live in files of their own, which need the class; so the class gets its methods here.
declare module './tensor' {
  interface Tensor {
    /** `this + other`, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    add(other: Operand): Tensor;
    /** `this - other`, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    sub(other: Operand): Tensor;
    /** `this * other`, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    mul(other: Operand): Tensor;
    /** `this / other`, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    div(other: Operand): Tensor;
    /** `this` to the power `exponent`, with NumPy's broadcasting. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    pow(exponent: Operand): Tensor;
    /** The larger of each pair; the first where they are equal. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    maximum(other: Operand): Tensor;
    /** The smaller of each pair; the first where they are equal. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    minimum(other: Operand): Tensor;
    /** 1 where `this == other`, else 0. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    equal(other: Operand): Tensor;
    /** 1 where `this != other`, else 0. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    notEqual(other: Operand): Tensor;
    /** 1 where `this < other`, else 0. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    less(other: Operand): Tensor;
    /** 1 where `this <= other`, else 0. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    lessEqual(other: Operand): Tensor;
    /** 1 where `this > other`, else 0. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    greater(other: Operand): Tensor;
    /** 1 where `this >= other`, else 0. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    greaterEqual(other: Operand): Tensor;
    /** `-this`. @throws EvenkeelError DTYPE_MISMATCH */
    neg(): Tensor;
    /** The absolute value; its derivative at 0 is 0. @throws EvenkeelError DTYPE_MISMATCH */
    abs(): Tensor;
    /** The square root. @throws EvenkeelError DTYPE_MISMATCH */
    sqrt(): Tensor;
    /** `e` to the power of each element. @throws EvenkeelError DTYPE_MISMATCH */
    exp(): Tensor;
    /** The natural logarithm. @throws EvenkeelError DTYPE_MISMATCH */
    log(): Tensor;
    /** `this * this`. @throws EvenkeelError DTYPE_MISMATCH */
    square(): Tensor;
    /** `1 / this`. @throws EvenkeelError DTYPE_MISMATCH */
    reciprocal(): Tensor;
    /** Limits each element to `min … max`. @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT */
    clamp(options: ClampOptions): Tensor;
    /** `max(this, 0)`. @throws EvenkeelError DTYPE_MISMATCH */
    relu(): Tensor;
    /** `1 / (1 + e^-this)`. @throws EvenkeelError DTYPE_MISMATCH */
    sigmoid(): Tensor;
    /** The hyperbolic tangent. @throws EvenkeelError DTYPE_MISMATCH */
    tanh(): Tensor;
    /** Softmax along `axis` (the last by default). @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT */
    softmax(axis?: number): Tensor;
    /** The logarithm of the softmax along `axis` (the last by default). @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT */
    logSoftmax(axis?: number): Tensor;
    /** The sum over axes (all by default), in float64. @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT */
    sum(options?: ReductionOptions): Tensor;
    /** The mean over axes (all by default), in float64. @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT */
    mean(options?: ReductionOptions): Tensor;
    /** The mean squared distance from the mean over axes (all by default). @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT */
    variance(options?: VarianceOptions): Tensor;
    /** The square root of the variance over axes (all by default). @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT */
    standardDeviation(options?: VarianceOptions): Tensor;
    /** The largest element over axes (all by default). @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT */
    max(options?: ReductionOptions): Tensor;
    /** The smallest element over axes (all by default). @throws EvenkeelError DTYPE_MISMATCH, INVALID_ARGUMENT */
    min(options?: ReductionOptions): Tensor;
    /** The int32 index of the largest element along `axis` (the last by default). @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT */
    argmax(axis?: number): Tensor;
    /** The index of the first NaN or infinity, or undefined. @throws EvenkeelError DTYPE_MISMATCH */
    firstNonFinite(): Promise<number | undefined>;
    /** The matrix product: `[..., k]` times `[k, n]`. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH */
    matmul(other: Tensor): Tensor;
    /** The same elements in another shape; one size may be -1. @throws EvenkeelError SHAPE_MISMATCH, INVALID_ARGUMENT */
    reshape(shape: Shape): Tensor;
    /** Joins all axes from `firstAxis` (0 by default) on. @throws EvenkeelError INVALID_ARGUMENT */
    flatten(firstAxis?: number): Tensor;
    /** Without axis `axis` of size 1, or without all of those. @throws EvenkeelError SHAPE_MISMATCH, INVALID_ARGUMENT */
    squeeze(axis?: number): Tensor;
    /** With a new axis `axis` of size 1. @throws EvenkeelError INVALID_ARGUMENT */
    unsqueeze(axis: number): Tensor;
    /** Reorders the axes: axis `k` of the result is axis `axes[k]` of this. @throws EvenkeelError INVALID_ARGUMENT */
    permute(axes: readonly number[]): Tensor;
    /** Exchanges two axes, by default the last two. @throws EvenkeelError INVALID_ARGUMENT */
    transpose(first?: number, second?: number): Tensor;
    /** A part: indices from `starts` to below `ends` in `steps`. @throws EvenkeelError INVALID_ARGUMENT */
    slice(options: SliceOptions): Tensor;
    /** Adds `[before, after]` elements of `value` along each axis. @throws EvenkeelError INVALID_ARGUMENT */
    pad(widths: readonly (readonly [before: number, after: number])[], value?: number): Tensor;
    /** Repeats axes of size 1 to `shape`. @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT */
    expand(shape: Shape): Tensor;
    /** The elements in another dtype. @throws EvenkeelError DTYPE_MISMATCH */
    cast(dtype: DType): Tensor;
  }
}

/** Makes a method of a function whose first argument is the tensor. */
function method<Rest extends readonly unknown[], Result>(
  operation: (input: Tensor, ...rest: Rest) => Result,
): (this: Tensor, ...rest: Rest) => Result {
  return function (this: Tensor, ...rest: Rest): Result {
    return operation(this, ...rest);
  };
}

const methods = {
  add: method(elementwise.add),
  sub: method(elementwise.sub),
  mul: method(elementwise.mul),
  div: method(elementwise.div),
  pow: method(elementwise.pow),
  maximum: method(elementwise.maximum),
  minimum: method(elementwise.minimum),
  equal: method(elementwise.equal),
  notEqual: method(elementwise.notEqual),
  less: method(elementwise.less),
  lessEqual: method(elementwise.lessEqual),
  greater: method(elementwise.greater),
  greaterEqual: method(elementwise.greaterEqual),
  neg: method(elementwise.neg),
  abs: method(elementwise.abs),
  sqrt: method(elementwise.sqrt),
  exp: method(elementwise.exp),
  log: method(elementwise.log),
  square: method(elementwise.square),
  reciprocal: method(elementwise.reciprocal),
  clamp: method(elementwise.clamp),
  relu: method(activation.relu),
  sigmoid: method(activation.sigmoid),
  tanh: method(activation.tanh),
  softmax: method(softmax.softmax),
  logSoftmax: method(softmax.logSoftmax),
  sum: method(reduction.sum),
  mean: method(reduction.mean),
  variance: method(variance.variance),
  standardDeviation: method(variance.standardDeviation),
  max: method(reduction.max),
  min: method(reduction.min),
  argmax: method(reduction.argmax),
  firstNonFinite: method(reduction.firstNonFinite),
  matmul: method(matmul),
  reshape: method(layout.reshape),
  flatten: method(layout.flatten),
  squeeze: method(axes.squeeze),
  unsqueeze: method(axes.unsqueeze),
  permute: method(layout.permute),
  transpose: method(layout.transpose),
  slice: method(layout.slice),
  pad: method(layout.pad),
  expand: method(layout.expand),
  cast: method(layout.cast),
};

for (const [name, value] of Object.entries(methods)) {
  Object.defineProperty(Tensor.prototype, name, { value, writable: true, configurable: true });
}
