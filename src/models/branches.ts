import { Concatenate, Module } from '../nn';
import type { Tensor } from '../tensor';

/** Several modules on the same input, with the channels of their outputs side by side. */
export class Branches extends Module {
  readonly branches: readonly Module[];
  readonly concatenate = new Concatenate();

  constructor(branches: readonly Module[]) {
    super();
    this.branches = branches;
  }

  override forward(input: Tensor): Tensor {
    return this.concatenate.call(this.branches.map((branch) => branch.call(input)));
  }
}
