import { addRelu, type Tensor } from '../../tensor';
import type { ResidualPair } from '../layers/affine';
import { Module } from '../module';

/**
 * The end of a residual block: `branch + shortcut`. Methods that scale the two, or that carry state along them, extend it.
 */
export class ResidualSum extends Module<ResidualPair> {
  /**
   * What the block's branch, and a shortcut that is more than the identity, get instead of the block's input. The plain sum returns
   * `input`.
   */
  enter(input: Tensor): Tensor {
    return input;
  }

  override forward([branch, shortcut]: ResidualPair): Tensor {
    return branch.add(shortcut);
  }
}

/** The plain addition with a ReLU after it, in one pass. */
export class ResidualSumReLU extends ResidualSum {
  override forward([branch, shortcut]: ResidualPair): Tensor {
    return addRelu(branch, shortcut);
  }
}
