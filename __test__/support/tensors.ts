import { EvenkeelError } from '../../src/errors';
import { type Shape, type Tensor, tensor } from '../../src/tensor';

/** Irregular values of order 1, the same for the same `seed`; none is near 0 and no two are equal. */
export function irregular(shape: Shape, seed: number, options: { readonly positive?: boolean } = {}): Tensor {
  const size = shape.reduce((product, length) => product * length, 1);
  const values = Float32Array.from({ length: size }, (_, index) => {
    const wave = Math.sin((index + 1) * 12.9898 + seed * 78.233);
    return options.positive === true ? 1.2 + wave : wave + 0.15 * Math.sign(wave);
  });
  return tensor(values, { shape, requiresGrad: true });
}

/** The code of the EvenkeelError that `body` throws; any other error passes. */
export function codeOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof EvenkeelError) return error.code;
    throw error;
  }
  return 'no error';
}

/** The values of a tensor as plain numbers. */
export function numbers(input: Tensor): number[] {
  return Array.from(input.dataSync());
}
