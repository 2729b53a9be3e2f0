import { EvenkeelError } from '../errors';
import { checkOptions, optionNames } from '../options';
import { scope, type Tensor } from '../tensor';
import { checkTensor } from '../tensor/operations/check';
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
      const squared = difference.mul(difference);
      if (this.reduction === 'none') return squared;
      return this.reduction === 'sum' ? squared.sum() : squared.mean();
    });
  }
}
