import { EvenkeelError } from '../../errors';
import { checkOptions, type OptionNames, optionNames } from '../../options';
import { isGradEnabled, keep, ones, type Tensor, zeros } from '../../tensor';
import { run } from '../../tensor/tensor';
import { checkChoice, checkMethods, checkRange } from '../check';
import { Conv2d } from '../layers/conv2d';
import { Linear } from '../layers/linear';
import { ScaledStandardizedConv2d, ScaledStandardizedLinear, WeightStandardizedConv2d } from '../layers/standardized';
import { type AnyModule, Module } from '../module';
import { checkState, type StateSource, writeState } from '../state';
import type { GradientTransform } from './normalization';

/** Options of batch normalization preconditioning. */
export interface PreconditioningOptions {
  /** ρ, how much of the running statistics is kept at each step, 0 to 1. Default 0.99. */
  readonly keep?: number;
  /** ε₁, the share of a layer's largest variance that is added to each. Default 1e-2. */
  readonly relativeEpsilon?: number;
  /** ε₂, added to each variance. Default 1e-4. */
  readonly absoluteEpsilon?: number;
  /**
   * How the running variance moves: `'pooled'` follows the variance of all data, exponentially weighted, and holds at any batch size;
   * `'naive'` averages the variances of batches, which is too small for small batches and 0 for single values. Default `'pooled'`.
   */
  readonly variance?: 'pooled' | 'naive';
  /**
   * What the number of inputs of a unit is divided by for q², which makes one learning rate fit all batch sizes: by the rows of the
   * layer's input matrix (`'patches'`: samples times positions), by samples (`'batch'`), or q² is left at 1 (`'off'`). Default
   * `'patches'`.
   */
  readonly rows?: 'patches' | 'batch' | 'off';
}

/** For the method `bnp`, which has them too. */
export const preconditioningNames: OptionNames<PreconditioningOptions> = {
  keep: true,
  relativeEpsilon: true,
  absoluteEpsilon: true,
  variance: true,
  rows: true,
};
const preconditioningOptions = optionNames<PreconditioningOptions>(preconditioningNames);

/** The mean and the variance of the channels of a weight layer's input: of the batches since the last step, and running. */
export class InputStatistics extends Module {
  /** Running mean `[channels]`, first 0. */
  readonly mean: Tensor;
  /** Running variance `[channels]`, first 1. */
  readonly variance: Tensor;
  // Not state: complete batches are moved into the running statistics before anything is saved.
  readonly #batchMean: Tensor;
  readonly #batchVariance: Tensor;
  #count = 0;
  /** Rows of the layer's input matrix and samples since the last step. */
  #rows = 0;
  #samples = 0;

  constructor(channels: number) {
    super();
    this.mean = this.buffer('mean', zeros([channels]));
    this.variance = this.buffer('variance', ones([channels]));
    this.#batchMean = keep(zeros([channels]));
    this.#batchVariance = keep(zeros([channels]));
  }

