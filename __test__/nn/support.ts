import { type Tensor, tensor } from '../../src/tensor';

/** Irregular numbers of order 1, the same for the same shape and seed, whatever the generator of the library does. */
export function noise(shape: readonly number[], seed: number): Tensor {
  const size = shape.reduce((product, axis) => product * axis, 1);
  const values = Float32Array.from({ length: size }, (_, index) => {
    const wave = Math.sin(12.9898 * (index + 1) + 78.233 * seed) * 43758.5453;
    return 4 * (wave - Math.floor(wave)) - 2;
  });
  return tensor(values, { shape });
}
