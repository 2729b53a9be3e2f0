import { EvenkeelError } from '../errors';
import { show } from '../options';
import type { Tensor } from '../tensor';
import { Module } from './module';

/** Runs layers one after the other. It can be iterated over: `[...model]` are its layers. */
export class Sequential extends Module {
  readonly #layers: readonly (readonly [name: string, layer: Module])[];

  /**
   * @param layers - The layers in order, named by position (`0.weight`), or an object whose keys name them
   * (`{ conv1: …, norm1: … }` gives `conv1.weight`).
   */
  constructor(layers: readonly Module[] | Readonly<Record<string, Module>>) {
    super();
    if (typeof layers !== 'object' || layers === null || layers instanceof Module) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `Sequential: expected a list of layers, got ${layers instanceof Module ? 'a Module' : show(layers)}; give [first, second, …] or ` +
          '{ name: layer, … }',
      );
    }
    const named = Array.isArray(layers)
      ? layers.map((layer, index) => [`${index}`, layer] as const)
      : Object.entries(layers as Readonly<Record<string, Module>>);
    for (const [name, layer] of named) {
      if (!(layer instanceof Module)) {
        throw new EvenkeelError('INVALID_ARGUMENT', `Sequential: layer ${name} is no Module (given ${typeof layer})`);
      }
    }
    this.#layers = named;
  }

  /** Number of layers. */
  get length(): number {
    return this.#layers.length;
  }

  /** The layer at `index`; negative indices count from the end. */
  at(index: number): Module | undefined {
    return this.#layers.at(index)?.[1];
  }

  /** The layers in order: `for (const layer of model)`. */
  *[Symbol.iterator](): IterableIterator<Module> {
    for (const [, layer] of this.#layers) yield layer;
  }

  override forward(input: Tensor): Tensor {
    return this.#layers.reduce((value, [, layer]) => layer.call(value), input);
  }

  override parts(): Iterable<readonly [name: string, value: unknown]> {
    return this.#layers;
  }
}

/** Returns its input. */
export class Identity extends Module {
  override forward(input: Tensor): Tensor {
    return input;
  }
}
