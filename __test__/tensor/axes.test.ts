import { gradcheck, squeeze, stack, type Tensor, tensor, unsqueeze, zeros } from '../../src/tensor';
import { codeOf, irregular, numbers } from '../support/tensors';

const eightAxes = new Array<number>(8).fill(1);

function messageOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    return (error as Error).message;
  }
  return 'no error';
}

describe('squeeze', () => {
  it('removes axes of size 1, and no others', async () => {
    const x = irregular([1, 3, 1, 2], 1);
    expect(x.squeeze().shape).toEqual([3, 2]);
    expect(x.squeeze(0).shape).toEqual([3, 1, 2]);
    expect(squeeze(x, -2).shape).toEqual([1, 3, 2]);
    expect(numbers(x.squeeze())).toEqual(numbers(x));
    expect(zeros([1, 1]).squeeze().shape).toEqual([]);
    expect(zeros([]).squeeze().shape).toEqual([]);
    expect(zeros([1, 0], { dtype: 'int32' }).squeeze()).toMatchObject({ shape: [0], dtype: 'int32' });
    expect(await gradcheck((input) => input!.squeeze().square(), [x])).toMatchObject({ passed: true });
  });

  it('refuses axes of another size and axes that are not there', () => {
    expect(codeOf(() => zeros([2, 1]).squeeze(0))).toBe('SHAPE_MISMATCH');
    expect(messageOf(() => zeros([2, 1]).squeeze(0))).toContain(
      'squeeze: axis 0 of shape [2, 1] has the size 2; give an',
    );
    expect(messageOf(() => zeros([2, 1]).squeeze(2))).toContain('squeeze: axis 2 is out of range for 2 axes');
    expect(codeOf(() => squeeze([1] as never))).toBe('INVALID_ARGUMENT');
  });
});

describe('unsqueeze', () => {
  it('puts an axis of size 1 anywhere', async () => {
    const x = irregular([3, 2], 1);
    for (const [axis, shape] of [
      [0, [1, 3, 2]],
      [1, [3, 1, 2]],
      [2, [3, 2, 1]],
      [-1, [3, 2, 1]],
      [-3, [1, 3, 2]],
    ] as const) {
      expect(x.unsqueeze(axis).shape).toEqual(shape);
      expect(numbers(unsqueeze(x, axis))).toEqual(numbers(x));
      expect(x.unsqueeze(axis).squeeze(axis).shape).toEqual([3, 2]);
    }
    expect(zeros([]).unsqueeze(0).shape).toEqual([1]);
    expect(zeros([0]).unsqueeze(-1).shape).toEqual([0, 1]);
    expect(await gradcheck((input) => input!.unsqueeze(1).square(), [x])).toMatchObject({ passed: true });
  });

  it('refuses axes that are not there, and too many', () => {
    expect(messageOf(() => zeros([2]).unsqueeze(2))).toContain('unsqueeze: axis 2 is out of range for 2 axes');
    expect(codeOf(() => zeros([2]).unsqueeze(-3))).toBe('INVALID_ARGUMENT');
    expect(messageOf(() => zeros(eightAxes).unsqueeze(0))).toContain('unsqueeze: at most 8 axes');
    expect(codeOf(() => (zeros([2]) as { unsqueeze(axis?: number): Tensor }).unsqueeze())).toBe('INVALID_ARGUMENT');
  });
});

describe('stack', () => {
  it('puts tensors beside one another along a new axis', async () => {
    const [a, b] = [tensor([1, 2, 3]), tensor([4, 5, 6])];
    expect(stack([a, b]).shape).toEqual([2, 3]);
    expect(numbers(stack([a, b]))).toEqual([1, 2, 3, 4, 5, 6]);
    expect(stack([a, b, a], 1).shape).toEqual([3, 3]);
    expect(numbers(stack([a, b], -1))).toEqual([1, 4, 2, 5, 3, 6]);
    expect(stack([zeros([])]).shape).toEqual([1]);
    expect(stack([zeros([2, 0]), zeros([2, 0])], 1).shape).toEqual([2, 2, 0]);
    expect(stack([zeros([1], { dtype: 'uint8' })]).dtype).toBe('uint8');
    const inputs = [irregular([3, 7], 1), irregular([3, 7], 2)];
    for (const axis of [0, 1, 2]) {
      const body = (x?: Tensor, y?: Tensor) => stack([x!, y!, x!], axis).square();
      expect(await gradcheck(body, inputs)).toMatchObject({ passed: true });
    }
  });

  it('takes more tensors than one command joins', () => {
    const parts = Array.from({ length: 33 }, (_, index) => tensor([index, -index]));
    const stacked = stack(parts, 1);
    expect(stacked.shape).toEqual([2, 33]);
    expect(numbers(stacked).slice(31, 35)).toEqual([31, 32, -0, -1]);
  });

  it('refuses what does not fit', () => {
    const x = zeros([2, 3]);
    expect(messageOf(() => stack([]))).toBe('stack: expected at least one tensor, got none');
    expect(messageOf(() => stack(x as never))).toContain('stack: the first argument is a Tensor; give an array');
    expect(messageOf(() => stack([x, [1] as never]))).toContain('stack: expected a tensor as part, got an array');
    expect(codeOf(() => stack([x, zeros([3, 2])]))).toBe('SHAPE_MISMATCH');
    expect(messageOf(() => stack([x, zeros([1, 3])]))).toContain('got [2, 3] and [1, 3]; concatenate() joins');
    expect(codeOf(() => stack([x, zeros([2, 3], { dtype: 'int32' })]))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => stack([x], 3))).toBe('INVALID_ARGUMENT');
    expect(messageOf(() => stack([zeros(eightAxes)]))).toContain('stack: at most 8 axes');
  });
});
