import { EvenkeelError } from '../errors';
import { full, keep, noGrad, scope, Tensor, zeros } from '../tensor';
import { batchNorm } from '../tensor/operations/normalization';
import { isAuxiliaryNetwork } from './auxiliary-loss';
import { checkMethods } from './check';
import { BatchNorm } from './layers/batch-norm';
import { IndependentComponent } from './layers/independent-component';
import { type ChannelStatistics, mergeStatistics } from './merge-statistics';
import type { AnyModule, Module } from './module';
import { ObservedConv2d, ObservedLinear } from './normalization/preconditioning';
import { silenceNoise } from './without-noise';

/** A batch: the model's input, which stays the caller's; or what a loader gives, whose tensors are freed. */
export type StatisticsBatch = Tensor | { readonly images: Tensor; readonly labels?: Tensor };

/** Where a layer keeps statistics of its input. */
interface Target {
  readonly name: string;
  readonly module: AnyModule;
  readonly mean: Tensor | undefined;
  readonly variance: Tensor | undefined;
  /** Running `√(variance + epsilon)`. */
  readonly deviation: Tensor | undefined;
  readonly epsilon: number;
  /** Whether the layer keeps the unbiased variance. */
  readonly unbiased: boolean;
  readonly parts: ChannelStatistics[];
}

/**
 * Replaces the running statistics of a model's layers by exact ones: mean and variance of each layer's input, pooled over all values of
 * all batches (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", call it precise batch normalization). Moving averages follow
 * the newest batches and weights that have changed since; pooled statistics belong to the weights as they are.
 *
 * Batches go through the model in training mode, so use the batch size of training, or a larger one; dropout and stochastic depth are
 * switched off. Every layer with the buffers `runningMean`, `runningVariance` or `runningDeviation` takes part (`batch`, `batch-renorm`,
 * `ghost`, `evonorm-b0`, `switchable`, `online`, `ic`, `kalman`), and the input statistics of `bnp`; each in its own convention (biased or
 * unbiased). Everything else of the model stays as it was, modes included; so do layers that the batches do not reach. After an error all
 * of the model is as it was.
 *
 * ```ts
 * await nn.recomputeRunningStatistics(model, new data.DataLoader(train, { batchSize: 256 }));
 * ```
 *
 * @param model - A model that takes one tensor.
 * @param batches - Tensors, or the batches of a loader; one pass is made over them.
 * @throws EvenkeelError `UNSUPPORTED` for a model without running statistics, `INVALID_ARGUMENT` for no batches, `NON_FINITE` when the input
 * of a layer has a NaN or an infinity, and whatever the model throws.
 */
export async function recomputeRunningStatistics(
  model: Module<Tensor, unknown>,
  batches: Iterable<StatisticsBatch> | AsyncIterable<StatisticsBatch>,
): Promise<void> {
  checkMethods('recomputeRunningStatistics', 'model', model, ['call', 'modules'], 'a Module, such as models.create(…)');
  const targets = model.namedModules().flatMap(([name, module]) => targetOf(name, module) ?? []);
  if (targets.length === 0) {
    throw new EvenkeelError(
      'UNSUPPORTED',
      'recomputeRunningStatistics: no layer of the model has running statistics, so there is nothing to recompute; methods that have some ' +
        'are batch, batch-renorm, ghost, evonorm-b0, switchable, online, ic, kalman and bnp',
    );
  }
  const modes = model.modules().map((module) => [module, module.training] as const);
  const buffers: (readonly [Tensor, Awaited<ReturnType<Tensor['data']>>])[] = [];
  for (const buffer of model.buffers()) buffers.push([buffer, (await buffer.data()).slice()]);
  model.train();
  const unsilence = silenceNoise(model as AnyModule);
  try {
    for await (const batch of batches) await observe(model, targets, batch);
  } finally {
    // The passes moved running statistics, counters and the like.
    for (const [buffer, values] of buffers) buffer.copyFrom(values);
    unsilence();
    for (const [module, training] of modes) module.training = training;
  }
  if (targets.every(({ parts }) => parts.length === 0)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      'recomputeRunningStatistics: there were no batches, or none with values; give at least one',
    );
  }
  for (const target of targets) if (target.parts.length > 0) write(target);
}

