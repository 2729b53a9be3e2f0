import { EvenkeelError } from '../../errors';
import { concatenate, customFunction, noGrad, ones, type Tensor, zeros } from '../../tensor';
import { batchNorm, rmsNorm } from '../../tensor/operations/normalization';
import { checkRange, formatOptions } from '../check';
import type { Module } from '../module';
import { createActivation } from './activations';
import { NormalizationLayer, type NormalizationLayerOptions } from './affine';
import { moveRunning } from './running';

/** What keeps the errors of the running statistics from growing along the layers; see {@link OnlineNormOptions.guard}. */
export type OnlineNormGuard = 'layer-scaling' | 'clamp' | 'none';

/** Options of {@link OnlineNorm}. */
export interface OnlineNormOptions extends NormalizationLayerOptions {
  /** Weight of the old running statistics when a sample comes (α of the forward pass), in 0 to 1. Default 0.999. */
  readonly keep?: number;
  /** Weight of the old control variables when the gradient of a sample comes (α of the backward pass), in 0 to 1. Default 0.99. */
  readonly gradientKeep?: number;
  /**
   * What is done to the scaled and shifted result: `'layer-scaling'` divides each sample by its root mean square, as in the paper;
   * `'clamp'` limits values to −5 … 5, the default of the authors' code. Default `'layer-scaling'`.
   */
  readonly guard?: OnlineNormGuard;
}

/** Where {@link OnlineNorm} clamps. */
const CLAMP = 5;

/**
 * Online Normalization (Chiley et al., "Online Normalization for Training Neural Networks", 2019): every sample is normalized with running
 * statistics of the samples before it, those of its own batch included, so any batch size will do, also 1. A batch gives the same as its
 * samples one after another.
 *
 * Input `[batch, ..., channels]`, output of the same shape. The backward pass is not the derivative: two control variables for each channel
 * keep the gradients, averaged over the samples seen, orthogonal to the normalized values and to the constant, which is what the
 * derivative of batch normalization does within a batch. It moves these variables, so call `backward` once for each output. Statistics
 * and control variables do not move with a batch that has a NaN or an infinity. Evaluation leaves them all alone.
 */
export class OnlineNorm extends NormalizationLayer {
  /** Running mean `[channels]`, first 0. */
  readonly runningMean: Tensor;
  /** Running biased variance `[channels]`, first 1. */
  readonly runningVariance: Tensor;
  /** Accumulated projection of the gradients on the normalized values, `[channels]`, first 0. */
  readonly outputControl: Tensor;
  /** Accumulated sum of the input's gradients, `[channels]`, first 0. */
  readonly meanControl: Tensor;
  /** Weight of the old running statistics for each sample. */
  readonly keep: number;
  /** Weight of the old control variables for each sample. */
  readonly gradientKeep: number;
  /** What limits errors. */
  readonly guard: OnlineNormGuard;
  /** The activation that follows. */
  readonly activate: Module;

