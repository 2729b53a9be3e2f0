import { EvenkeelError } from '../errors';
import { type AnyModule, Parameter } from '../nn/module';
import { noGrad, scope, Tensor } from '../tensor';
import type { Network } from './types';

/**
 * Runs the forward pass of a batch again, looking at the output of every layer, and makes an error that names the first
 * one that is not finite. The network must still have the weights, and be in the mode, that gave the bad loss.
 *
 * @param where what was going on, for the message: `in step 12 (epoch 1, batch 12 of 45)`.
 */
export function nonFiniteError(model: Network, images: Tensor, loss: number, where: string): EvenkeelError {
  return new EvenkeelError('NON_FINITE', `The loss became ${loss} ${where}. ${findCause(model, images)}`);
}

/** A sentence that says where the first NaN or infinity came from, and what to do about it. */
function findCause(model: Network, images: Tensor): string {
  if (!allFinite(images)) {
    return 'The images of this batch already hold NaN or infinite values: check the data and its normalization.';
  }
  const first = firstNonFiniteLayer(model, images);
  if (first === undefined) {
    return 'The output of every layer is finite, so the loss itself overflowed: check the labels and the loss function.';
  }
  const { name, module } = first;
  const layer = `${name === '' ? 'the model' : `layer ${name}`} (${module.constructor.name})`;
  const parameter = ownParameters(module).find(([, value]) => !allFinite(value));
  if (parameter !== undefined) {
    return (
      `It appeared first in ${layer}, whose ${parameter[0]} is not finite: the gradient of an earlier step overflowed. ` +
      'Use a lower learning rate, a warm-up, or clip the gradient norm (clipNorm).'
    );
  }
  return (
    `It appeared first in the output of ${layer}, from finite inputs and weights. ` +
    'Use a lower learning rate, a warm-up, or a normalization method.'
  );
}

/** Layers finish before what contains them, so the first one reported is the innermost. */
function firstNonFiniteLayer(model: Network, images: Tensor): { name: string; module: AnyModule } | undefined {
  let first: { name: string; module: AnyModule } | undefined;
  const stops = model.namedModules().map(([name, module]) =>
    module.onCall((_, __, output) => {
      if (first === undefined && output instanceof Tensor && !allFinite(output)) {
        first = { name, module };
      }
    }),
  );
  try {
    scope(() => noGrad(() => void model.call(images)));
  } finally {
    for (const stop of stops) {
      stop();
    }
  }
  return first;
}

function ownParameters(module: AnyModule): [string, Parameter][] {
  return Object.entries(module).filter((entry): entry is [string, Parameter] => entry[1] instanceof Parameter);
}

/** Blocks until the values are there, which is fine once training has stopped anyway. */
function allFinite(values: Tensor): boolean {
  return values.dataSync().every(Number.isFinite);
}
