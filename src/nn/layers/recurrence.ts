import { concatenate, keep, noGrad, ones, type Tensor, tensor } from '../../tensor';

/** The states before each sample, `[batch, channels]`, and behind the last one, `[channels]`. */
export interface States {
  readonly before: Tensor;
  readonly after: Tensor;
}

/**
 * The states of `u ← factors[t] · u + terms[t]` from `first` on, for every channel: those before each of the samples, and the last one.
 * Neighbouring steps are composed in pairs, fours, eights …, so that a batch takes log₂(batch) rounds and not one for each sample.
 */
export function recurrence(factors: Tensor, terms: Tensor, first: Tensor): States {
  const [samples = 0, channels = 0] = terms.shape;
  let [factor, term] = [factors, terms];
  for (let distance = 1; distance < samples; distance *= 2) {
    const earlier = (values: Tensor, missing: number): Tensor =>
      values.slice({ starts: [0], ends: [samples - distance] }).pad(
        [
          [distance, 0],
          [0, 0],
        ],
        missing,
      );
    term = term.add(factor.mul(earlier(term, 0)));
    factor = factor.mul(earlier(factor, 1));
  }
  const start = noGrad(() => first.reshape([1, channels]));
  return split(concatenate([start, factor.mul(start).add(term)], 0));
}

/** Batches up to this size have a triangle of powers; it grows with their square. */
const LARGEST = 256;

/** The recurrence `u ← factor · u + terms[t]` with one factor for all: a product with a triangle of its powers, made once a batch size. */
export class Decay {
  readonly #factor: number;
  #powers: Tensor | undefined;

  constructor(factor: number) {
    this.#factor = factor;
  }

  /** The states from `first` on, `[channels]`, for terms `[batch, channels]`. */
  states(terms: Tensor, first: Tensor): States {
    const [samples = 0, channels = 0] = terms.shape;
    if (samples > LARGEST) return recurrence(ones(terms.shape).mul(this.#factor), terms, first);
    return split(this.#triangle(samples + 1).matmul(concatenate([first.reshape([1, channels]), terms], 0)));
  }

  #triangle(size: number): Tensor {
    if (this.#powers?.shape[0] !== size) {
      this.dispose();
      // Row t holds the weights, in the state before sample t, of the first state and of the terms before.
      const powers = Float32Array.from({ length: size * size }, (_, at) => {
        const [row, column] = [Math.floor(at / size), at % size];
        return column > row ? 0 : this.#factor ** (row - column);
      });
      this.#powers = keep(tensor(powers, { shape: [size, size] }));
    }
    return this.#powers as Tensor;
  }

  /** Frees the triangle; it is made anew when it is needed. */
  dispose(): void {
    this.#powers?.dispose();
    this.#powers = undefined;
  }
}

function split(states: Tensor): States {
  const [rows = 0, channels = 0] = states.shape;
  return {
    before: states.slice({ starts: [0], ends: [rows - 1] }),
    after: states.slice({ starts: [rows - 1], ends: [rows] }).reshape([channels]),
  };
}
