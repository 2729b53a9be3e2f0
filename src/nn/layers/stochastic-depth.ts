import { checkOptions, optionNames } from '../../options';
import { ones, type Tensor } from '../../tensor';
import { dropout } from '../../tensor/operations/random';
import { checkRange, formatOptions } from '../check';
import { Module } from '../module';

/** Options of {@link StochasticDepth}. */
export interface StochasticDepthOptions {
  /** Chance that a sample's branch is left out, in `[0, 1)`. Default 0.2. */
  readonly rate?: number;
}

const stochasticDepthOptions = optionNames<StochasticDepthOptions>({ rate: true });

/**
 * Leaves out a residual branch at random (Huang et al. 2016): in training, each sample as a whole is set to 0 with chance `rate` or
 * else divided by `1 − rate`, so that the expected value stays. In evaluation it returns its input. The choices follow from `manualSeed`.
 */
export class StochasticDepth extends Module {
  /** Chance that a sample's branch is left out. */
  readonly rate: number;

  constructor(options: StochasticDepthOptions = {}) {
    super();
    checkOptions('StochasticDepth', options, stochasticDepthOptions);
    this.rate = checkRange('StochasticDepth', 'rate', options.rate ?? 0.2, 0, 1 - 2 ** -24);
  }

  override forward(input: Tensor): Tensor {
    if (!this.training || this.rate === 0) return input;
    const perSample = input.shape.map((size, axis) => (axis === 0 ? size : 1));
    return input.mul(dropout(ones(perSample), this.rate));
  }

  override describe(): string {
    return formatOptions({ rate: Math.round(this.rate * 1e4) / 1e4 });
  }
}
