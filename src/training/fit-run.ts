import { EvenkeelError } from '../errors';
import { clipByGlobalNorm } from '../optim';
import { optionNames } from '../options';
import { manualSeed, memory, scope, synchronize } from '../tensor';
import { addFlips, BinaryMetrics, type FlipCounts, meanOfLayers } from './binary-metrics';
import { checkLossValue } from './check';
import { read as readCheckpoint, restore as restoreCheckpoint, save as saveCheckpoint } from './checkpoint';
import { disposeBatch, type Evaluation, evaluate } from './evaluate';
import { listenForSignals } from './interruption';
import { MetricTotals } from './metrics';
import { nonFiniteError } from './non-finite';
import type { EpochRow } from './run-directory';
import { type ReportOptions, RunRecorder, sampledSteps } from './run-recorder';
import type { Trainer } from './trainer';
import { isBetter, parseTrainingState, seedOfBatch, type TrainingState } from './training-state';
import type {
  Batch,
  EvaluationLoader,
  FitResult,
  StepReport,
  StopReason,
  TrainingCallback,
  TrainingLoader,
} from './types';

/** Options of {@link Trainer.fit}. */
export interface FitOptions {
  /** How many passes over the training data. */
  readonly epochs: number;
  /** Stops after this many optimizer steps. Default: no limit. */
  readonly maxSteps?: number;
  /** Evaluated after each epoch. */
  readonly validation?: EvaluationLoader;
  /** Stops after this many epochs without a better validation. Default: never. */
  readonly patience?: number;
  readonly callbacks?: readonly TrainingCallback[];
  /** Aborting it ends the run after the current step, as Ctrl-C does. */
  readonly signal?: AbortSignal;
  /** Folder for configuration, logs, checkpoints and report. Default: nothing is written. */
  readonly runDirectory?: string;
  /** Whether to go on from the run directory's last checkpoint, where there is one. Default `false`: begin anew. */
  readonly resume?: boolean;
  /** Optimizer steps between two checkpoints, beside the one after each epoch. Default: after epochs only. */
  readonly checkpointEvery?: number;
  /** Whether Ctrl-C and SIGTERM save and stop, and a second one ends the process. Default: with a run directory only. */
  readonly handleSignals?: boolean;
  /** How model and data were built: kept in `config.json`, in the checkpoints and in the report. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** What the report shows beside the numbers. */
  readonly report?: ReportOptions;
}

/** The names of {@link FitOptions}. */
export const fitOptions = optionNames<FitOptions>({
  epochs: true,
  maxSteps: true,
  validation: true,
  patience: true,
  callbacks: true,
  signal: true,
  runDirectory: true,
  resume: 'boolean',
  checkpointEvery: true,
  handleSignals: 'boolean',
  config: true,
  report: true,
});

const NO_FLIPS: FlipCounts = { samples: 0, flips: [] };

