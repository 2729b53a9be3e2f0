import { concatenate, gather, gradcheck, keep, type Tensor, tensor, zeros } from '../../src/tensor';
import { codeOf, irregular, numbers } from '../support/tensors';

const counting = (shape: readonly number[], dtype: 'float32' | 'int32' | 'uint8' = 'float32') => {
  const size = shape.reduce((product, length) => product * length, 1);
  return tensor(
    Array.from({ length: size }, (_, index) => index),
    { shape, dtype },
  );
};

async function expectGradient(body: (x: Tensor) => Tensor, shape: readonly number[]): Promise<void> {
  expect(await gradcheck((x) => body(x!), [irregular(shape, 1)], { elements: 40 })).toMatchObject({ passed: true });
}

describe('reshape and flatten', () => {
  it('share the values and pass the gradient', async () => {
    const x = counting([2, 3, 4]);
    expect(x.reshape([4, 6]).shape).toEqual([4, 6]);
    expect(x.reshape([2, -1]).shape).toEqual([2, 12]);
    expect(numbers(x.reshape([-1]))).toEqual(numbers(x));
    expect(x.flatten().shape).toEqual([24]);
    expect(x.flatten(1).shape).toEqual([2, 12]);
    expect(zeros([]).flatten().shape).toEqual([1]);
    expect(zeros([0, 3]).reshape([3, 0]).shape).toEqual([3, 0]);
    await expectGradient((a) => a.reshape([3, 2]).mul(a.reshape([3, 2])), [2, 3]);
  });

  it('refuse shapes that do not fit', () => {
    const x = zeros([2, 3]);
    for (const shape of [[4], [-1, 4], [-1, -1], [0, -1]]) {
      expect(codeOf(() => x.reshape(shape))).toBe('SHAPE_MISMATCH');
    }
    expect(codeOf(() => x.reshape([2.5, 3]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => x.flatten(2))).toBe('INVALID_ARGUMENT');
  });
});

describe('permute and transpose', () => {
  it('move every element, of any dtype', async () => {
    for (const dtype of ['float32', 'int32', 'uint8'] as const) {
      const x = counting([2, 3], dtype);
      expect(x.transpose().dtype).toBe(dtype);
      expect(numbers(x.transpose())).toEqual([0, 3, 1, 4, 2, 5]);
    }
    const x = counting([2, 3, 5, 4]);
    const y = x.permute([0, 3, 1, 2]);
    expect(y.shape).toEqual([2, 4, 3, 5]);
    expect(numbers(y.permute([0, 2, 3, -3]))).toEqual(numbers(x));
    expect(x.transpose(0, 2).shape).toEqual([5, 3, 2, 4]);
    await expectGradient((a) => a.permute([2, 0, 1]).square(), [2, 3, 4]);
    await expectGradient((a) => a.transpose().square(), [33, 3]);
  });

  it('refuse what is no order of the axes', () => {
    const x = zeros([2, 3]);
    expect(codeOf(() => x.permute([0]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => x.permute([0, 0]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => x.permute([0, 2]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => zeros([2]).transpose())).toBe('INVALID_ARGUMENT');
  });
});

describe('slice', () => {
  it('takes parts as NumPy does', async () => {
    const x = counting([4, 5]);
    expect(numbers(x.slice({ starts: [1], ends: [3] }))).toEqual([5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    expect(numbers(x.slice({ starts: [-1, -2] }))).toEqual([18, 19]);
    expect(numbers(x.slice({ starts: [0, 1], steps: [2, 2] }))).toEqual([1, 3, 11, 13]);
    expect(numbers(x.slice({ ends: [1, -3] }))).toEqual([0, 1]);
    expect(x.slice({ starts: [3], ends: [100] }).shape).toEqual([1, 5]);
    expect(x.slice({ starts: [3], ends: [1] }).shape).toEqual([0, 5]);
    expect(numbers(x.slice({}))).toEqual(numbers(x));
    expect(x.cast('uint8').slice({ starts: [3, 4] }).dtype).toBe('uint8');
    await expectGradient((a) => a.slice({ starts: [0, 1], ends: [3, 7], steps: [2, 3] }).square(), [4, 9]);
  });

  it('refuses too many axes, fractions and steps below 1', () => {
    const x = zeros([2, 3]);
    expect(codeOf(() => x.slice({ starts: [0, 0, 0] }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => x.slice({ starts: [0.5] }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => x.slice({ steps: [0] }))).toBe('INVALID_ARGUMENT');
  });
});

describe('pad', () => {
  it('adds elements around', async () => {
    const x = counting([1, 2], 'int32');
    const padded = x.pad(
      [
        [1, 0],
        [0, 2],
      ],
      -1,
    );
    expect(padded.shape).toEqual([2, 4]);
    expect(numbers(padded)).toEqual([-1, -1, -1, -1, 0, 1, -1, -1]);
    await expectGradient(
      (a) =>
        a
          .pad([
            [0, 1],
            [2, 0],
            [0, 3],
          ])
          .square(),
      [2, 3, 5],
    );
    expect(codeOf(() => zeros([2]).pad([]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => zeros([2]).pad([[-1, 0]]))).toBe('INVALID_ARGUMENT');
  });
});

describe('concatenate', () => {
  it('joins along any axis', async () => {
    const [a, b] = [counting([2, 3]), counting([2, 1])];
    expect(numbers(concatenate([a, b], 1))).toEqual([0, 1, 2, 0, 3, 4, 5, 1]);
    expect(concatenate([a, zeros([0, 3])]).shape).toEqual([2, 3]);
    expect(numbers(concatenate([b, b], -2))).toEqual([0, 1, 0, 1]);
    const inputs = [irregular([2, 3, 2], 1), irregular([2, 1, 2], 2)];
    expect(await gradcheck((x, y) => concatenate([x!, y!, x!], 1).square(), inputs)).toMatchObject({ passed: true });
  });

  it('joins more tensors than one command takes', () => {
    const parts = Array.from({ length: 40 }, (_, index) => tensor([index]));
    expect(numbers(concatenate(parts))).toEqual(Array.from({ length: 40 }, (_, index) => index));
  });

  it('refuses what does not fit', () => {
    const x = zeros([2, 3]);
    expect(codeOf(() => concatenate([]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => concatenate([x, zeros([3, 2])]))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => concatenate([x, zeros([6])]))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => concatenate([x, zeros([2, 3], { dtype: 'int32' })]))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => concatenate([x], 2))).toBe('INVALID_ARGUMENT');
  });
});

describe('expand', () => {
  it('repeats, and sums the gradient', async () => {
    expect(numbers(tensor([[1], [2]]).expand([2, 3]))).toEqual([1, 1, 1, 2, 2, 2]);
    expect(zeros([3]).expand([0, 3]).shape).toEqual([0, 3]);
    await expectGradient((a) => a.expand([4, 3, 2]).square(), [3, 1]);
    expect(codeOf(() => zeros([2]).expand([3]))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => zeros([2, 3]).expand([3]))).toBe('SHAPE_MISMATCH');
  });
});

describe('gather', () => {
  const indices = (values: number[]) => tensor(values, { dtype: 'int32' });

  it('chooses rows, and adds their gradients', async () => {
    const x = counting([3, 2]);
    expect(numbers(gather(x, indices([2, 0, 2])))).toEqual([4, 5, 0, 1, 4, 5]);
    const chosen = keep(indices([2, 0, 2]));
    await expectGradient((a) => gather(a, chosen).square(), [3, 5]);
    expect(gather(x, indices([])).shape).toEqual([0, 2]);
  });

  it('fails for a row that is not there', async () => {
    await expect(gather(zeros([3, 2]), indices([3])).data()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(gather(zeros([3, 2]), indices([-1])).data()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(codeOf(() => gather(zeros([3]), zeros([1])))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => gather(zeros([]), indices([0])))).toBe('SHAPE_MISMATCH');
  });
});

describe('cast', () => {
  it('goes toward zero and stays within the dtype', () => {
    const x = tensor([1.9, -1.9, 300, NaN]);
    expect(numbers(x.cast('int32'))).toEqual([1, -1, 300, 0]);
    expect(numbers(x.cast('uint8'))).toEqual([1, 0, 255, 0]);
    expect(numbers(x.cast('uint8').cast('float32'))).toEqual([1, 0, 255, 0]);
    const leaf = tensor([1, 2], { requiresGrad: true });
    leaf.cast('float32').sum().backward();
    expect(numbers(leaf.grad!)).toEqual([1, 1]);
    expect(codeOf(() => x.cast('float64' as never))).toBe('DTYPE_MISMATCH');
  });
});
