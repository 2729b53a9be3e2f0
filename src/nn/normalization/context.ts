/** What a normalization method may know about the network under construction. One object for each network. */
export class BuildContext {
  /** Weight layers built so far. */
  weightLayers = 0;
  /** Residual sums built so far. */
  residualSums = 0;
  /** Variance that the signal is expected to have at this point; methods that scale residual branches keep it up to date. */
  expectedVariance = 1;
  readonly #notes = new WeakMap<object, unknown>();

  /**
   * What a method remembers from one site of this network to the next: made by `create` the first time it is asked for with this
   * `key` (the method object, say).
   */
  note<T>(key: object, create: () => T): T {
    if (!this.#notes.has(key)) this.#notes.set(key, create());
    return this.#notes.get(key) as T;
  }
}