function targetOf(name: string, module: AnyModule): Target | undefined {
  const parts: ChannelStatistics[] = [];
  const own = { name, module, epsilon: 0, unbiased: false, parts };
  if (module instanceof ObservedConv2d || module instanceof ObservedLinear) {
    const { mean, variance } = module.inputStatistics;
    return { ...own, mean, variance, deviation: undefined };
  }
  const named = new Map(module.namedBuffers());
  const [mean, variance, deviation] = ['runningMean', 'runningVariance', 'runningDeviation'].map((each) =>
    named.get(each),
  );
  if (mean === undefined && variance === undefined && deviation === undefined) return undefined;
  const epsilon = 'epsilon' in module && typeof module.epsilon === 'number' ? module.epsilon : 0;
  const unbiased = module instanceof BatchNorm || module instanceof IndependentComponent;
  return { ...own, mean, variance, deviation, epsilon, unbiased };
}

/** One forward pass, and the statistics of every target's input. */
async function observe(
  model: Module<Tensor, unknown>,
  targets: readonly Target[],
  batch: StatisticsBatch,
): Promise<void> {
  const seen: { target: Target; count: number; mean: Tensor; variance: Tensor }[] = [];
  const removers = targets.map((target) =>
    target.module.onCall((_, input) => {
      const value: unknown = Array.isArray(input) ? input[0] : input;
      if (!(value instanceof Tensor) || value.size === 0) return;
      seen.push({ target, count: value.size / (value.shape.at(-1) ?? 1), ...statisticsOf(value) });
    }),
  );
  try {
    noGrad(() => scope(() => void model.call(batch instanceof Tensor ? batch : batch.images)));
    if (isAuxiliaryNetwork(model)) model.takeAuxiliaryLogits()?.dispose();
    for (const { target, count, mean, variance } of seen) {
      const [means, variances] = await Promise.all([mean.data(), variance.data()]);
      if (!(means.every(Number.isFinite) && variances.every((value) => value >= 0))) {
        throw new EvenkeelError(
          'NON_FINITE',
          `recomputeRunningStatistics: the input of ${target.name || 'the model'} has a NaN or an infinity; the model was left as it was`,
        );
      }
      // The kernel gives the unbiased variance.
      const biased = Float64Array.from(variances, (value) => (value * (count - 1)) / count);
      target.parts.push({ count, mean: means, variance: biased });
    }
  } finally {
    for (const remove of removers) remove();
    for (const { mean, variance } of seen) for (const tensor of [mean, variance]) tensor.dispose();
    if (!(batch instanceof Tensor)) for (const tensor of [batch.images, batch.labels]) tensor?.dispose();
  }
}

/** Mean and unbiased variance of each channel; a negative variance where they are not finite. */
function statisticsOf(input: Tensor): { mean: Tensor; variance: Tensor } {
  const channels = input.shape.at(-1) ?? 1;
  if (input.size === channels) return { mean: keep(input.reshape([channels])), variance: keep(zeros([channels])) };
  // With the momentum 1, what would be the running statistics are those of the batch; a batch that is not finite leaves them as they are.
  const statistics = { runningMean: keep(zeros([channels])), runningVariance: keep(full([channels], -1)) };
  batchNorm(input, { training: true, momentum: 1, ...statistics });
  return { mean: statistics.runningMean, variance: statistics.runningVariance };
}

function write({ mean, variance, deviation, epsilon, unbiased, parts }: Target): void {
  const merged = mergeStatistics(parts);
  const { count } = merged;
  const factor = unbiased && count > 1 ? count / (count - 1) : 1;
  mean?.copyFrom(Float32Array.from(merged.mean));
  variance?.copyFrom(Float32Array.from(merged.variance, (value) => value * factor));
  deviation?.copyFrom(Float32Array.from(merged.variance, (value) => Math.sqrt(value + epsilon)));
}
