import { EvenkeelError } from '../errors';
import { checkState, type StateValue, writeState } from '../nn/state';
import {
  checkOptions,
  describe,
  type KnownOptions,
  type OptionKind,
  type OptionNames,
  optionNames,
  show,
} from '../options';
import { keep, Tensor, zeros } from '../tensor';
import { type Argument, runWords } from '../tensor/tensor';

/** What every optimizer can set for each group of parameters. */
export interface OptimizerOptions {
  /** Step size, at least 0. */
  readonly learningRate: number;
  /**
   * Weight decay, at least 0. In a plain list it spares parameters whose `decay` is false (biases, scales and shifts); in a group
   * it applies to every parameter. @defaultValue 0
   */
  readonly weightDecay?: number;
}

/** For the optimizers that extend {@link Optimizer}. */
export const optimizerNames: OptionNames<OptimizerOptions> = { learningRate: true, weightDecay: true };

/** Parameters with settings of their own; what is left out is taken from the optimizer's options. */
export type ParameterGroup<Options extends OptimizerOptions> = Partial<Options> & {
  /** The parameters of the group. */
  readonly parameters: readonly Tensor[];
};

/** What an optimizer trains: a list of parameters, or groups with settings of their own. */
export type Trainable<Options extends OptimizerOptions> = readonly Tensor[] | readonly ParameterGroup<Options>[];

/** An optimizer's state: tensors by name, and plain values that survive JSON. */
export interface OptimizerState<Value = Tensor> {
  /** State of each parameter, by its position and the state's name: `0.velocity`. */
  readonly tensors: ReadonlyMap<string, Value>;
  /** Which optimizer it is, its learning rate, and the steps done by each parameter. */
  readonly values: Readonly<Record<string, unknown>>;
}

/** Options of {@link Optimizer.step}. */
export interface StepOptions {
  /** Factor on every gradient, at no extra cost: 1 / batches where gradients of several were added up. @defaultValue 1 */
  readonly gradientScale?: number;
}

const stepOptions = optionNames<StepOptions>({ gradientScale: true });

/** A parameter with its settings and state. */
interface Entry<Settings> {
  readonly parameter: Tensor;
  readonly settings: Settings;
  /** The group's learning rate, divided by the optimizer's, times the parameter's own scale. */
  readonly rateRatio: number;
  readonly states: ReadonlyMap<string, Tensor>;
  /** Steps done. */
  steps: number;
}

