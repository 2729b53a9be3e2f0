import { checkOptions, optionNames } from '../../options';
import { noGrad, ones, type Tensor, zeros } from '../../tensor';
import { batchRenorm } from '../../tensor/operations/batch-renorm';
import { batchNorm } from '../../tensor/operations/normalization';
import { checkInteger, checkRange, formatOptions } from '../check';
import { NormalizationLayer, type NormalizationLayerOptions, normalizationLayerNames } from './affine';

/** Options of {@link BatchRenorm}. */
export interface BatchRenormOptions extends NormalizationLayerOptions {
  /**
   * Weight of the new batch in the running statistics. Default `5 / plainSteps`, but at least 0.01, as in the paper, and at most 0.2: the
   * corrections must not begin before the running statistics have forgotten the values they start with.
   */
  readonly momentum?: number;
  /** Largest correction of the scale once it has grown: r stays in `[1 / maximumScale, maximumScale]`. Default 3. */
  readonly maximumScale?: number;
  /** Largest correction of the mean once it has grown: d stays in `[-maximumShift, maximumShift]`. Default 5. */
  readonly maximumShift?: number;
  /** Training steps of plain batch normalization, before the limits begin to grow. Default 500. */
  readonly plainSteps?: number;
  /** The training step at which the scale's limit has grown from 1 to `maximumScale`, linearly. Default 4,000. */
  readonly scaleSteps?: number;
  /** The training step at which the shift's limit has grown from 0 to `maximumShift`, linearly. Default 2,500. */
  readonly shiftSteps?: number;
}

const batchRenormOptions = optionNames<BatchRenormOptions>({
  ...normalizationLayerNames,
  momentum: true,
  maximumScale: true,
  maximumShift: true,
  plainSteps: true,
  scaleSteps: true,
  shiftSteps: true,
});

/**
 * Batch Renormalization (Ioffe, "Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models", 2017):
 * training sees the normalization of evaluation, `gamma ((x − mean) / s · r + d) + beta`, where the corrections
 * `r = s / running s` and `d = (mean − running mean) / running s` from the batch's statistics to the running ones (those from before
 * this batch) are limited, and constants for the gradient.
 *
 * Input `[batch, ..., channels]`, output of the same shape. The limits grow on the paper's schedule, by default at a tenth of its
 * number of steps; `plainSteps: 5_000, scaleSteps: 40_000, shiftSteps: 25_000` is the paper's own. The running deviation averages
 * `√(variance + epsilon)`, as in the paper. Running statistics do not move with a batch that has a NaN or an infinity.
 */
export class BatchRenorm extends NormalizationLayer {
  /** Running mean `[channels]`, first 0. */
  readonly runningMean: Tensor;
  /** Running `√(variance + epsilon)`, `[channels]`, first 1. */
  readonly runningDeviation: Tensor;
  /** Training steps so far, `[1]`. */
  readonly steps: Tensor;
  /** Weight of the new batch in the running statistics. */
  readonly momentum: number;
  readonly maximumScale: number;
  readonly maximumShift: number;
  readonly plainSteps: number;
  readonly scaleSteps: number;
  readonly shiftSteps: number;

  constructor(options: BatchRenormOptions) {
    checkOptions('BatchRenorm', options, batchRenormOptions);
    const owner = 'BatchRenorm';
    super(owner, options);
    this.maximumScale = checkRange(owner, 'maximumScale', options.maximumScale ?? 3, 1, Number.POSITIVE_INFINITY);
    this.maximumShift = checkRange(owner, 'maximumShift', options.maximumShift ?? 5, 0, Number.POSITIVE_INFINITY);
    this.plainSteps = checkInteger(owner, 'plainSteps', options.plainSteps ?? 500, 0);
    this.momentum = checkRange(owner, 'momentum', options.momentum ?? momentumFor(this.plainSteps), 0, 1);
    this.scaleSteps = checkInteger(owner, 'scaleSteps', options.scaleSteps ?? 4_000, 0);
    this.shiftSteps = checkInteger(owner, 'shiftSteps', options.shiftSteps ?? 2_500, 0);
    this.runningMean = this.buffer('runningMean', zeros([this.channels]));
    this.runningDeviation = this.buffer('runningDeviation', ones([this.channels]));
    this.steps = this.buffer('steps', zeros([1]));
  }

  override forward(input: Tensor): Tensor {
    const { gamma, beta, epsilon, activation, runningMean } = this;
    if (!this.training) {
      const runningVariance = noGrad(() => this.runningDeviation.square());
      return batchNorm(input, { gamma, beta, epsilon: 0, activation, training: false, runningMean, runningVariance });
    }
    const { runningDeviation, steps, momentum, plainSteps, scaleSteps, shiftSteps, maximumScale, maximumShift } = this;
    return batchRenorm(input, {
      ...{ gamma, beta, epsilon, activation, momentum },
      ...{ runningMean, runningDeviation, steps },
      ...{ plainSteps, scaleSteps, shiftSteps, maximumScale, maximumShift },
    });
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      maximumScale: this.maximumScale,
      maximumShift: this.maximumShift,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}

/**
 * Five windows of the running statistics fit into the plain steps (the paper has 50: momentum 0.01 for 5,000 steps), so that of their first
 * values 1 % is left. With momentum 0.01 and 15 plain steps it would be 86 %, and the corrections would be towards those.
 */
function momentumFor(plainSteps: number): number {
  return Math.min(0.2, Math.max(0.01, 5 / plainSteps));
}
