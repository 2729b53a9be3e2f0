import { checkOptions, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { dropout } from '../../tensor/operations/random';
import { checkRange, formatOptions } from '../check';
import { Module } from '../module';

/** Options of {@link Dropout}. */
export interface DropoutOptions {
  /** Chance that a value is set to 0, in `[0, 1)`. Default 0.5. */
  readonly rate?: number;
}

const dropoutOptions = optionNames<DropoutOptions>({ rate: true });

/**
 * In training, sets each value to 0 with chance `rate` and divides the others by `1 − rate`, so that the expected value stays
 * (Srivastava et al. 2014). In evaluation it returns its input. Masks follow from `manualSeed`.
 */
export class Dropout extends Module {
  /** Chance that a value is set to 0. */
  readonly rate: number;

  constructor(options: DropoutOptions = {}) {
    super();
    checkOptions('Dropout', options, dropoutOptions);
    this.rate = checkRange('Dropout', 'rate', options.rate ?? 0.5, 0, 1 - Number.EPSILON);
  }

  override forward(input: Tensor): Tensor {
    return this.training && this.rate > 0 ? dropout(input, this.rate) : input;
  }

  override describe(): string {
    return formatOptions({ rate: this.rate });
  }
}
