import type { Tensor } from '../../tensor';
import type { ResidualPair } from '../layers/affine';
import { ThresholdedLinearUnit } from '../layers/filter-response-norm';
import { Module } from '../module';
import { ResidualSum } from './residual-sum';

/** A weight layer with what its method puts in front. */
export class PreparedWeight extends Module {
  /** What the method puts in front of it. */
  readonly before: Module;
  /** The weight layer. */
  readonly layer: Module;

  constructor(before: Module, layer: Module) {
    super();
    this.before = before;
    this.layer = layer;
  }

  override forward(input: Tensor): Tensor {
    return this.layer.call(this.before.call(input));
  }
}

/** The parts of a {@link NormalizedActivation}; what is missing does nothing. */
export interface ActivationParts {
  /** The layer in front of the activation. */
  readonly normalize: Module | undefined;
  /** The activation, unless the layer before applies it. */
  readonly activate: Module | undefined;
  /** The layer after the activation. */
  readonly after: Module | undefined;
}

/** Normalization, activation and what follows it, where a method does not do all of it in one layer. */
export class NormalizedActivation extends Module {
  readonly normalize: Module | undefined;
  readonly activate: Module | undefined;
  readonly after: Module | undefined;

  constructor(parts: ActivationParts) {
    super();
    this.normalize = parts.normalize;
    this.activate = parts.activate;
    this.after = parts.after;
  }

  override forward(input: Tensor): Tensor {
    const normalized = this.normalize?.call(input) ?? input;
    const activated = this.activate?.call(normalized) ?? normalized;
    return this.after?.call(activated) ?? activated;
  }
}

/** The end of a block of ResNet v1, `activation(norm(branch) + shortcut)`, where a method does not do it in one layer. */
export class NormalizedSum extends Module<ResidualPair> {
  readonly normalize: Module | undefined;
  readonly sum: ResidualSum;
  readonly activate: Module | undefined;
  readonly after: Module | undefined;

  constructor(parts: ActivationParts, sum: ResidualSum) {
    super();
    this.normalize = parts.normalize;
    this.sum = sum;
    this.activate = parts.activate;
    this.after = parts.after;
  }

  override forward([branch, shortcut]: ResidualPair): Tensor {
    const activated = this.#activated([this.normalize?.call(branch) ?? branch, shortcut]);
    return this.after?.call(activated) ?? activated;
  }

  /** The activation of the sum, in one pass where the activation adds by itself and the method has nothing to say about the sum. */
  #activated(pair: ResidualPair): Tensor {
    if (this.activate instanceof ThresholdedLinearUnit && this.sum.constructor === ResidualSum) {
      return this.activate.call(pair);
    }
    const sum = this.sum.call(pair);
    return this.activate?.call(sum) ?? sum;
  }
}
