import { EvenkeelError } from '../../src/errors';
import { gradcheck, linear, matmul, type Tensor, tensor, zeros } from '../../src/tensor';
import { expectClose } from '../support/golden';

function irregular(shape: readonly number[], seed: number): Tensor {
  const size = shape.reduce((product, length) => product * length, 1);
  const values = Float32Array.from({ length: size }, (_, index) => Math.sin((index + 1) * 12.9898 + seed));
  return tensor(values, { shape, requiresGrad: true });
}

function codeOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof EvenkeelError) return error.code;
    throw error;
  }
  return 'no error';
}

describe.each([
  [1, 1, 1],
  [3, 16, 7],
  [15, 17, 33],
  [64, 65, 63],
])('[%i, %i] times [.., %i]', (rows, inner, columns) => {
  it('multiplies, with and without a bias', async () => {
    const [a, b, bias] = [irregular([rows, inner], 1), irregular([inner, columns], 2), irregular([columns], 3)];
    const [left, right, added] = [await a.data(), await b.data(), await bias.data()];
    const expected = Float64Array.from({ length: rows * columns }, (_, index) => {
      let sum = 0;
      for (let k = 0; k < inner; k++) {
        sum += left[Math.floor(index / columns) * inner + k]! * right[k * columns + (index % columns)]!;
      }
      return sum;
    });
    const product = matmul(a, b);
    expect(product.shape).toEqual([rows, columns]);
    expectClose(await product.data(), expected, 1e-6);
    const withBias = expected.map((value, index) => value + added[index % columns]!);
    expectClose(await linear(a, b, bias).data(), withBias, 1e-6);
  });

  it('has the right gradients', async () => {
    const tensors = [irregular([rows, inner], 1), irregular([inner, columns], 2), irregular([columns], 3)];
    const body = (a: Tensor, b: Tensor, bias: Tensor) => linear(a, b, bias);
    expect(await gradcheck(body as (...inputs: Tensor[]) => Tensor, tensors, { elements: 20 })).toMatchObject({
      passed: true,
    });
    expect(
      await gradcheck(matmul as (...inputs: Tensor[]) => Tensor, tensors.slice(0, 2), { elements: 20 }),
    ).toMatchObject({
      passed: true,
    });
  });
});

describe('shapes', () => {
  it('takes leading axes as rows', async () => {
    const [a, b] = [irregular([2, 3, 5], 1), irregular([5, 4], 2)];
    const product = matmul(a, b);
    expect(product.shape).toEqual([2, 3, 4]);
    const flat = matmul(tensor((await a.data()) as Float32Array, { shape: [6, 5] }), b);
    expect(await product.data()).toEqual(await flat.data());
    product.backward(zeros([2, 3, 4]));
    expect(a.grad!.shape).toEqual([2, 3, 5]);
    expect(matmul(irregular([5], 1), b).shape).toEqual([4]);
  });

  it('takes an empty batch and gives zero gradients', async () => {
    const [weight, bias] = [irregular([3, 2], 1), irregular([2], 2)];
    const output = linear(zeros([0, 3]), weight, bias);
    expect(output.shape).toEqual([0, 2]);
    output.backward(zeros([0, 2]));
    expect(Array.from(await weight.grad!.data())).toEqual([0, 0, 0, 0, 0, 0]);
    expect(Array.from(await bias.grad!.data())).toEqual([0, 0]);
  });

  it.each<[string, () => unknown, string]>([
    ['inner sizes that differ', () => matmul(zeros([2, 3]), zeros([4, 2])), 'SHAPE_MISMATCH'],
    ['a scalar', () => matmul(zeros([]), zeros([1, 2])), 'SHAPE_MISMATCH'],
    ['a weight with three axes', () => linear(zeros([2, 3]), zeros([3, 2, 1])), 'SHAPE_MISMATCH'],
    ['a bias of another length', () => linear(zeros([2, 3]), zeros([3, 2]), zeros([3])), 'SHAPE_MISMATCH'],
    ['integers', () => matmul(zeros([2, 3], { dtype: 'int32' }), zeros([3, 2])), 'DTYPE_MISMATCH'],
  ])('refuses %s', (_name, body, code) => {
    expect(codeOf(body)).toBe(code);
  });
});
