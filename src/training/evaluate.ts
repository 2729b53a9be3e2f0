import { EvenkeelError } from '../errors';
import { checkMethods } from '../nn/check';
import type { Loss } from '../nn/losses';
import { checkOptions, optionNames } from '../options';
import { noGrad, scope, type Tensor } from '../tensor';
import { checkTensor } from '../tensor/operations/check';
import { checkLoader, checkLossValue } from './check';
import { type Findings, FindingsCollector, type Metrics, MetricTotals, softmaxRow } from './metrics';
import { nonFiniteError } from './non-finite';
import type { Batch, EvaluationLoader, Network } from './types';

/** Options of {@link evaluate}. */
export interface EvaluateOptions {
  /** From outputs and labels to the mean loss. */
  readonly loss: Loss;
  /** Called after each batch, with the averages so far. */
  readonly onBatch?: (batch: number, metrics: Metrics) => void | Promise<void>;
  /** Aborting it ends the pass early. */
  readonly signal?: AbortSignal;
}

/** What {@link evaluate} returns: averages, confusions and the most confident mistakes. */
export interface Evaluation extends Metrics, Findings {
  /** Whether every batch was seen. */
  readonly complete: boolean;
}

const evaluateOptions = optionNames<EvaluateOptions>({ loss: true, onBatch: true, signal: true });

/**
 * Runs a network over a loader in evaluation mode, without gradients, and leaves its mode as it was.
 *
 * @throws EvenkeelError `INVALID_ARGUMENT` for an empty loader, `NON_FINITE` when the loss is not a finite number.
 */
export async function evaluate(
  model: Network,
  loader: EvaluationLoader,
  options: EvaluateOptions,
): Promise<Evaluation> {
  checkOptions('evaluate', options, evaluateOptions);
  checkModel('evaluate', model);
  checkMethods('evaluate', 'loss', options.loss, ['call'], 'a loss, such as new nn.CrossEntropyLoss()');
  checkLoader('evaluate', 'the loader', loader);
  const totals = new MetricTotals();
  let collector: FindingsCollector | undefined;
  let complete = true;
  await inEvaluationMode(model, async () => {
    let done = 0;
    loader.restart?.();
    for await (const batch of loader) {
      try {
        const { loss, logits, labels } = await forward(model, batch, options.loss);
        if (!Number.isFinite(loss)) {
          throw nonFiniteError(model, batch.images, loss, 'while evaluating');
        }
        totals.add(loss, logits, labels);
        collector ??= new FindingsCollector(logits.length / Math.max(1, labels.length));
        collector.add(logits, labels);
      } finally {
        disposeBatch(batch);
      }
      done += 1;
      await options.onBatch?.(done, totals.values());
      if (options.signal?.aborted && done < loader.length) {
        complete = false;
        break;
      }
    }
  });
  if (collector === undefined) {
    throw new EvenkeelError('INVALID_ARGUMENT', 'evaluate: the loader has no batches; give it at least one image');
  }
  return { ...totals.values(), ...collector.findings(), complete };
}

/** The forward pass of one batch; resolves to plain numbers. */
async function forward(model: Network, { images, labels }: Batch, loss: Loss) {
  const results = scope(() =>
    noGrad(() => {
      const logits = model.call(images);
      return { logits, loss: checkLossValue('evaluate', loss.call(logits, labels)) };
    }),
  );
  try {
    // Called together, the three reads wait for the stream once.
    const [lossValue, logits, labelValues] = await Promise.all([
      results.loss.item(),
      results.logits.data(),
      labels.data(),
    ]);
    return { loss: lossValue, logits, labels: labelValues };
  } finally {
    results.loss.dispose();
    results.logits.dispose();
  }
}

function checkModel(owner: string, model: Network): void {
  checkMethods(owner, 'model', model, ['call', 'modules'], 'a Module, such as models.create(…)');
}

/** What a network says about one image. */
export interface Prediction {
  /** The most probable class. */
  readonly label: number;
  /** The probability of each class. */
  readonly probabilities: readonly number[];
}

/**
 * Classifies a batch of images in evaluation mode, without gradients, and leaves the network's mode as it was.
 *
 * @param images `[batch, height, width, channels]`, normalized as in training; stays the caller's.
 */
export async function predict(model: Network, images: Tensor): Promise<Prediction[]> {
  checkModel('predict', model);
  checkTensor('predict', 'images', images);
  return inEvaluationMode(model, async () => {
    const logits = scope(() => noGrad(() => model.call(images)));
    const values = await logits.data().finally(() => logits.dispose());
    const batch = images.shape[0] ?? 0;
    const classes = batch === 0 ? 0 : values.length / batch;
    return Array.from({ length: batch }, (_, row) => {
      const probabilities = softmaxRow(values, row * classes, classes);
      return { label: probabilities.indexOf(Math.max(...probabilities)), probabilities };
    });
  });
}

/** Runs `body` with every module in evaluation mode, and gives each module its own mode back. */
async function inEvaluationMode<Result>(model: Network, body: () => Promise<Result>): Promise<Result> {
  const modes = model.modules().map((module) => [module, module.training] as const);
  model.eval();
  try {
    return await body();
  } finally {
    for (const [module, training] of modes) {
      module.training = training;
    }
  }
}

/** Frees the tensors of a batch. */
export function disposeBatch({ images, labels }: Batch): void {
  images.dispose();
  labels.dispose();
}
