import { BinaryLayer } from '../nn/binary';
import { noGrad, scope } from '../tensor';
import type { Network } from './types';

/** What one epoch did to the weights of a binary layer. */
export interface BinaryLayerRow {
  /** Dotted name of the layer. */
  readonly name: string;
  /** Latent weights. */
  readonly weights: number;
  /**
   * The share of weights whose sign one optimizer step changes: the mean over the epoch's sampled steps. Undefined where no step was
   * sampled.
   */
  readonly flipRatio?: number;
  /** The share of latent weights near zero at the end of the epoch, see {@link NEAR_ZERO}: those that may flip next. */
  readonly nearZero: number;
}

/** Flips of the layers, in order, over the sampled steps of an epoch. */
export interface FlipCounts {
  readonly samples: number;
  readonly flips: readonly number[];
}

/** A latent weight is near zero if it is smaller than this share of the mean magnitude of its output's weights. */
export const NEAR_ZERO = 0.1;

/**
 * Watches the signs of a network's binary weights (Helwegen et al. 2019, section 5.2, call the share that changes the flip ratio). Where
 * a layer standardizes its weights, the signs and magnitudes are those of the standardized ones.
 */
export class BinaryMetrics {
  readonly #layers: readonly (readonly [name: string, layer: BinaryLayer])[];

  constructor(model: Network) {
    this.#layers = model.namedModules().flatMap(([name, module]) => {
      const layer: unknown = module;
      return layer instanceof BinaryLayer && layer.binaryWeights ? [[name, layer] as const] : [];
    });
  }

  /** Whether there are binary weights at all. */
  get empty(): boolean {
    return this.#layers.length === 0;
  }

  /** Runs an optimizer step. Resolves to the number of signs that it changed in each layer. */
  measure(update: () => void): Promise<number[]> {
    const agreements = scope(() => {
      const signs = () => noGrad(() => this.#layers.map(([, layer]) => layer.weightSigns()));
      const before = signs();
      update();
      const after = signs();
      // Sums of ±1 are whole numbers, exact in float32 up to 2^24; layers are smaller.
      return before.map((tensor, index) => tensor.mul(after[index]!).sum().item());
    });
    return Promise.all(
      agreements.map(async (agreement, index) => (this.#layers[index]![1].weight.size - (await agreement)) / 2),
    );
  }

  /** The layers at the end of an epoch. */
  async rows({ samples, flips }: FlipCounts): Promise<BinaryLayerRow[]> {
    const shares = scope(() => noGrad(() => this.#layers.map(([, layer]) => nearZeroShare(layer).item())));
    return Promise.all(
      this.#layers.map(async ([name, { weight }], index) => ({
        name,
        weights: weight.size,
        ...(samples === 0 ? {} : { flipRatio: (flips[index] ?? 0) / samples / weight.size }),
        nearZero: (await shares[index]) ?? 0,
      })),
    );
  }
}

function nearZeroShare(layer: BinaryLayer) {
  const magnitudes = layer.latentWeight().abs();
  const axes = layer.weight.shape.slice(0, -1).map((_, axis) => axis);
  return magnitudes.less(magnitudes.mean({ axes, keepDims: true }).mul(NEAR_ZERO)).mean();
}

/** Flips of two parts of an epoch together. */
export function addFlips({ samples, flips }: FlipCounts, more: readonly number[]): FlipCounts {
  return { samples: samples + 1, flips: more.map((count, index) => count + (flips[index] ?? 0)) };
}

/** The means over all binary weights of a network. */
export function meanOfLayers(rows: readonly BinaryLayerRow[]): { flipRatio?: number; nearZero: number } {
  const weights = rows.reduce((sum, row) => sum + row.weights, 0);
  const mean = (value: (row: BinaryLayerRow) => number) =>
    rows.reduce((sum, row) => sum + value(row) * row.weights, 0) / weights;
  const nearZero = mean((row) => row.nearZero);
  if (rows.some(({ flipRatio }) => flipRatio === undefined)) return { nearZero };
  return { flipRatio: mean(({ flipRatio }) => flipRatio ?? 0), nearZero };
}
