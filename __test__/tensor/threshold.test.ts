import { add, addThreshold, gradcheck, maximum, ones, randn, type Tensor, tensor } from '../../src/tensor';
import { noise } from '../nn/support';
import { codeOf, irregular, numbers } from '../support/tensors';

function gradients(end: (a: Tensor, b: Tensor, tau: Tensor) => Tensor, shape: readonly number[]): number[][] {
  const channels = shape.at(-1) as number;
  const operands = [noise(shape, 1), noise(shape, 2), noise([channels], 3)] as const;
  for (const operand of operands) operand.requiresGrad = true;
  const output = end(...operands);
  output.backward(noise(shape, 4));
  return [output, ...operands.map(({ grad }) => grad as Tensor)].map(numbers);
}

describe('addThreshold', () => {
  it.each([
    [1, 1],
    [2, 3, 3, 3],
    [3, 5, 4, 17],
    [2, 9, 9, 33],
    [0, 4, 4, 8],
  ])('gives what an addition and a maximum give: [%i, %i, …]', (...shape) => {
    const size = shape.filter((length) => length !== undefined);
    const [output, a, b, tau] = gradients(addThreshold, size);
    const expected = gradients((x, y, threshold) => maximum(add(x, y), threshold), size);
    expect([output, a, b]).toEqual(expected.slice(0, 3));
    for (const [channel, value] of (tau as number[]).entries()) {
      expect(value).toBeCloseTo((expected[3] as number[])[channel] as number, 2);
    }
  });

  it('has the gradient that finite differences give', async () => {
    const [a, b, tau] = [irregular([2, 3, 5], 1), irregular([2, 3, 5], 2), irregular([5], 3)];
    expect(await gradcheck((x, y, z) => addThreshold(x!, y!, z!), [a, b, tau])).toMatchObject({ passed: true });
  });

  it('gives the sum the gradient of a tie, and passes NaN on', () => {
    const [a, tau] = [tensor([[1, Number.NaN, -3]], { requiresGrad: true }), tensor([3, 0, 0], { requiresGrad: true })];
    const output = addThreshold(a, tensor([[2, 0, 0]]), tau);
    expect(numbers(output)).toEqual([3, Number.NaN, 0]);
    output.backward(tensor([[5, 6, 7]]));
    expect(numbers(a.grad!)).toEqual([5, 6, 0]);
    expect(numbers(tau.grad!)).toEqual([0, 0, 7]);
  });

  it('computes only the gradients that are wanted', () => {
    const [a, b, tau] = [ones([2, 3]), ones([2, 3]), ones([3])];
    tau.requiresGrad = true;
    addThreshold(a, b, tau).backward(ones([2, 3]));
    expect([a.grad, b.grad, numbers(tau.grad!)]).toEqual([undefined, undefined, [0, 0, 0]]);
    b.requiresGrad = true;
    addThreshold(a, b, tau.detach()).backward(ones([2, 3]));
    expect(numbers(b.grad!)).toEqual([1, 1, 1, 1, 1, 1]);
  });

  it.each([
    ['two shapes', 'SHAPE_MISMATCH', () => addThreshold(randn([2, 3]), randn([1, 3]), ones([3]))],
    ['thresholds of another length', 'SHAPE_MISMATCH', () => addThreshold(randn([2, 3]), randn([2, 3]), ones([1]))],
    ['one axis', 'SHAPE_MISMATCH', () => addThreshold(randn([3]), randn([3]), ones([3]))],
    [
      'whole numbers',
      'DTYPE_MISMATCH',
      () => addThreshold(randn([2, 3]), randn([2, 3]), ones([3], { dtype: 'int32' })),
    ],
  ] as const)('refuses %s', (_, code, run) => {
    expect(codeOf(run)).toBe(code);
  });
});
