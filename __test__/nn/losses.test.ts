import { EvenkeelError } from '../../src/errors';
import { BinaryCrossEntropyLoss, CrossEntropyLoss, MSELoss, NegativeLogLikelihoodLoss } from '../../src/nn';
import { gradcheck, keep, memory, type Tensor, tensor, zeros } from '../../src/tensor';
import { codeOf, irregular, numbers } from '../support/tensors';

describe('losses', () => {
  const rows = [
    [1, 2, 0.5],
    [-1, 0, 3],
  ];
  const labels = [2, 0];

  function crossEntropies(smoothing: number): number[] {
    return rows.map((row, sample) => {
      const total = Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0));
      return row.reduce((sum, value, index) => {
        const target = (index === labels[sample] ? 1 - smoothing : 0) + smoothing / row.length;
        return sum - target * (value - total);
      }, 0);
    });
  }

  it('MSELoss does not broadcast', () => {
    const call = (...shape: number[]) => new MSELoss().call(tensor([[1], [2]]), tensor([1, 2]).reshape(shape));
    expect(() => call(2)).toThrow(
      'MSELoss: predictions have the shape [2, 1], targets [2]; give both one shape, with reshape()',
    );
    expect(call(2, 1).itemSync()).toBe(0);
    expect(() => new MSELoss().call(tensor([1]), [1] as never)).toThrow(
      'MSELoss: expected a tensor as targets, got an array',
    );
  });

  it('CrossEntropyLoss has value and gradient', () => {
    for (const labelSmoothing of [0, 0.1]) {
      const logits = tensor(rows, { requiresGrad: true });
      const loss = new CrossEntropyLoss({ labelSmoothing }).call(logits, tensor(labels, { dtype: 'int32' }));
      const [first = 0, second = 0] = crossEntropies(labelSmoothing);
      expect(loss.itemSync()).toBeCloseTo((first + second) / 2, 5);
      loss.backward();
      const expected = rows.flatMap((row, sample) => {
        const total = row.reduce((sum, value) => sum + Math.exp(value), 0);
        return row.map((value, index) => {
          const target = (index === labels[sample] ? 1 - labelSmoothing : 0) + labelSmoothing / row.length;
          return (Math.exp(value) / total - target) / rows.length;
        });
      });
      for (const [index, value] of [...(logits.grad?.dataSync() ?? [])].entries()) {
        expect(value).toBeCloseTo(expected[index] ?? Number.NaN, 5);
      }
    }
  });

  it('CrossEntropyLoss reduces as asked', () => {
    const [first = 0, second = 0] = crossEntropies(0);
    const targets = tensor(labels, { dtype: 'int32' });
    expect(new CrossEntropyLoss({ reduction: 'sum' }).call(tensor(rows), targets).itemSync()).toBeCloseTo(
      first + second,
      5,
    );
    const each = new CrossEntropyLoss({ reduction: 'none' }).call(tensor(rows), targets);
    expect(each.shape).toEqual([2]);
    expect(each.dataSync()[1]).toBeCloseTo(second, 5);
    expect(() => new CrossEntropyLoss({ labelSmoothing: 1.5 })).toThrow(EvenkeelError);
  });

  it('MSELoss has value and gradient', () => {
    const predictions = tensor([1, 2, 3, 4], { requiresGrad: true });
    const targets = tensor([1, 0, 0, 0]);
    const loss = new MSELoss().call(predictions, targets);
    expect(loss.itemSync()).toBeCloseTo(29 / 4, 5);
    loss.backward();
    expect([...(predictions.grad?.dataSync() ?? [])]).toEqual([0, 1, 1.5, 2]);
    expect(new MSELoss({ reduction: 'sum' }).call(predictions, targets).itemSync()).toBeCloseTo(29, 5);
    expect(new MSELoss({ reduction: 'none' }).call(predictions, targets).shape).toEqual([4]);
  });
});

