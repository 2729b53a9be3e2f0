import { EvenkeelError } from '../../src/errors';
import { CrossEntropyLoss, MSELoss } from '../../src/nn';
import { tensor } from '../../src/tensor';

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