  constructor(options: OnlineNormOptions) {
    const owner = 'OnlineNorm';
    super(owner, options);
    this.keep = checkRange(owner, 'keep', options.keep ?? 0.999, 0, 1);
    this.gradientKeep = checkRange(owner, 'gradientKeep', options.gradientKeep ?? 0.99, 0, 1);
    this.guard = options.guard ?? 'layer-scaling';
    if (!['layer-scaling', 'clamp', 'none'].includes(this.guard)) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `OnlineNorm: guard is '${String(options.guard)}'; give 'layer-scaling', 'clamp' or 'none'`,
      );
    }
    this.activate = createActivation(this.activation, this.channels);
    this.runningMean = this.buffer('runningMean', zeros([this.channels]));
    this.runningVariance = this.buffer('runningVariance', ones([this.channels]));
    this.outputControl = this.buffer('outputControl', zeros([this.channels]));
    this.meanControl = this.buffer('meanControl', zeros([this.channels]));
  }

  override forward(input: Tensor): Tensor {
    if (input.rank < 2 || input.shape.at(-1) !== this.channels) {
      throw new EvenkeelError(
        'SHAPE_MISMATCH',
        `OnlineNorm: expected an input [batch, …, ${this.channels}], got shape [${input.shape.join(', ')}]`,
      );
    }
    return this.activate.call(this.#guarded(this.#scaled(input)));
  }

  #scaled(input: Tensor): Tensor {
    const { gamma, beta, epsilon, runningMean, runningVariance } = this;
    if (!this.training || input.shape[0] === 0) {
      return batchNorm(input, { gamma, beta, epsilon, training: false, runningMean, runningVariance });
    }
    const normalized = this.#normalize(input.reshape([input.shape[0] ?? 0, -1, this.channels]));
    const scaled = gamma === undefined || beta === undefined ? normalized : normalized.mul(gamma).add(beta);
    return scaled.reshape(input.shape);
  }

  /** `[batch, positions, channels]` normalized sample by sample. */
  #normalize(input: Tensor): Tensor {
    const { keep, epsilon } = this;
    const perSample = (values: Tensor): Tensor => values.mean({ axes: 1 });
    return customFunction({
      name: 'onlineNorm',
      forward: (context, x: Tensor) => {
        const mean = perSample(x);
        const variance = perSample(x.sub(mean.reshape([mean.shape[0] ?? 0, 1, -1])).square());
        const means = recurrence(constantLike(mean, keep), mean.mul(1 - keep), this.runningMean);
        const spread = mean
          .sub(means.before)
          .square()
          .mul(keep)
          .add(variance)
          .mul(1 - keep);
        const variances = recurrence(constantLike(mean, keep), spread, this.runningVariance);
        const shape = [mean.shape[0] ?? 0, 1, this.channels];
        const inverse = variances.before.add(epsilon).sqrt().reciprocal().reshape(shape);
        const output = x.sub(means.before.reshape(shape)).mul(inverse);
        moveRunning(1, [
          [this.runningMean, means.after],
          [this.runningVariance, variances.after],
        ]);
        context.save(output, inverse);
        return output;
      },
      backward: ({ saved }, gradient) => {
        const [output, inverse] = saved as [Tensor, Tensor];
        const control = 1 - this.gradientKeep;
        // u ← u + mean(a y) with a = g − (1 − α) u y: a recurrence whose factor is 1 − (1 − α) mean(y²).
        const factors = perSample(output.square()).mul(-control).add(1);
        const projections = recurrence(factors, perSample(gradient.mul(output)), this.outputControl);
        const along = projections.before.reshape(inverse.shape).mul(control);
        const scaled = gradient.sub(output.mul(along)).mul(inverse);
        // u ← u + mean(dx) with dx = a − (1 − α) u.
        const sums = recurrence(constantLike(factors, this.gradientKeep), perSample(scaled), this.meanControl);
        moveRunning(1, [
          [this.outputControl, projections.after],
          [this.meanControl, sums.after],
        ]);
        return [scaled.sub(sums.before.reshape(inverse.shape).mul(control))];
      },
    })(input);
  }

  #guarded(input: Tensor): Tensor {
    if (this.guard === 'none') return input;
    if (this.guard === 'clamp') return input.clamp({ min: -CLAMP, max: CLAMP });
    const elements = input.shape.slice(1).reduce((product, length) => product * length, 1);
    return rmsNorm(input.reshape([input.shape[0] ?? 0, elements]), { epsilon: this.epsilon }).reshape(input.shape);
  }

  override describe(): string {
    return formatOptions({
      channels: this.channels,
      keep: this.keep === 0.999 ? undefined : this.keep,
      gradientKeep: this.gradientKeep === 0.99 ? undefined : this.gradientKeep,
      guard: this.guard === 'layer-scaling' ? undefined : this.guard,
      activation: this.activation === 'none' ? undefined : this.activation,
    });
  }
}

function constantLike(like: Tensor, value: number): Tensor {
  return ones(like.shape).mul(value);
}

/**
 * The states of `u ← factors[t] · u + terms[t]` from `first` on, for every channel: those before each of the samples, and the last one.
 * Neighbouring steps are composed in pairs, fours, eights …, so that a batch takes log₂(batch) operations and not one for each sample.
 */
function recurrence(factors: Tensor, terms: Tensor, first: Tensor): { before: Tensor; after: Tensor } {
  const [samples = 0, channels = 0] = terms.shape;
  let [factor, term] = [factors, terms];
  for (let distance = 1; distance < samples; distance *= 2) {
    const earlier = (values: Tensor, missing: number): Tensor =>
      values.slice({ starts: [0], ends: [samples - distance] }).pad(
        [
          [distance, 0],
          [0, 0],
        ],
        missing,
      );
    term = term.add(factor.mul(earlier(term, 0)));
    factor = factor.mul(earlier(factor, 1));
  }
  const start = noGrad(() => first.reshape([1, channels]));
  const states = concatenate([start, factor.mul(start).add(term)], 0);
  return {
    before: states.slice({ starts: [0], ends: [samples] }),
    after: states.slice({ starts: [samples], ends: [samples + 1] }).reshape([channels]),
  };
}
