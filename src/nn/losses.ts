import { EvenkeelError } from '../errors';
import { checkOptions, optionNames } from '../options';
import { equal, gather, scope, softplus, sub, type Tensor, tensor, where } from '../tensor';
import { checkFloat, checkTensor } from '../tensor/operations/check';
import { crossEntropy } from '../tensor/operations/softmax';
import { formatShape, sameShape } from '../tensor/shape';
import { checkChoice, checkRange } from './check';

/** How the values of single samples (or elements) become the result. */
export type Reduction = 'mean' | 'sum' | 'none';

const reductions: readonly Reduction[] = ['mean', 'sum', 'none'];

/** A measure of how far predictions are from targets. */
export interface Loss {
  /** The loss; differentiable with respect to `predictions`. */
  call(predictions: Tensor, targets: Tensor): Tensor;
}

/** Options of {@link CrossEntropyLoss}. */
export interface CrossEntropyLossOptions {
  /** Share of the target that is spread evenly over all classes (Szegedy et al. 2016), in `[0, 1]`. Default 0. */
  readonly labelSmoothing?: number;
  /** What becomes of the losses of the samples. Default `'mean'`. */
  readonly reduction?: Reduction;
}

const crossEntropyLossOptions = optionNames<CrossEntropyLossOptions>({ labelSmoothing: true, reduction: true });

/**
 * Cross entropy of class logits: `−Σ target · log softmax(logits)` for each sample. Logits `[batch, classes]` float32, labels
 * `[batch]` int32 (class numbers).
 */
export class CrossEntropyLoss implements Loss {
  /** Share of the target that is spread evenly over all classes. */
  readonly labelSmoothing: number;
  /** What becomes of the losses of the samples. */
  readonly reduction: Reduction;

  constructor(options: CrossEntropyLossOptions = {}) {
    checkOptions('CrossEntropyLoss', options, crossEntropyLossOptions);
    this.labelSmoothing = checkRange('CrossEntropyLoss', 'labelSmoothing', options.labelSmoothing ?? 0, 0, 1);
    this.reduction = checkChoice('CrossEntropyLoss', 'reduction', options.reduction ?? 'mean', reductions);
  }

  call(logits: Tensor, labels: Tensor): Tensor {
    return crossEntropy(logits, labels, { labelSmoothing: this.labelSmoothing, reduction: this.reduction });
  }
}

/** Options of {@link MSELoss}. */
export interface MSELossOptions {
  /** What becomes of the squared differences. Default `'mean'`. */
  readonly reduction?: Reduction;
}

const mseLossOptions = optionNames<MSELossOptions>({ reduction: true });

/** Squared difference of predictions and targets of one shape. @throws EvenkeelError SHAPE_MISMATCH for two shapes */
export class MSELoss implements Loss {
  /** What becomes of the squared differences. */
  readonly reduction: Reduction;

  constructor(options: MSELossOptions = {}) {
    checkOptions('MSELoss', options, mseLossOptions);
    this.reduction = checkChoice('MSELoss', 'reduction', options.reduction ?? 'mean', reductions);
  }

  call(predictions: Tensor, targets: Tensor): Tensor {
    checkTensor('MSELoss', 'predictions', predictions);
    checkTensor('MSELoss', 'targets', targets);
    // Subtracting would broadcast: [batch, 1] and [batch] to [batch, batch].
    if (!sameShape(predictions.shape, targets.shape)) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `MSELoss: predictions have the shape ${formatShape(predictions.shape)}, targets ${formatShape(targets.shape)}; ` +
          'give both one shape, with reshape()',
      );
    }
    return scope(() => {
      const difference = predictions.sub(targets);
      return reduced(difference.mul(difference), this.reduction);
    });
  }
}

/** Options of {@link BinaryCrossEntropyLoss}. */
export interface BinaryCrossEntropyLossOptions {
  /** Share of each target that is replaced by ½: 1 becomes `1 − labelSmoothing / 2` and 0 half of it; in `[0, 1]`. Default 0. */
  readonly labelSmoothing?: number;
  /** What becomes of the losses of the elements. Default `'mean'`. */
  readonly reduction?: Reduction;
}

const binaryCrossEntropyLossOptions = optionNames<BinaryCrossEntropyLossOptions>({
  labelSmoothing: true,
  reduction: true,
});

/**
 * Cross entropy of yes-or-no questions, for each element `−t · log σ(x) − (1 − t) · log(1 − σ(x))`: for outputs of one or several such
 * questions, of which any number may be true. Logits `x` (without a sigmoid) and targets `t` from 0 to 1, float32 of one shape.
 *
 * It is right for logits of any finite size: `−log σ(x)` is computed as `softplus(−x)`, and `−log(1 − σ(x))` as `softplus(x)`.
 */
export class BinaryCrossEntropyLoss implements Loss {
  /** Share of each target that is replaced by ½. */
  readonly labelSmoothing: number;
  /** What becomes of the losses of the elements. */
  readonly reduction: Reduction;