/** Checks that a hyperparameter is a number in `low..high`. */
export function checkNumber(owner: string, name: string, value: number, low: number, high: number): number {
  if (typeof value !== 'number' || !(value >= low && value < high)) {
    const range = high === Number.POSITIVE_INFINITY ? `of at least ${low}` : `of at least ${low} and less than ${high}`;
    throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: ${name} must be a number ${range}, got ${show(value)}`);
  }
  return value;
}

/** Throws `INVALID_ARGUMENT` where JavaScript gave no list of tensors: a module, most likely. */
export function checkParameters(owner: string, parameters: readonly Tensor[]): void {
  if (Array.isArray(parameters) && parameters.every((parameter) => parameter instanceof Tensor)) return;
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `${owner}: expected a list of parameters, got ${describe(parameters)}; give model.parameters()`,
  );
}

function isGroup<Options extends OptimizerOptions>(
  item: Tensor | ParameterGroup<Options>,
): item is ParameterGroup<Options> {
  return typeof item === 'object' && item !== null && !(item instanceof Tensor) && !Array.isArray(item);
}

/**
 * The base of all optimizers: parameters in groups, their state, and saving and loading it. Weights are updated in place on the
 * compute thread, all parameters in one command, with one pass over weight, gradient and state.
 */
export abstract class Optimizer<Options extends OptimizerOptions, Settings extends { readonly weightDecay: number }> {
  readonly #entries: Entry<Settings>[] = [];
  #learningRate: number;

  protected constructor(parameters: Trainable<Options>, options: Options) {
    const known = this.optionNames();
    const name = this.constructor.name;
    checkOptions(name, options, known);
    this.#learningRate = this.#checkRate(options.learningRate);
    // By what they hold: a tensor and its alias are one parameter.
    const seen = new Set<unknown>();
    if (!Array.isArray(parameters)) {
      throw this.#invalid(
        `expected a list of parameters or of groups { parameters, … }, got ${show(parameters)}; give model.parameters()`,
      );
    }
    const groupNames = new Map<string, OptionKind>([...known, ['parameters', true]]);
    const items = parameters as readonly (Tensor | ParameterGroup<Options>)[];
    for (const item of items) {
      const grouped = isGroup(item);
      if (grouped) checkOptions(`${name} group`, item, groupNames);
      const members: unknown = grouped ? item.parameters : [item];
      if (!Array.isArray(members)) throw this.#invalid(`a group's parameters are ${show(members)}; give a list`);
      for (const parameter of members as readonly Tensor[]) {
        if (!(parameter instanceof Tensor)) {
          throw this.#invalid(
            `expected parameters or groups { parameters, … }, got ${describe(parameter)}; give model.parameters()`,
          );
        }
        if (seen.has(parameter.storage)) throw this.#invalid('a parameter was given twice');
        seen.add(parameter.storage);
        this.#add(parameter, options, grouped ? item : undefined);
      }
    }
    if (this.#entries.length === 0) throw this.#invalid('there is nothing to train: the list of parameters is empty');
  }

  /** The names of its options; a group has `parameters` besides. */
  protected abstract optionNames(): KnownOptions;

  /** The settings that these options ask for, all checked. */
  protected abstract settings(options: Options): Settings;
  /** The names of the state tensors of each parameter. */
  protected abstract stateNames(settings: Settings): readonly string[];
  /** The command that updates parameters: of each it reads weight, gradient, {@link states}, gradient scale, rate, {@link numbers}. */
  protected abstract readonly command: string;
  /** The names of all states that {@link command} knows, in its order; a parameter may lack some. */
  protected abstract readonly states: readonly string[];
  /** The settings as {@link command} reads them; `step` counts from 1. */
  protected abstract numbers(settings: Settings, step: number): readonly (number | boolean)[];

  #add(parameter: Tensor, options: Options, group: ParameterGroup<Options> | undefined): void {
    if (parameter.dtype !== 'float32') throw this.#invalid(`parameters must be float32, got ${parameter.dtype}`);
    const given = { ...options, ...group };
    const rate = this.#checkRate(given.learningRate);
    if (options.learningRate === 0 && rate !== 0) {
      throw this.#invalid('a group has a learning rate of its own, so the optimizer needs one above 0 to relate it to');
    }
    const checked = this.settings(given);
    const spared = group === undefined && 'decay' in parameter && parameter.decay === false;
    const settings = spared ? { ...checked, weightDecay: 0 } : checked;
    const states = new Map<string, Tensor>();
    for (const name of this.stateNames(settings)) states.set(name, keep(zeros(parameter.shape)));
    const scale =
      'learningRateScale' in parameter && typeof parameter.learningRateScale === 'number'
        ? parameter.learningRateScale
        : 1;
    const rateRatio = (rate === options.learningRate ? 1 : rate / options.learningRate) * scale;
    this.#entries.push({ parameter, settings, rateRatio, states, steps: 0 });
  }

  #checkRate(rate: number): number {
    return checkNumber(this.constructor.name, 'learningRate', rate, 0, Number.POSITIVE_INFINITY);
  }

  #invalid(problem: string): EvenkeelError {
    return new EvenkeelError('INVALID_ARGUMENT', `${this.constructor.name}: ${problem}`);
  }

  /**
   * The step size, for a schedule to change: `optimizer.learningRate = schedule(step)`. Groups with a learning rate of their own
   * keep their ratio to it.
   */
  get learningRate(): number {
    return this.#learningRate;
  }

  set learningRate(rate: number) {
    this.#learningRate = this.#checkRate(rate);
  }

  /** The parameters, in the order in which they were given. */
  get parameters(): readonly Tensor[] {
    return this.#entries.map(({ parameter }) => parameter);
  }

  /** Updates every parameter that has a gradient. Gradients stay: call {@link zeroGrad} before the next backward pass. */
  step(options: StepOptions = {}): void {
    checkOptions('step', options, stepOptions);
    const { gradientScale = 1 } = options;
    if (!Number.isFinite(gradientScale)) {
      throw this.#invalid(`gradientScale must be finite, got ${show(gradientScale)}`);
    }
    const updated = this.#entries.filter(({ parameter }) => parameter.grad !== undefined);
    if (updated.length === 0) return;
    const words: Argument[] = [updated.length];
    for (const { parameter, settings, rateRatio, states, steps } of updated) {
      words.push(parameter, parameter.grad);
      for (const name of this.states) words.push(states.get(name));
      words.push(gradientScale, this.#learningRate * rateRatio, ...this.numbers(settings, steps + 1));
    }
    runWords(this.command, [], words);
    for (const entry of updated) {
      entry.steps++;
      entry.parameter.storage.version++;
    }
  }

  /** Frees the gradients of all parameters. */
  zeroGrad(): void {
    for (const { parameter } of this.#entries) {
      parameter.grad?.dispose();
      parameter.grad = undefined;
    }
  }

  /** The state: live tensors (read or save them before the next step) and plain values. */
  stateDict(): OptimizerState {
    const tensors = new Map<string, Tensor>();
    for (const [index, { states }] of this.#entries.entries()) {
      for (const [name, state] of states) tensors.set(`${index}.${name}`, state);
    }
    return {
      tensors,
      values: {
        optimizer: this.constructor.name,
        learningRate: this.#learningRate,
        steps: this.#entries.map(({ steps }) => steps),
      },
    };
  }

  /**
   * Goes on from a state that {@link stateDict} returned. Everything is checked before anything is written.
   *
   * @throws EvenkeelError INVALID_ARGUMENT, SHAPE_MISMATCH, DTYPE_MISMATCH where the state is not of this optimizer
   */
  loadStateDict(state: OptimizerState<StateValue>): void {
    const { optimizer, learningRate, steps } = state.values as Readonly<
      Record<'optimizer' | 'learningRate' | 'steps', unknown>
    >;
    const own = this.stateDict();
    const name = this.constructor.name;
    if (optimizer !== name) throw this.#invalid(`loadStateDict was given the state of ${String(optimizer)}`);
    if (!Array.isArray(steps) || steps.length !== this.#entries.length || !steps.every(Number.isSafeInteger)) {
      throw this.#invalid(
        `loadStateDict expected step counts of ${this.#entries.length} parameters, got ${JSON.stringify(steps)}; ` +
          'build the optimizer over the same parameters as the one that was saved',
      );
    }
    const rate = this.#checkRate(learningRate as number);
    checkState(name, own.tensors, state.tensors, true);
    for (const [key, tensor] of own.tensors) writeState(tensor, state.tensors.get(key)!);
    for (const [index, entry] of this.#entries.entries()) entry.steps = steps[index] as number;
    this.#learningRate = rate;
  }

  /** Frees the state. The parameters live on. */
  dispose(): void {
    for (const { states } of this.#entries) for (const state of states.values()) state.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