/** One call of {@link Trainer.fit}. */
export class FitRun {
  readonly #trainer: Trainer;
  readonly #loader: TrainingLoader;
  readonly #options: FitOptions;
  readonly #callbacks: readonly TrainingCallback[];
  readonly #recorder: RunRecorder | undefined;
  readonly #totals = new MetricTotals();
  readonly #binary: BinaryMetrics;
  #state: TrainingState;
  /** Set once the run is to end; looked at after each step. */
  #stop: StopReason | undefined;
  readonly #interruption = new AbortController();
  readonly #control = {
    stop: () => {
      this.#stop ??= 'stopped by a callback';
    },
  };
  /** When the clock of the current epoch was last read. */
  #clock = 0;

  constructor(trainer: Trainer, loader: TrainingLoader, options: FitOptions) {
    this.#trainer = trainer;
    this.#loader = loader;
    this.#options = options;
    this.#callbacks = options.callbacks ?? [];
    this.#binary = new BinaryMetrics(trainer.model);
    this.#recorder =
      options.runDirectory === undefined
        ? undefined
        : new RunRecorder(options.runDirectory, options.config ?? {}, options.report);
    this.#state = {
      seed: trainer.seed,
      batches: loader.length,
      gradientAccumulation: trainer.gradientAccumulation,
      step: 0,
      epoch: 0,
      batch: 0,
      totals: this.#totals.state(),
      trainSeconds: 0,
      seconds: 0,
      history: [],
      best: undefined,
      epochsWithoutImprovement: 0,
      findings: undefined,
    };
  }

  async run(): Promise<FitResult> {
    const { signal, epochs, handleSignals = this.#recorder !== undefined } = this.#options;
    const interrupt = () => {
      this.#stop ??= 'interrupted';
      this.#interruption.abort();
    };
    const signals = handleSignals ? listenForSignals(interrupt) : undefined;
    signal?.addEventListener('abort', interrupt);
    if (signal?.aborted) {
      interrupt();
    }
    try {
      await this.#begin();
      this.#trainer.model.train();
      for (const callback of this.#callbacks) {
        await callback.onStart?.({ resumedAtStep: this.#state.step, epochs });
      }
      this.#clock = performance.now();
      this.#checkLimits();
      while (this.#stop === undefined) {
        await this.#trainEpoch();
        if (this.#state.batch === this.#state.batches && this.#stop !== 'interrupted') {
          await this.#finishEpoch();
        }
        this.#checkLimits();
      }
      return await this.#end(this.#stop);
    } catch (error) {
      await this.#recordFailure(error);
      for (const callback of this.#callbacks) {
        callback.onFailure?.(error);
      }
      throw error;
    } finally {
      signals?.close();
      signal?.removeEventListener('abort', interrupt);
      this.#zeroGradients();
    }
  }

  /** Goes on from the last checkpoint where that is wanted and there is one; otherwise starts the run directory anew. */
  async #begin(): Promise<void> {
    const recorder = this.#recorder;
    if (recorder === undefined || this.#options.resume !== true || !(await recorder.directory.hasCheckpoint())) {
      this.#loader.restart?.();
      await recorder?.begin();
      return;
    }
    const { model, optimizer } = this.#trainer;
    const path = recorder.directory.last;
    // Looked at before anything is overwritten.
    const content = await readCheckpoint(path);
    const state = parseTrainingState(path, content.info.training, this.#state);
    await restoreCheckpoint(path, content, { model, optimizer, loader: this.#loader });
    this.#state = state;
    this.#totals.loadState(state.totals);
    await recorder.resume(state.step);
  }

  #checkLimits(): void {
    const { epochs, maxSteps = Number.POSITIVE_INFINITY, patience = Number.POSITIVE_INFINITY } = this.#options;
    if (this.#state.epoch >= epochs) {
      this.#stop ??= 'finished';
    } else if (this.#state.epochsWithoutImprovement >= patience) {
      this.#stop ??= 'early stopping';
    } else if (this.#state.step >= maxSteps) {
      this.#stop ??= 'maximum steps';
    }
  }

  /** The rest of one epoch, from the batch at which the loader stands. */
  async #trainEpoch(): Promise<void> {
    const state = this.#state;
    if (state.batch === state.batches) {
      return;
    }
    const { gradientAccumulation } = this.#trainer;
    let groupLoss = 0;
    for await (const batch of this.#loader) {
      const inGroup = state.batch % gradientAccumulation;
      // The last group of an epoch may be smaller; its average is over the batches it has.
      const group = Math.min(gradientAccumulation, state.batches - (state.batch - inGroup));
      groupLoss += (await this.#accumulate(batch)) / group;
      state.batch += 1;
      if (inGroup + 1 < group) {
        continue;
      }
      const learningRate = await this.#update(group);
      await this.#afterStep(groupLoss, learningRate);
      groupLoss = 0;
      if (state.batch < state.batches) {
        this.#checkLimits();
      }
      if (this.#stop !== undefined) {
        return;
      }
    }
    if (state.batch !== state.batches) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `fit: the loader's length is ${state.batches}, but the epoch ended after ${state.batch} batches`,
      );
    }
  }

  /**
   * Forward and backward pass of one batch, and its metrics. Resolves when the forward pass is done: by then the stream
   * holds the whole backward pass, which keeps it busy while the next step is enqueued, and the loss is known before it
   * can spoil the weights.
   */
  async #accumulate(batch: Batch): Promise<number> {
    const { model, loss: lossFunction, seed } = this.#trainer;
    const state = this.#state;
    const { images, labels } = batch;
    const batchSeed = seedOfBatch(seed, state.epoch * state.batches + state.batch);
    try {
      manualSeed(batchSeed);
      const reads = scope(() => {
        const logits = model.call(images);
        const loss = checkLossValue('fit', lossFunction.call(logits, labels));
        // Enqueued before the backward pass, so that they do not wait for it.
        const values = Promise.all([loss.item(), logits.data(), labels.data()]);
        // Where the backward pass throws, nobody waits for them: their failure would end the process.
        values.catch(() => undefined);
        loss.backward();
        return { values };
      });
      const [loss, logits, labelValues] = await reads.values;
      if (!Number.isFinite(loss)) {
        // The same numbers as the first time, in dropout too.
        manualSeed(batchSeed);
        throw nonFiniteError(model, images, loss, this.#position());
      }
      this.#totals.add(loss, logits, labelValues);
      return loss;
    } finally {
      disposeBatch(batch);
    }
  }

  #position(): string {
    const { step, epoch, batch, batches } = this.#state;
    return `in step ${step + 1} (epoch ${epoch + 1}, batch ${batch + 1} of ${batches})`;
  }

  /** One optimizer step with the average of the gradients of `group` batches. Returns its learning rate. */
  async #update(group: number): Promise<number> {
    const { model, optimizer, schedule, clipNorm, gradientTransform } = this.#trainer;
    const state = this.#state;
    if (schedule !== undefined) {
      optimizer.learningRate = schedule(state.step);
    }
    let flips: Promise<number[]> | undefined;
    scope(() => {
      gradientTransform?.apply(model.parameters(), 1 / group);
      if (clipNorm !== undefined) {
        // The gradients are sums over the group; the step divides them.
        clipByGlobalNorm(model.parameters(), clipNorm * group);
      }
      const update = () => optimizer.step({ gradientScale: 1 / group });
      if (!this.#binary.empty && (state.step + 1) % sampledSteps(state.batches) === 0) {
        flips = this.#binary.measure(update);
      } else {
        update();
      }
    });
    this.#zeroGradients();
    state.step += 1;
    if (flips !== undefined) {
      state.flips = addFlips(state.flips ?? NO_FLIPS, await flips);
    }
    return optimizer.learningRate;
  }

  #zeroGradients(): void {
    this.#trainer.model.zeroGrad();
  }

  async #afterStep(loss: number, learningRate: number): Promise<void> {
    const state = this.#state;
    state.trainSeconds += this.#tick();
    const metrics = this.#totals.values();
    const report: StepReport = {
      step: state.step,
      epoch: state.epoch + 1,
      epochs: this.#options.epochs,
      batch: state.batch,
      batches: state.batches,
      loss,
      learningRate,
      metrics,
      imagesPerSecond: metrics.examples / state.trainSeconds,
    };
    await this.#recorder?.step(report);
    for (const callback of this.#callbacks) {
      await callback.onStep?.(report, this.#control);
    }
    const { checkpointEvery } = this.#options;
    if (checkpointEvery !== undefined && state.step % checkpointEvery === 0) {
      await this.#saveLast();
    }
  }

  /** Seconds since the last call. */
  #tick(): number {
    const now = performance.now();
    const seconds = (now - this.#clock) / 1000;
    this.#clock = now;
    return seconds;
  }

  /** Validation, logs and checkpoints after the last batch of an epoch; an interrupted validation is done again later. */
  async #finishEpoch(): Promise<void> {
    const state = this.#state;
    const { peakBytes } = memory();
    const validation = await this.#validate();
    if (validation?.complete === false) {
      return;
    }
    state.seconds += this.#tick();
    const train = this.#totals.values();
    const layers = await this.#binary.rows(state.flips ?? NO_FLIPS);
    const row: EpochRow = {
      epoch: state.epoch + 1,
      step: state.step,
      learningRate: this.#trainer.optimizer.learningRate,
      trainLoss: train.loss,
      trainTop1: train.top1,
      ...(train.top5 === undefined ? {} : { trainTop5: train.top5 }),
      ...(validation === undefined ? {} : { validationLoss: validation.loss, validationTop1: validation.top1 }),
      ...(validation?.top5 === undefined ? {} : { validationTop5: validation.top5 }),
      imagesPerSecond: train.examples / state.trainSeconds,
      seconds: state.seconds + state.trainSeconds,
      peakBytes,
      ...(layers.length === 0 ? {} : meanOfLayers(layers)),
    };
    const better = isBetter(row, state.best);
    state.best = better ? row : state.best;
    state.epochsWithoutImprovement = better ? 0 : state.epochsWithoutImprovement + 1;
    state.findings = validation && { confusion: validation.confusion, mistakes: validation.mistakes };
    state.history.push(row);
    state.epoch += 1;
    state.batch = 0;
    state.trainSeconds = 0;
    state.seconds = 0;
    delete state.flips;
    this.#totals.loadState(new MetricTotals().state());
    // Logs first: after a crash in between, resuming cuts them back to the checkpoint.
    await this.#recorder?.epoch(row);
    if (layers.length > 0) {
      await this.#recorder?.binary(row.step, row.epoch, layers);
    }
    if (better) {
      await this.#saveBest(row);
    }
    await this.#saveLast();
    for (const callback of this.#callbacks) {
      await callback.onEpoch?.(row, this.#control);
    }
    this.#tick();
  }

  async #validate(): Promise<Evaluation | undefined> {
    const { validation, epochs } = this.#options;
    if (validation === undefined) {
      return undefined;
    }
    const { model, loss } = this.#trainer;
    const start = performance.now();
    const fixed = {
      epoch: this.#state.epoch + 1,
      epochs,
      batches: validation.length,
      trainBatches: this.#state.batches,
    };
    return evaluate(model, validation, {
      loss,
      signal: this.#interruption.signal,
      onBatch: async (batch, metrics) => {
        const imagesPerSecond = (1000 * metrics.examples) / (performance.now() - start);
        for (const callback of this.#callbacks) {
          await callback.onValidationBatch?.({ ...fixed, batch, metrics, imagesPerSecond });
        }
      },
    });
  }

  async #saveBest(row: EpochRow): Promise<void> {
    if (this.#recorder === undefined) {
      return;
    }
    const { model } = this.#trainer;
    await saveCheckpoint(this.#recorder.directory.best, {
      model,
      requireFinite: true,
      config: this.#options.config ?? {},
      extra: row,
    });
  }

  async #saveLast(): Promise<void> {
    if (this.#recorder === undefined) {
      return;
    }
    const { model, optimizer } = this.#trainer;
    const state = this.#state;
    await this.#recorder.event({ type: 'checkpoint', step: state.step, epoch: state.epoch, batch: state.batch });
    await saveCheckpoint(this.#recorder.directory.last, {
      model,
      optimizer,
      loader: this.#loader,
      requireFinite: true,
      config: this.#options.config ?? {},
      training: { ...state, totals: this.#totals.state() },
    });
  }

  async #end(reason: StopReason): Promise<FitResult> {
    const state = this.#state;
    await synchronize();
    const recorder = this.#recorder;
    if (recorder !== undefined) {
      await recorder.event({ type: 'stop', step: state.step, reason });
      if (state.batch !== 0) {
        await this.#saveLast();
      }
      const complete = reason === 'finished' || reason === 'early stopping';
      await recorder.writeReport(state.history, state.findings, reason, complete);
    }
    const result: FitResult = {
      reason,
      epochs: state.epoch,
      steps: state.step,
      history: state.history,
      best: state.best,
      files: recorder === undefined ? [] : recorder.files,
    };
    for (const callback of this.#callbacks) {
      await callback.onEnd?.(result);
    }
    return result;
  }

  /** Leaves a trace of a failed run in its log; the checkpoint stays that of the last good moment. */
  async #recordFailure(error: unknown): Promise<void> {
    const code = error instanceof EvenkeelError ? error.code : 'INTERNAL';
    const message = error instanceof Error ? error.message : String(error);
    try {
      await this.#recorder?.event({ type: 'error', step: this.#state.step, code, message });
    } catch {
      // The error that ended the run matters more than that it could not be logged.
    }
  }
}
