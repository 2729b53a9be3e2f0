import { EvenkeelError } from '../errors';
import { AuxiliaryLoss, isAuxiliaryNetwork } from '../nn/auxiliary-loss';
import { checkMethods } from '../nn/check';
import { CrossEntropyLoss, type Loss } from '../nn/losses';
import type { AnyModule } from '../nn/module';
import { type GradientTransform, gradientTransformOf } from '../nn/normalization';
import type { Schedule } from '../optim';
import { checkOptions, optionNames, show } from '../options';
import type { Tensor } from '../tensor';
import { checkCallbacks, checkLoader, checkTrains } from './check';
import { type Evaluation, evaluate, type Prediction, predict } from './evaluate';
import { type FitOptions, FitRun, fitOptions } from './fit-run';
import { reportOptions } from './run-recorder';
import type { EvaluationLoader, FitResult, Network, TrainingLoader, TrainingOptimizer } from './types';

/** Options of {@link Trainer}. */
export interface TrainerOptions {
  /** The network to train, from images to outputs `[batch, classes]`. */
  readonly model: Network;
  /** Updates the network's parameters. */
  readonly optimizer: TrainingOptimizer;
  /**
   * From outputs `[batch, classes]` and labels `[batch]` to the mean loss. Default: cross-entropy. For a network with a second
   * classifier, 0.4 times its loss is added while training; for another factor give an `AuxiliaryLoss`.
   */
  readonly loss?: Loss;
  /** The learning rate of each optimizer step, counted from 0. Default: the optimizer's own, unchanged. */
  readonly schedule?: Schedule;
  /** Scales gradients down so that their global norm is at most this. Default: no clipping. */
  readonly clipNorm?: number;
  /** How many batches' gradients are averaged into one optimizer step. Default 1. */
  readonly gradientAccumulation?: number;
  /**
   * Seed of everything random in training steps (dropout). Each batch gets its own seed from this one and its position, so
   * a run that stops and resumes draws the same numbers as one that never stopped. Default 0.
   */
  readonly seed?: number;
}

const trainerOptions = optionNames<TrainerOptions>({
  model: true,
  optimizer: true,
  loss: true,
  schedule: true,
  clipNorm: true,
  gradientAccumulation: true,
  seed: true,
});

/**
 * Trains a network.
 *
 * ```ts
 * const trainer = new Trainer({ model, optimizer: new optim.SGD(model.parameters(), { learningRate: 0.1 }) });
 * await trainer.fit(trainLoader, { epochs: 10, validation: testLoader, runDirectory: 'runs/first' });
 * ```
 */
export class Trainer {
  readonly model: Network;
  readonly optimizer: TrainingOptimizer;
  readonly loss: Loss;
  readonly schedule: Schedule | undefined;
  readonly clipNorm: number | undefined;
  readonly gradientAccumulation: number;
  readonly seed: number;
  /** What the model's normalization method does to gradients, in front of clipping and the optimizer. */
  readonly gradientTransform: GradientTransform | undefined;

  /** @throws EvenkeelError `INVALID_ARGUMENT` for options out of range. */
  constructor(options: TrainerOptions) {
    checkOptions('Trainer', options, trainerOptions);
    const { model, optimizer, loss = new CrossEntropyLoss(), schedule } = options;
    this.model = checkMethods('Trainer', 'model', model, ['call', 'parameters'], 'a Module, such as models.create(…)');
    this.optimizer = checkMethods(
      'Trainer',
      'optimizer',
      optimizer,
      ['step'],
      'an optimizer, such as new optim.SGD(…)',
    );
    checkMethods('Trainer', 'loss', loss, ['call'], 'a loss, such as new nn.CrossEntropyLoss()');
    checkTrains(optimizer, model, loss);
    if (schedule !== undefined && typeof schedule !== 'function') {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `Trainer: schedule is ${show(schedule)}; give a function of the step, such as optim.schedules.cosine({ … })`,
      );
    }
    this.loss =
      isAuxiliaryNetwork(model) && !(loss instanceof AuxiliaryLoss) ? new AuxiliaryLoss({ model, loss }) : loss;
    this.schedule = schedule;
    this.clipNorm = options.clipNorm;
    this.gradientAccumulation = options.gradientAccumulation ?? 1;
    this.seed = options.seed ?? 0;
    this.gradientTransform = gradientTransformOf(options.model as AnyModule);
    checkWhole('Trainer', 'gradientAccumulation', this.gradientAccumulation, 1);
    checkWhole('Trainer', 'seed', this.seed, 0);
    if (this.clipNorm !== undefined && !(Number.isFinite(this.clipNorm) && this.clipNorm > 0)) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `Trainer: clipNorm must be a positive number, got ${show(this.clipNorm)}`,
      );
    }
  }

  /**
   * Trains for `epochs` epochs, or until it is stopped: by `patience`, `maxSteps`, a callback, `signal`, or (with a run
   * directory) Ctrl-C or SIGTERM. With a run directory, a stopped run can be resumed and goes on bit for bit as if it had
   * never stopped.
   *
   * @throws EvenkeelError `INVALID_ARGUMENT` for options out of range; `NON_FINITE` when the loss becomes NaN or infinite,
   * naming the first layer where it appeared; `IO` when a file cannot be written; whatever a callback throws.
   */
  async fit(loader: TrainingLoader, options: FitOptions): Promise<FitResult> {
    checkOptions('fit', options, fitOptions);
    if (options.report !== undefined) checkOptions('fit report', options.report, reportOptions);
    checkLoader('fit', 'the loader', loader, ['state', 'loadState']);
    if (options.validation !== undefined) checkLoader('fit', 'validation', options.validation);
    checkCallbacks(options.callbacks ?? []);
    const { runDirectory, signal } = options;
    if (runDirectory !== undefined && typeof runDirectory !== 'string') {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `fit: runDirectory is ${show(runDirectory)}; give the path of a folder`,
      );
    }
    if (signal !== undefined) {
      checkMethods('fit', 'signal', signal, ['addEventListener'], 'the signal of an AbortController');
    }
    checkWhole('fit', 'epochs', options.epochs, 1);
    checkWhole('fit', 'maxSteps', options.maxSteps ?? 1, 1);
    checkWhole('fit', 'patience', options.patience ?? 1, 1);
    checkWhole('fit', 'checkpointEvery', options.checkpointEvery ?? 1, 1);
    checkWhole('fit', 'the number of batches of an epoch', loader.length, 1);
    if (options.patience !== undefined && options.validation === undefined) {
      throw new EvenkeelError('INVALID_ARGUMENT', 'fit: patience needs a validation loader to look at');
    }
    return new FitRun(this, loader, options).run();
  }

  /** Loss, accuracy, confusions and mistakes of the network on a loader, in evaluation mode. */
  evaluate(loader: EvaluationLoader): Promise<Evaluation> {
    return evaluate(this.model, loader, { loss: this.loss });
  }

  /** Classifies a batch of images in evaluation mode. */
  predict(images: Tensor): Promise<Prediction[]> {
    return predict(this.model, images);
  }
}

function checkWhole(owner: string, name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: ${name} must be a whole number from ${least}, got ${show(value)}`,
    );
  }
}
