import * as nn from '../../src/nn';
import { memory, scope, tensor } from '../../src/tensor';
import { noise } from './support';

const linear = (seed: number) => {
  const layer = new nn.Linear({ inFeatures: 3, outFeatures: 4 });
  layer.weight.copyFrom(noise([3, 4], seed).dataSync());
  return layer;
};
const softmax = (row: readonly number[]) => {
  const powers = row.map(Math.exp);
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
};
const rowsOf = (values: ArrayLike<number>) =>
  Array.from({ length: values.length / 4 }, (_, row) => Array.from(values).slice(4 * row, 4 * row + 4));
const entropy = (p: readonly number[], q = p) =>
  p.reduce((sum, value, index) => sum - value * Math.log(q[index] ?? 0), 0);

describe('DistillationLoss', () => {
  const labels = () => tensor([0, 1, 3], { dtype: 'int32' });

  it('is the cross entropy between two distributions, with the gradient (softmax(z) − softmax(t)) / N', () => {
    const [model, teacher] = [linear(1), linear(2)];
    const loss = new nn.DistillationLoss({ model, teacher });
    scope(() => {
      const images = noise([3, 3], 3);
      const targets = rowsOf(teacher.call(images).dataSync()).map(softmax);
      const logits = model.call(images);
      const predicted = rowsOf(logits.dataSync()).map(softmax);
      const value = loss.call(logits, labels());
      const expected = targets.reduce((sum, target, row) => sum + entropy(target, predicted[row]) / 3, 0);
      expect(value.itemSync()).toBeCloseTo(expected, 5);
      expect(value.itemSync()).toBeGreaterThan(targets.reduce((sum, target) => sum + entropy(target) / 3, 0));
      value.backward();
      const bias = model.bias?.grad?.dataSync() ?? [];
      for (let column = 0; column < 4; column += 1) {
        const gradient = predicted.reduce((sum, row, at) => sum + (row[column]! - targets[at]![column]!) / 3, 0);
        expect(bias[column]).toBeCloseTo(gradient, 6);
      }
    });
    expect(teacher.training).toBe(false);
    expect(teacher.parameters().every(({ grad, requiresGrad }) => grad === undefined && !requiresGrad)).toBe(true);
  });

  it('is the entropy of the teacher, without a gradient, for a network that is the teacher', () => {
    const [model, teacher] = [linear(4), linear(4)];
    teacher.bias!.copyFrom(model.bias!.dataSync());
    const loss = new nn.DistillationLoss({ model, teacher });
    scope(() => {
      const logits = model.call(noise([2, 3], 5));
      const value = loss.call(logits, tensor([0, 1], { dtype: 'int32' }));
      const least = rowsOf(logits.dataSync()).reduce((sum, row) => sum + entropy(softmax(row)) / 2, 0);
      expect(value.itemSync()).toBeCloseTo(least, 5);
      value.backward();
    });
    for (const gradient of model.weight.grad?.dataSync() ?? [1]) expect(Math.abs(gradient)).toBeLessThan(1e-6);
  });

  it('asks the teacher in training only, and frees what it said', () => {
    const [model, teacher] = [linear(6), linear(7)];
    let calls = 0;
    teacher.onCall(() => {
      calls += 1;
    });
    const loss = new nn.DistillationLoss({ model, teacher });
    const images = noise([3, 3], 8);
    const step = () => scope(() => loss.call(model.call(images), labels()).itemSync());
    const forward = () =>
      scope(() => {
        model.call(images);
      });
    model.eval();
    const evaluated = step();
    const plain = scope(() => new nn.CrossEntropyLoss().call(model.call(images), labels()).itemSync());
    expect([evaluated, calls]).toEqual([plain, 0]);
    model.train();
    step();
    const before = memory().liveBytes;
    step();
    forward();
    forward();
    loss.close();
    expect(memory().liveBytes).toBe(before);
    expect(calls).toBe(4);
    forward();
    expect(calls).toBe(4);
  });
});
