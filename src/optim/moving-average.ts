import { EvenkeelError } from '../errors';
import { checkState, type StateSource, writeState } from '../nn/state';
import { checkOptions, optionNames } from '../options';
import { keep, type Tensor } from '../tensor';
import { type Argument, allocate, run, runWords } from '../tensor/tensor';
import { checkNumber, checkParameters } from './optimizer';

/** Options of {@link ExponentialMovingAverage}. */
export interface ExponentialMovingAverageOptions {
  /** How much of the average is kept at each update, in `[0, 1)`. @defaultValue 0.999 */
  readonly decay?: number;
  /** Whether early updates keep less, `min(decay, (1 + n) / (10 + n))`, so that the first weights are soon forgotten. @defaultValue true */
  readonly warmup?: boolean;
}

const movingAverageOptions = optionNames<ExponentialMovingAverageOptions>({ decay: true, warmup: 'boolean' });

/**
 * A running average of weights, `average += (1 - decay) * (weight - average)`, which often predicts better than the last weights
 * do (Polyak & Juditsky 1992).
 *
 * ```ts
 * const average = new optim.ExponentialMovingAverage(model.parameters());
 * // after each optimizer step:
 * average.update();
 * // to evaluate with the averages:
 * average.swap();
 * await trainer.evaluate(validation);
 * average.swap();
 * ```
 */
export class ExponentialMovingAverage {
  readonly #parameters: readonly Tensor[];
  readonly #averages: readonly Tensor[];
  readonly #decay: number;
  readonly #warmup: boolean;
  #updates = 0;
  #swapped = false;

  /** Starts from the parameters as they are now. @throws EvenkeelError INVALID_ARGUMENT */
  constructor(parameters: readonly Tensor[], options: ExponentialMovingAverageOptions = {}) {
    checkOptions('ExponentialMovingAverage', options, movingAverageOptions);
    checkParameters('ExponentialMovingAverage', parameters);
    this.#decay = checkNumber('ExponentialMovingAverage', 'decay', options.decay ?? 0.999, 0, 1);
    this.#warmup = options.warmup ?? true;
    this.#parameters = [...parameters];
    this.#averages = parameters.map((parameter) => {
      const average = keep(allocate('ExponentialMovingAverage', parameter.shape));
      run('copy', [average], parameter);
      return average;
    });
  }

  /** Takes in the weights as they are now. */
  update(): void {
    if (this.#swapped) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        'ExponentialMovingAverage: the model holds the averages now; call swap() to put the weights back before update()',
      );
    }
    const n = this.#updates++;
    const decay = this.#warmup ? Math.min(this.#decay, (1 + n) / (10 + n)) : this.#decay;
    if (this.#averages.length === 0) return;
    const words: Argument[] = [this.#averages.length];
    for (const [index, average] of this.#averages.entries()) {
      average.storage.version++;
      words.push(average, this.#parameters[index]!, decay);
    }
    runWords('moving_average_step', [], words);
  }

  /** Whether the model holds the averages, and this object the weights. */
  get isSwapped(): boolean {
    return this.#swapped;
  }

  /** Exchanges weights and averages: once to evaluate with the averages, once more to go on training. */
  swap(): void {
    for (const [index, average] of this.#averages.entries()) {
      const parameter = this.#parameters[index]!;
      average.storage.version++;
      parameter.storage.version++;
      run('swap', [], parameter, average);
    }
    this.#swapped = !this.#swapped;
  }

  /** The averages by position (live tensors), and the number of updates. */
  stateDict(): { readonly tensors: ReadonlyMap<string, Tensor>; readonly values: { readonly updates: number } } {
    return {
      tensors: new Map(this.#averages.map((average, index) => [`${index}`, average])),
      values: { updates: this.#updates },
    };
  }

  /** Goes on from a state of {@link stateDict}. @throws EvenkeelError where it does not fit; nothing is loaded then */
  loadStateDict(state: { readonly tensors: StateSource; readonly values: Readonly<Record<string, unknown>> }): void {
    const updates = state.values['updates'];
    if (!Number.isSafeInteger(updates)) {
      throw new EvenkeelError('INVALID_ARGUMENT', 'ExponentialMovingAverage: the state has no number of updates');
    }
    const own = this.stateDict().tensors;
    checkState('ExponentialMovingAverage', own, state.tensors, true);
    for (const [name, average] of own) writeState(average, state.tensors.get(name)!);
    this.#updates = updates as number;
  }

  /** Frees the averages. */
  dispose(): void {
    for (const average of this.#averages) average.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
