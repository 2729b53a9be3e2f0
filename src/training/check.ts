import { EvenkeelError } from '../errors';
import { Module } from '../nn/module';
import { Optimizer } from '../optim';
import { describe } from '../options';
import { nearest } from '../spelling';
import { Tensor } from '../tensor';
import { formatShape } from '../tensor/shape';
import type { Network, TrainingCallback } from './types';

/** Checks a loader as JavaScript gave it. A data set is the likeliest thing in its place. @throws EvenkeelError `INVALID_ARGUMENT` */
export function checkLoader(owner: string, name: string, loader: unknown, methods: readonly string[] = []): void {
  const members = Object(loader) as Readonly<Record<PropertyKey, unknown>>;
  const iterates = [Symbol.asyncIterator, Symbol.iterator].some((method) => typeof members[method] === 'function');
  if (iterates && methods.every((method) => typeof members[method] === 'function')) return;
  const lacking = methods.filter((method) => typeof members[method] !== 'function');
  if (iterates && !Array.isArray(loader)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: ${name} has no ${lacking.join(', ')}, which bring a run back to where it stopped; add them, or give a data.DataLoader`,
    );
  }
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `${owner}: expected a loader of batches as ${name}, got ${describe(loader)}; give new data.DataLoader(dataset, { batchSize })`,
  );
}

/** All hooks, each true: the compiler asks for all of them. */
const hooks: Readonly<Record<keyof TrainingCallback, true>> = {
  onStart: true,
  onStep: true,
  onValidationBatch: true,
  onEpoch: true,
  onEnd: true,
  onFailure: true,
};

/**
 * Checks callbacks as JavaScript gave them. A callback may have members of its own, but what is named like a hook must be one.
 *
 * @throws EvenkeelError `INVALID_ARGUMENT`
 */
export function checkCallbacks(callbacks: readonly TrainingCallback[]): void {
  if (!Array.isArray(callbacks)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `fit: expected a list of callbacks, got ${describe(callbacks)}; put a single one in brackets`,
    );
  }
  for (const callback of callbacks as readonly unknown[]) {
    if (typeof callback !== 'object' || callback === null) {
      const known = Object.keys(hooks).join(', ');
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `fit: expected a callback with hooks (${known}), got ${describe(callback)}`,
      );
    }
    for (const name of Object.keys(callback)) if (/^on[A-Z]/.test(name)) checkHook(name);
  }
}

/**
 * Throws `INVALID_ARGUMENT` where an optimizer has parameters of neither the model nor the loss: it was made for another model, and
 * training would change nothing.
 */
export function checkTrains(optimizer: unknown, model: Network, loss: unknown): void {
  if (!(optimizer instanceof Optimizer)) return;
  const trained = new Set<unknown>([...model.parameters(), ...(loss instanceof Module ? loss.parameters() : [])]);
  if (trained.size === 0 || optimizer.parameters.some((parameter) => trained.has(parameter))) return;
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    'Trainer: the optimizer has none of the parameters of the model; make it with parameters of this model: model.parameters()',
  );
}

/**
 * Returns what a loss returned, if it is one number for the batch.
 *
 * @throws EvenkeelError `INVALID_ARGUMENT` for something that is no tensor, `SHAPE_MISMATCH` for more than one number.
 */
export function checkLossValue(owner: string, loss: Tensor): Tensor {
  if (!(loss instanceof Tensor)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: the loss returned ${describe(loss)}; it must return a tensor with one number for the batch`,
    );
  }
  if (loss.size !== 1) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${owner}: the loss returned a tensor of shape ${formatShape(loss.shape)}; it must be one number for the batch, such as the mean`,
    );
  }
  return loss;
}

function checkHook(name: string): void {
  if (Object.hasOwn(hooks, name)) return;
  const names = Object.keys(hooks);
  const meant = nearest(name, names);
  const hint = meant === undefined ? '' : ` (did you mean ${meant}?)`;
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `fit: a callback has no hook ${name}${hint}; the hooks are ${names.join(', ')}`,
  );
}
