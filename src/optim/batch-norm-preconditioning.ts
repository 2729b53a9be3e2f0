import type { Module } from '../nn/module';
import { BatchNormPreconditioning, type PreconditioningOptions } from '../nn/normalization/preconditioning';

export type { BatchNormPreconditioning, PreconditioningOptions };

/**
 * Batch normalization preconditioning (Lange, Helfrich and Ye 2022) for the convolutions and linear layers of any model: watches the
 * inputs of these layers in training, and changes their gradients, with the running mean μ and variance σ² of each input channel, as if
 * the inputs were normalized. With `σ̃² = σ² + ε₁ max σ² + ε₂`: `gW ← (gW − μ gb) / σ̃² / q²`, then `gb ← gb / q² − Σ gW μ`. Layers without
 * bias are scaled only. The model itself does not change, and a batch may be a single sample.
 *
 * ```ts
 * const preconditioning = optim.batchNormPreconditioning(model);
 * loss.backward();
 * preconditioning.apply();
 * optimizer.step();
 * ```
 *
 * Clip gradients and add weight decay after it (the optimizers here do). Where gradients of several batches are added up, their statistics
 * are merged. For a model made with the method `bnp`, whose layers keep the statistics themselves, they are those.
 *
 * @throws EvenkeelError `INVALID_ARGUMENT` for options out of their range or a model without weight layers, `UNSUPPORTED` for layers that
 * standardize their weights
 */
export function batchNormPreconditioning<Input, Output>(
  model: Module<Input, Output>,
  options: PreconditioningOptions = {},
): BatchNormPreconditioning {
  return new BatchNormPreconditioning(model as never, options);
}