  constructor(options: BinaryCrossEntropyLossOptions = {}) {
    checkOptions('BinaryCrossEntropyLoss', options, binaryCrossEntropyLossOptions);
    this.labelSmoothing = checkRange('BinaryCrossEntropyLoss', 'labelSmoothing', options.labelSmoothing ?? 0, 0, 1);
    this.reduction = checkChoice('BinaryCrossEntropyLoss', 'reduction', options.reduction ?? 'mean', reductions);
  }

  /** @throws EvenkeelError DTYPE_MISMATCH, SHAPE_MISMATCH for two shapes, INVALID_ARGUMENT for what is no tensor */
  call(logits: Tensor, targets: Tensor): Tensor {
    checkFloat('BinaryCrossEntropyLoss', { logits });
    checkTensor('BinaryCrossEntropyLoss', 'targets', targets);
    if (targets.dtype !== 'float32') {
      throw new EvenkeelError(
        'DTYPE_MISMATCH',
        `BinaryCrossEntropyLoss: expected float32 targets from 0 to 1, got ${targets.dtype}; convert them with cast('float32'), or use ` +
          'CrossEntropyLoss for class numbers',
      );
    }
    if (!sameShape(logits.shape, targets.shape)) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `BinaryCrossEntropyLoss: logits have the shape ${formatShape(logits.shape)}, targets ${formatShape(targets.shape)}; ` +
          'give both one shape, with reshape()',
      );
    }
    return scope(() => {
      const smoothed =
        this.labelSmoothing === 0 ? targets : targets.mul(1 - this.labelSmoothing).add(this.labelSmoothing / 2);
      const whereTrue = smoothed.mul(softplus(logits.neg()));
      const whereFalse = sub(1, smoothed).mul(softplus(logits));
      return reduced(whereTrue.add(whereFalse), this.reduction);
    });
  }
}

/** Options of {@link NegativeLogLikelihoodLoss}. */
export interface NegativeLogLikelihoodLossOptions {
  /** What becomes of the losses of the samples. Default `'mean'`. */
  readonly reduction?: Reduction;
}

const negativeLogLikelihoodLossOptions = optionNames<NegativeLogLikelihoodLossOptions>({ reduction: true });

/**
 * Minus the log-probability of each sample's class. Log-probabilities `[..., classes]` float32, as `logSoftmax` gives them, labels
 * `[...]` int32 (class numbers). Of logits, {@link CrossEntropyLoss} gives the same in one pass.
 *
 * A label that is not a class makes the loss fail with INVALID_ARGUMENT when it is read.
 */
export class NegativeLogLikelihoodLoss implements Loss {
  /** What becomes of the losses of the samples. */
  readonly reduction: Reduction;

  constructor(options: NegativeLogLikelihoodLossOptions = {}) {
    checkOptions('NegativeLogLikelihoodLoss', options, negativeLogLikelihoodLossOptions);
    this.reduction = checkChoice('NegativeLogLikelihoodLoss', 'reduction', options.reduction ?? 'mean', reductions);
  }

  /** @throws EvenkeelError DTYPE_MISMATCH, SHAPE_MISMATCH, INVALID_ARGUMENT for what is no tensor */
  call(logProbabilities: Tensor, labels: Tensor): Tensor {
    checkFloat('NegativeLogLikelihoodLoss', { logProbabilities });
    checkTensor('NegativeLogLikelihoodLoss', 'labels', labels, 'tensor(Int32Array.of(…)) makes one of class numbers');
    if (labels.dtype !== 'int32') {
      throw new EvenkeelError(
        'DTYPE_MISMATCH',
        `NegativeLogLikelihoodLoss: expected int32 labels, got ${labels.dtype}; convert them with cast('int32')`,
      );
    }
    const { shape } = logProbabilities;
    const classes = shape.at(-1) ?? 0;
    if (classes === 0) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `NegativeLogLikelihoodLoss: expected a last axis with at least one class, got shape ${formatShape(shape)}`,
      );
    }
    if (!sameShape(labels.shape, shape.slice(0, -1))) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `NegativeLogLikelihoodLoss: expected labels of shape ${formatShape(shape.slice(0, -1))} for log-probabilities ` +
          `${formatShape(shape)}, got ${formatShape(labels.shape)}`,
      );
    }
    return scope(() => {
      const numbers = tensor(Float32Array.from({ length: classes }, (_, index) => index));
      // Labels as floating point; gathering them fails where one is no class.
      const wanted = gather(numbers, labels.flatten()).reshape([...labels.shape, 1]);
      // Chosen, because the log-probability of another class may be infinite, and would be NaN times 0.
      const chosen = where(equal(wanted, numbers), logProbabilities, 0);
      return reduced(chosen.sum({ axes: -1 }).neg(), this.reduction);
    });
  }
}

function reduced(losses: Tensor, reduction: Reduction): Tensor {
  if (reduction === 'none') return losses;
  return reduction === 'sum' ? losses.sum() : losses.mean();
}
