import { checkOptions, optionNames } from '../../options';
import { ones, type Tensor, zeros } from '../../tensor';
import { independentComponent } from '../../tensor/operations/independent-component';
import { batchNorm } from '../../tensor/operations/normalization';
import { checkRange, formatOptions } from '../check';
import { NormalizationLayer, type NormalizationLayerOptions } from './affine';

/** Options of {@link IndependentComponent}. */
export interface IndependentComponentOptions extends Omit<NormalizationLayerOptions, 'activation'> {
  /** Chance that a value is set to 0, in `[0, 1)`. 0 makes the layer a `BatchNorm`. Default 0.05. */
  readonly dropRate?: number;
  /** Weight of the new batch in the running statistics. Default 0.1. */
  readonly momentum?: number;
}

const independentComponentOptions = optionNames<IndependentComponentOptions>({
  channels: true,
  epsilon: true,
  affine: 'boolean',
  initialScale: true,
  dropRate: true,
  momentum: true,
});

/**
 * Independent-Component layer (Chen et al. 2019): batch normalization, then dropout of single values, in one pass. It stands in front
 * of a weight layer, whose inputs become centred, of equal variance and less dependent on each other: dropout with keep chance p
 * multiplies the mutual information of two values with p² and their correlation with p.
 *
 * Input `[batch, ..., channels]`, output of the same shape. Training uses the batch's statistics and drops; evaluation uses the
 * running statistics (of the input, before dropout) and does not.
 */
export class IndependentComponent extends NormalizationLayer {
  /** Running mean `[channels]`, first 0. */
  readonly runningMean: Tensor;
  /** Running variance `[channels]`, first 1. */
  readonly runningVariance: Tensor;
  /** Chance that a value is set to 0. May be changed; 0 turns the dropout off. */
  dropRate: number;
  /** Weight of the new batch in the running statistics. */
  readonly momentum: number;

  constructor(options: IndependentComponentOptions) {
    checkOptions('IndependentComponent', options, independentComponentOptions);
    super('IndependentComponent', options);
    this.dropRate = checkRange('IndependentComponent', 'dropRate', options.dropRate ?? 0.05, 0, 1 - Number.EPSILON);
    this.momentum = checkRange('IndependentComponent', 'momentum', options.momentum ?? 0.1, 0, 1);
    this.runningMean = this.buffer('runningMean', zeros([this.channels]));
    this.runningVariance = this.buffer('runningVariance', ones([this.channels]));
  }

  override forward(input: Tensor): Tensor {
    const { gamma, beta, runningMean, runningVariance, epsilon, momentum } = this;
    const options = { gamma, beta, runningMean, runningVariance, epsilon, momentum };
    return this.training
      ? independentComponent(input, { ...options, rate: this.dropRate })
      : batchNorm(input, { ...options, training: false });
  }

  override describe(): string {
    return formatOptions({ channels: this.channels, dropRate: this.dropRate });
  }
}