  /** Takes a batch into account: `input` of the layer and its `output`. */
  override forward(input: Tensor, output: Tensor = input): Tensor {
    const channels = this.mean.size;
    if (input.size === 0) return output;
    for (const statistics of [this.#batchMean, this.#batchVariance]) statistics.storage.version++;
    run('merge_statistics', [], input, this.#batchMean, this.#batchVariance, this.#count);
    this.#count += input.size / channels;
    this.#rows += output.size / (output.shape[output.rank - 1] ?? 1);
    this.#samples += input.shape[0] ?? 0;
    return output;
  }

  /** Moves the running statistics by what was seen since the last call. Returns the rows and samples seen. */
  advance(kept: number, pooled: boolean): { readonly rows: number; readonly samples: number } {
    const seen = { rows: this.#rows, samples: this.#samples };
    if (this.#count > 0) {
      for (const statistics of [this.mean, this.variance]) statistics.storage.version++;
      run('move_statistics', [], this.#batchMean, this.#batchVariance, this.mean, this.variance, kept, pooled);
    }
    this.#count = 0;
    this.#rows = 0;
    this.#samples = 0;
    return seen;
  }

  protected override release(): void {
    this.#batchMean.dispose();
    this.#batchVariance.dispose();
  }
}

/** A weight layer that keeps the statistics of its input itself, so that they are saved with the model. */
interface Observed {
  readonly inputStatistics: InputStatistics;
}

/** Convolution that keeps the statistics of its input, for preconditioning. */
export class ObservedConv2d extends Conv2d implements Observed {
  readonly inputStatistics = new InputStatistics(this.inChannels);

  override forward(input: Tensor): Tensor {
    const output = super.forward(input);
    if (this.training && isGradEnabled()) this.inputStatistics.forward(input, output);
    return output;
  }
}

/** Linear layer that keeps the statistics of its input, for preconditioning. */
export class ObservedLinear extends Linear implements Observed {
  readonly inputStatistics = new InputStatistics(this.inFeatures);

  override forward(input: Tensor): Tensor {
    const output = super.forward(input);
    if (this.training && isGradEnabled()) this.inputStatistics.forward(input, output);
    return output;
  }
}

interface Entry {
  readonly name: string;
  readonly layer: Conv2d | Linear;
  readonly statistics: InputStatistics;
}

/**
 * Batch normalization preconditioning of a model's gradients; see `optim.batchNormPreconditioning`, which makes it. Call
 * {@link BatchNormPreconditioning.apply} between `backward()` and the optimizer's step.
 */
export class BatchNormPreconditioning implements GradientTransform {
  readonly #entries: readonly Entry[];
  readonly #stop: (() => void)[] = [];
  readonly #keep: number;
  readonly #epsilons: readonly [relative: number, absolute: number];
  readonly #pooled: boolean;
  readonly #rows: 'patches' | 'batch' | 'off';

  constructor(model: AnyModule, options: PreconditioningOptions = {}) {
    const owner = 'batchNormPreconditioning';
    checkOptions(owner, options, preconditioningOptions);
    checkMethods(owner, 'model', model, ['namedModules'], 'the Module that is trained');
    const { relativeEpsilon = 1e-2, absoluteEpsilon = 1e-4, variance = 'pooled', rows = 'patches' } = options;
    this.#keep = checkRange(owner, 'keep', options.keep ?? 0.99, 0, 1);
    this.#epsilons = [
      checkRange(owner, 'relativeEpsilon', relativeEpsilon, 0, Number.MAX_VALUE),
      checkRange(owner, 'absoluteEpsilon', absoluteEpsilon, 0, Number.MAX_VALUE),
    ];
    this.#pooled = checkChoice(owner, 'variance', variance, ['pooled', 'naive']) === 'pooled';
    this.#rows = checkChoice(owner, 'rows', rows, ['patches', 'batch', 'off']);
    this.#entries = model.namedModules().flatMap(([name, layer]) => {
      if (!(layer instanceof Conv2d || layer instanceof Linear)) return [];
      refuseStandardized(name, layer);
      return [{ name, layer, statistics: this.#observe(layer) }];
    });
    if (this.#entries.length === 0) {
      throw new EvenkeelError('INVALID_ARGUMENT', `${owner}: the model has no convolution and no linear layer`);
    }
  }

  #observe(layer: Conv2d | Linear): InputStatistics {
    if (layer instanceof ObservedConv2d || layer instanceof ObservedLinear) return layer.inputStatistics;
    const statistics = new InputStatistics(layer instanceof Conv2d ? layer.inChannels : layer.inFeatures);
    const stop = layer.onCall((_, input, output) => {
      if (layer.training && isGradEnabled()) statistics.forward(input as Tensor, output as Tensor);
    });
    this.#stop.push(stop, () => statistics.dispose());
    return statistics;
  }

  /** Moves the running statistics and preconditions the gradients of those weight layers that have some. */
  apply(): void {
    for (const { layer, statistics } of this.#entries) {
      const seen = statistics.advance(this.#keep, this.#pooled);
      const weight = layer.weight.grad;
      if (weight === undefined) continue;
      const bias = layer.bias?.grad;
      const [outputs, groups] = layer instanceof Conv2d ? [layer.outChannels, layer.groups] : [layer.outFeatures, 1];
      const fanIn = layer.weight.size / outputs;
      const rows = this.#rows === 'patches' ? seen.rows : seen.samples;
      const scale = this.#rows === 'off' || rows === 0 ? 1 : Math.max(fanIn / rows, 1);
      for (const gradient of [weight, bias]) if (gradient !== undefined) gradient.storage.version++;
      const { mean, variance } = statistics;
      run('precondition', [], weight, bias, mean, variance, outputs, groups, ...this.#epsilons, scale);
    }
  }

  /** The running statistics by name: live tensors, which `loadStateDict` takes back after a restart. */
  stateDict(): Map<string, Tensor> {
    return new Map(
      this.#entries.flatMap(({ name, statistics }) =>
        [...statistics.stateDict()].map(([key, value]) => [name === '' ? key : `${name}.${key}`, value] as const),
      ),
    );
  }

  /**
   * Goes on from a state of {@link BatchNormPreconditioning.stateDict}.
   *
   * @throws EvenkeelError `SHAPE_MISMATCH`, `DTYPE_MISMATCH`, or `INVALID_ARGUMENT` for missing and unexpected names
   */
  loadStateDict(state: StateSource): void {
    const own = this.stateDict();
    checkState('BatchNormPreconditioning', own, state, true);
    for (const [name, tensor] of own) {
      const value = state.get(name);
      if (value !== undefined) writeState(tensor, value);
    }
  }

  /** Stops watching the model, and frees the statistics that do not belong to it. */
  dispose(): void {
    for (const stop of this.#stop) stop();
    this.#stop.length = 0;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Preconditioning is of the weight that multiplies the input; a standardized weight is another one. */
function refuseStandardized(name: string, layer: Conv2d | Linear): void {
  const standardized = [ScaledStandardizedConv2d, ScaledStandardizedLinear, WeightStandardizedConv2d];
  if (standardized.some((kind) => layer instanceof kind)) {
    throw new EvenkeelError(
      'UNSUPPORTED',
      `batchNormPreconditioning: the layer ${name} (${layer.constructor.name}) standardizes its weight, so the stored weight is not what ` +
        'multiplies the input; use plain convolutions and linear layers',
    );
  }
}
