import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { concatenate, customFunction, ones, type Tensor, zeros } from '../../tensor';
import { type KalmanNormOptions, kalmanNorm } from '../../tensor/operations/kalman';
import { batchNorm, rmsNorm } from '../../tensor/operations/normalization';
import { checkChoice, checkRange, formatOptions } from '../check';
import type { Module } from '../module';
import { createActivation } from './activations';
import { NormalizationLayer, type NormalizationLayerOptions, normalizationLayerNames } from './affine';
import { Decay, recurrence } from './recurrence';
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

const onlineNormOptions = optionNames<OnlineNormOptions>({
  ...normalizationLayerNames,
  keep: true,
  gradientKeep: true,
  guard: true,
});

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
  readonly #statistics: Decay;
  readonly #gradients: Decay;

  constructor(options: OnlineNormOptions) {
    checkOptions('OnlineNorm', options, onlineNormOptions);
    const owner = 'OnlineNorm';
    super(owner, options);
    this.keep = checkRange(owner, 'keep', options.keep ?? 0.999, 0, 1);
    this.gradientKeep = checkRange(owner, 'gradientKeep', options.gradientKeep ?? 0.99, 0, 1);
    this.#statistics = new Decay(this.keep);
    this.#gradients = new Decay(this.gradientKeep);
    this.guard = checkChoice(owner, 'guard', options.guard ?? 'layer-scaling', ['layer-scaling', 'clamp', 'none']);
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
    if (input.size === 0) return input.mul(1);
    const { gamma, beta, epsilon, runningMean, runningVariance, guard } = this;
    // Layer scaling applies the activation in its own pass, and a norm without guard in its.
    const options = { gamma, beta, epsilon, activation: guard === 'none' ? this.activation : 'none' } as const;
    const scaled = this.training
      ? kalmanNorm(input, { ...options, ...this.#prior(input) }).output
      : batchNorm(input, { ...options, training: false, runningMean, runningVariance });
    if (guard === 'none') return scaled;
    if (guard === 'clamp') return this.activate.call(scaled.clamp({ min: -CLAMP, max: CLAMP }));
    const rows = input.shape[0] ?? 0;
    return rmsNorm(scaled.reshape([rows, input.size / rows]), { epsilon, activation: this.activation }).reshape(
      input.shape,
    );
  }

  /**
   * The statistics that each sample is normalized with, for a Kalman norm that gives its prior the whole weight: such a norm takes the
   * prior as it is, hands `u r` on to the input (u the gradient of the normalized value, r its inverse deviation), and `−r Σ u` and
   * `−½ r² Σ u y` to the prior. What the control variables take off the input's gradient follows from these sums.
   */
  #prior(input: Tensor): Pick<KalmanNormOptions, 'groups' | 'prior' | 'priorWeight'> {
    const groups = input.shape[0] ?? 0;
    const prior = customFunction({
      name: 'onlineNorm',
      forward: (context, x: Tensor) => {
        const { mean, variance } = statisticsOf(x);
        const means = this.#statistics.states(mean.mul(1 - this.keep), this.runningMean);
        const spread = mean
          .sub(means.before)
          .square()
          .mul(this.keep)
          .add(variance)
          .mul(1 - this.keep);
        const variances = this.#statistics.states(spread, this.runningVariance);
        moveRunning([
          [this.runningMean, means.after],
          [this.runningVariance, variances.after],
        ]);
        context.save(x, mean, variance, means.before, variances.before);
        return concatenate([means.before, variances.before], 0).reshape([2, groups, this.channels]);
      },
      backward: ({ saved }, gradient) => [this.#control(saved, gradient)],
    })(input);
    return { groups, prior, priorWeight: ones([1]) };
  }

  /** What is added to the gradient of the input. Moves the control variables. */
  #control(saved: readonly Tensor[], gradient: Tensor): Tensor {
    const [input, mean, variance, centre, spread] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const [groups = 0, channels = 0] = mean.shape;
    const positions = input.size / mean.size;
    const part = (index: number): Tensor =>
      gradient.slice({ starts: [index], ends: [index + 1] }).reshape([groups, channels]);
    const control = 1 - this.gradientKeep;
    const inverse = spread.add(this.epsilon).sqrt().reciprocal();
    // Means over the positions of y, y², u and u y.
    const y = mean.sub(centre).mul(inverse);
    const squares = y.square().add(variance.mul(inverse.square()));
    const u = part(0)
      .div(inverse)
      .mul(-1 / positions);
    const products = part(1)
      .div(inverse.square())
      .mul(-2 / positions);
    // c ← c + mean(a y) with a = u − (1 − α) c y: a recurrence whose factor is 1 − (1 − α) mean(y²).
    const projections = recurrence(squares.mul(-control).add(1), products, this.outputControl);
    const along = projections.before.mul(control);
    // s ← s + mean(dx) with dx = a r − (1 − α) s.
    const terms = u.sub(along.mul(y)).mul(inverse);
    const sums = this.#gradients.states(terms, this.meanControl);
    moveRunning([
      [this.outputControl, projections.after],
      [this.meanControl, sums.after],
    ]);
    const wide = (values: Tensor): Tensor => values.reshape([groups, 1, channels]);
    return input
      .reshape([groups, positions, channels])
      .sub(wide(centre))
      .mul(wide(along.mul(inverse.square()).neg()))
      .sub(wide(sums.before.mul(control)))
      .reshape(input.shape);
  }

  protected override release(): void {
    for (const decay of [this.#statistics, this.#gradients]) decay.dispose();
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

/** Mean and biased variance of each sample and channel over the positions, `[batch, channels]`. */
function statisticsOf(input: Tensor): { mean: Tensor; variance: Tensor } {
  const [batch, channels] = [input.shape[0] ?? 0, input.shape.at(-1) ?? 0];
  const shape = [batch, channels];
  if (input.size === batch * channels) return { mean: input.reshape(shape), variance: zeros(shape) };
  // Every sample a group of its own, without a prior: the posterior is what was observed.
  const { posterior } = kalmanNorm(input, { groups: batch });
  const row = (index: number): Tensor => posterior.slice({ starts: [index], ends: [index + 1] }).reshape(shape);
  return { mean: row(0), variance: row(1) };
}
