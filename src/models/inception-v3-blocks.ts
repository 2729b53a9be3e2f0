import { AvgPool2d, MaxPool2d, type Module, type NormalizedLayers, Sequential } from '../nn';
import type { Pair } from '../tensor/operations/pair';
import { Branches } from './branches';
import { convolutionUnit, inProportion } from './convolution-unit';

/** A convolution in a branch: published output channels, kernel, and whether it halves the map (without padding). */
type Step = readonly [channels: number, kernelSize: Pair, halve?: 'halve'];

/** Builds the parts of one Inception-v3, in proportion to its width. */
export class InceptionV3Builder {
  readonly #build: NormalizedLayers;
  readonly #width: number;

  constructor(build: NormalizedLayers, width: number) {
    this.#build = build;
    this.#width = width;
  }

  /** Channels in proportion to the width. */
  scaled(channels: number): number {
    return inProportion(channels, this.#width, 32);
  }

  /** Convolutions, each with norm and activation, one after the other. */
  chain(inChannels: number, steps: readonly Step[]): Module[] {
    let current = inChannels;
    return steps.map(([channels, kernelSize, halve]) => {
      const outChannels = this.scaled(channels);
      const unit = convolutionUnit(this.#build, {
        inChannels: current,
        outChannels,
        kernelSize,
        ...(halve === undefined ? { padding: 'same' } : { stride: 2 }),
      });
      current = outChannels;
      return unit;
    });
  }

  /** Blocks on 35×35 maps (figure 5 of the paper): 1×1, 5×5, twice 3×3, pooling. */
  square(inChannels: number, pooled: number): readonly [Module, number] {
    const block = new Branches([
      this.#branch(inChannels, [[64, 1]]),
      this.#branch(inChannels, [
        [48, 1],
        [64, 5],
      ]),
      this.#branch(inChannels, [
        [64, 1],
        [96, 3],
        [96, 3],
      ]),
      this.#pooled(inChannels, pooled),
    ]);
    return [block, this.#sum(64, 64, 96, pooled)];
  }

  /** From 35×35 to 17×17: 3×3, twice 3×3, pooling, each of step 2. */
  firstReduction(inChannels: number): readonly [Module, number] {
    const block = new Branches([
      this.#branch(inChannels, [[384, 3, 'halve']]),
      this.#branch(inChannels, [
        [64, 1],
        [96, 3],
        [96, 3, 'halve'],
      ]),
      new MaxPool2d({ kernelSize: 3, stride: 2 }),
    ]);
    return [block, this.#sum(384, 96) + inChannels];
  }

  /** Blocks on 17×17 maps (figure 6): 7×7 convolutions as 1×7 and 7×1, once and twice. */
  factorized(inChannels: number, inner: number): readonly [Module, number] {
    const block = new Branches([
      this.#branch(inChannels, [[192, 1]]),
      this.#branch(inChannels, [
        [inner, 1],
        [inner, [1, 7]],
        [192, [7, 1]],
      ]),
      this.#branch(inChannels, [
        [inner, 1],
        [inner, [7, 1]],
        [inner, [1, 7]],
        [inner, [7, 1]],
        [192, [1, 7]],
      ]),
      this.#pooled(inChannels, 192),
    ]);
    return [block, this.#sum(192, 192, 192, 192)];
  }

  /** From 17×17 to 8×8: 3×3, 7×7 in two parts with a 3×3, pooling, each of step 2. */
  secondReduction(inChannels: number): readonly [Module, number] {
    const block = new Branches([
      this.#branch(inChannels, [
        [192, 1],
        [320, 3, 'halve'],
      ]),
      this.#branch(inChannels, [
        [192, 1],
        [192, [1, 7]],
        [192, [7, 1]],
        [192, 3, 'halve'],
      ]),
      new MaxPool2d({ kernelSize: 3, stride: 2 }),
    ]);
    return [block, this.#sum(320, 192) + inChannels];
  }

  /** Blocks on 8×8 maps (figure 7): 3×3 convolutions as 1×3 and 3×1 side by side. */
  wide(inChannels: number): readonly [Module, number] {
    const split = () =>
      new Branches([this.#branch(this.scaled(384), [[384, [1, 3]]]), this.#branch(this.scaled(384), [[384, [3, 1]]])]);
    const twice: readonly Step[] = [
      [448, 1],
      [384, 3],
    ];
    const block = new Branches([
      this.#branch(inChannels, [[320, 1]]),
      new Sequential([...this.chain(inChannels, [[384, 1]]), split()]),
      new Sequential([...this.chain(inChannels, twice), split()]),
      this.#pooled(inChannels, 192),
    ]);
    return [block, this.#sum(320, 384, 384, 384, 384, 192)];
  }

  #branch(inChannels: number, steps: readonly Step[]): Module {
    return new Sequential(this.chain(inChannels, steps));
  }

  #pooled(inChannels: number, channels: number): Module {
    const pool = new AvgPool2d({ kernelSize: 3, stride: 1, padding: 1, countIncludePadding: false });
    return new Sequential([pool, ...this.chain(inChannels, [[channels, 1]])]);
  }

  #sum(...channels: readonly number[]): number {
    return channels.reduce((sum, count) => sum + this.scaled(count), 0);
  }
}