describe('BinaryCrossEntropyLoss', () => {
  const binary = (x: number, t: number) => t * Math.log1p(Math.exp(-x)) + (1 - t) * Math.log1p(Math.exp(x));

  it('has value and gradient', async () => {
    const logits = irregular([3, 7], 1);
    const targets = keep(irregular([3, 7], 2).detach().abs().clamp({ max: 1 }));
    const given = numbers(targets);
    const wanted = (smoothing: number) =>
      numbers(logits).map((x, index) => binary(x, given[index]! * (1 - smoothing) + smoothing / 2));
    for (const labelSmoothing of [0, 0.1]) {
      const loss = (reduction: 'mean' | 'sum' | 'none') =>
        new BinaryCrossEntropyLoss({ labelSmoothing, reduction }).call(logits, targets);
      const values = wanted(labelSmoothing);
      const total = values.reduce((sum, value) => sum + value, 0);
      expect(loss('sum').itemSync()).toBeCloseTo(total, 4);
      expect(loss('mean').itemSync()).toBeCloseTo(total / 21, 5);
      expect(loss('none').shape).toEqual([3, 7]);
      for (const [index, value] of numbers(loss('none')).entries()) expect(value).toBeCloseTo(values[index]!, 5);
      const check = (input?: Tensor) => new BinaryCrossEntropyLoss({ labelSmoothing }).call(input!, targets);
      expect(await gradcheck(check, [logits])).toMatchObject({ passed: true });
    }
  });

  it('keeps its digits, and those of its gradient, for large logits', () => {
    const values = [-1e4, -50, 50, 1e4, -50, 50, 1e20, -1e20];
    const wanted = [1e4, 50, 50, 1e4, Math.exp(-50), Math.exp(-50), 0, 0];
    const logits = tensor(values, { requiresGrad: true });
    const loss = new BinaryCrossEntropyLoss({ reduction: 'none' }).call(logits, tensor([1, 1, 0, 0, 0, 1, 1, 0]));
    for (const [index, value] of numbers(loss).entries()) {
      if (wanted[index] === 0) expect(value).toBe(0);
      else expect(value / wanted[index]!).toBeCloseTo(1, 5);
    }
    loss.sum().backward();
    const gradients = numbers(logits.grad!);
    expect(gradients.slice(0, 4)).toEqual([-1, -1, 1, 1]);
    expect(gradients[4]! / Math.exp(-50)).toBeCloseTo(1, 4);
    expect(gradients[5]! / -Math.exp(-50)).toBeCloseTo(1, 4);
    expect(gradients.slice(6).map(Math.abs)).toEqual([0, 0]);
  });

  it('takes nothing, and leaves nothing behind', () => {
    const loss = new BinaryCrossEntropyLoss({ reduction: 'sum' });
    const [logits, targets] = [irregular([5], 1), tensor([1, 0, 1, 0, 1])];
    expect(loss.call(zeros([0, 3]), zeros([0, 3])).itemSync()).toBe(0);
    loss.call(logits, targets).backward();
    const before = memory().liveTensors;
    const total = loss.call(logits, targets);
    total.backward();
    total.dispose();
    expect(memory().liveTensors).toBe(before);
  });

  it('refuses what does not fit', () => {
    const loss = new BinaryCrossEntropyLoss();
    expect(() => loss.call(zeros([2, 1]), zeros([2]))).toThrow(
      'BinaryCrossEntropyLoss: logits have the shape [2, 1], targets [2]; give both one shape, with reshape()',
    );
    expect(() => loss.call(zeros([2]), zeros([2], { dtype: 'int32' }))).toThrow(
      "expected float32 targets from 0 to 1, got int32; convert them with cast('float32'), or use CrossEntropyLoss",
    );
    expect(codeOf(() => loss.call(zeros([2], { dtype: 'uint8' }), zeros([2])))).toBe('DTYPE_MISMATCH');
    expect(() => loss.call(zeros([2]), [0, 1] as never)).toThrow('expected a tensor as targets, got an array');
    expect(() => new BinaryCrossEntropyLoss({ reduction: 'avg' as never })).toThrow("reduction is 'avg'; give 'mean'");
    expect(() => new BinaryCrossEntropyLoss({ labelSmoothing: 2 })).toThrow(
      'labelSmoothing is 2; give a number from 0',
    );
  });
});

describe('NegativeLogLikelihoodLoss', () => {
  const int32 = (values: number[], shape: readonly number[] = [values.length]) =>
    tensor(values, { dtype: 'int32', shape });

  it('of log-softmax is the cross entropy, with its gradient', () => {
    const labels = int32([4, 0, 2, 2, 1, 3], [2, 3]);
    for (const reduction of ['mean', 'sum', 'none'] as const) {
      const [a, b] = [irregular([2, 3, 5], 1), irregular([2, 3, 5], 1)];
      const found = new NegativeLogLikelihoodLoss({ reduction }).call(a.logSoftmax(), labels);
      const wanted = new CrossEntropyLoss({ reduction }).call(b, labels);
      expect(found.shape).toEqual(wanted.shape);
      for (const [index, value] of numbers(found).entries()) expect(value).toBeCloseTo(numbers(wanted)[index]!, 5);
      found.sum().backward();
      wanted.sum().backward();
      for (const [index, value] of numbers(a.grad!).entries()) expect(value).toBeCloseTo(numbers(b.grad!)[index]!, 5);
    }
  });

  it('looks at the class alone', async () => {
    const logProbabilities = tensor(
      [
        [-1, -Infinity, -3],
        [-4, -5, Number.NaN],
      ],
      { requiresGrad: true },
    );
    const loss = new NegativeLogLikelihoodLoss({ reduction: 'sum' }).call(logProbabilities, int32([2, 0]));
    expect(loss.itemSync()).toBe(7);
    loss.backward();
    expect(numbers(logProbabilities.grad!)).toEqual([0, 0, -1, -1, 0, 0]);
    const labels = keep(int32([0, 6, 3]));
    const check = (input?: Tensor) => new NegativeLogLikelihoodLoss().call(input!, labels);
    expect(await gradcheck(check, [irregular([3, 7], 1)])).toMatchObject({ passed: true });
    expect(new NegativeLogLikelihoodLoss({ reduction: 'sum' }).call(zeros([0, 3]), int32([])).itemSync()).toBe(0);
    expect(new NegativeLogLikelihoodLoss().call(tensor([-1, -2]), int32([1], [])).itemSync()).toBe(2);
  });

  it('refuses what does not fit', async () => {
    const loss = new NegativeLogLikelihoodLoss();
    for (const label of [3, -1]) {
      await expect(loss.call(zeros([1, 3]), int32([label])).data()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    expect(() => loss.call(zeros([2, 3]), int32([0]))).toThrow(
      'NegativeLogLikelihoodLoss: expected labels of shape [2] for log-probabilities [2, 3], got [1]',
    );
    expect(codeOf(() => loss.call(zeros([2, 0]), int32([0, 0])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => loss.call(zeros([]), int32([0], [])))).toBe('SHAPE_MISMATCH');
    expect(() => loss.call(zeros([2, 3]), zeros([2]))).toThrow("got float32; convert them with cast('int32')");
    expect(() => loss.call(zeros([2, 3]), [0, 1] as never)).toThrow('expected a tensor as labels, got an array');
    expect(codeOf(() => loss.call(int32([0]), int32([0])))).toBe('DTYPE_MISMATCH');
  });
});
