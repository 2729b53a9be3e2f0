import type { Tensor } from '../../tensor';
import { concatenate } from '../../tensor/operations/layout';
import { Module } from '../module';

/** Puts the channels of several values side by side: `[..., c1]`, `[..., c2]`, … to `[..., c1 + c2 + …]`. */
export class Concatenate extends Module<readonly Tensor[]> {
  override forward(inputs: readonly Tensor[]): Tensor {
    return concatenate(inputs, -1);
  }
}
