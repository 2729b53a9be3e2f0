import type { Tensor } from '../../tensor';
import { concatenate } from '../../tensor/operations/layout';
import { Module } from '../module';
import { concatenateStates, StateHolder } from '../statistics-chain';

/** Puts the channels of several values side by side: `[..., c1]`, `[..., c2]`, … to `[..., c1 + c2 + …]`. */
export class Concatenate extends Module<readonly Tensor[]> {
  readonly #holder = new StateHolder();

  protected override release(): void {
    this.#holder.dispose();
  }

  override forward(inputs: readonly Tensor[]): Tensor {
    return concatenateStates(inputs, concatenate(inputs, -1), this.#holder);
  }
}
