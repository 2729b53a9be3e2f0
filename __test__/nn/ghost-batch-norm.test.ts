import { nn, type Tensor, tensor } from '../../src';
import { expectClose } from '../support/golden';
import { noise } from './support';

const values = (value: Tensor): number[] => [...value.dataSync()];

describe('GhostBatchNorm', () => {
  it.each([1, 7, 17])('is batch normalization of each group, with gradients, with %i channels', (channels) => {
    // 7 samples in groups of 2: two of two, and a last one of three.
    const [input, shortcut, gradient] = [1, 2, 3].map((seed) => noise([7, 3, 2, channels], seed));
    const ghost = new nn.GhostBatchNorm({ channels, groupSize: 2, activation: 'relu' });
    input!.requiresGrad = true;
    shortcut!.requiresGrad = true;
    const output = ghost.call([input!, shortcut!]);
    output.backward(gradient!);
    const plain = new nn.BatchNorm({ channels, activation: 'relu' });
    const size = output.size / 7;
    for (const [start, end] of [
      [0, 2],
      [2, 4],
      [4, 7],
    ] as const) {
      const part = (whole: Tensor) =>
        tensor(Float32Array.from(values(whole).slice(start * size, end * size)), {
          shape: [end - start, 3, 2, channels],
        });
      const [own, ownShortcut] = [part(input!), part(shortcut!)];
      own.requiresGrad = true;
      ownShortcut.requiresGrad = true;
      const expected = plain.call([own, ownShortcut]);
      expected.backward(part(gradient!));
      expect(values(part(output))).toEqual(values(expected));
      expect(values(part(input!.grad!))).toEqual(values(own.grad!));
      expect(values(part(shortcut!.grad!))).toEqual(values(ownShortcut.grad!));
    }
    expectClose(values(ghost.gamma!.grad!), values(plain.gamma!.grad!), 1e-5);
  });

  it.each([0.1, 1])('moves the running statistics towards the mean over the groups with momentum %d', (momentum) => {
    const layer = new nn.GhostBatchNorm({ channels: 1, groupSize: 2, momentum });
    // Means 1, 3, 20; unbiased variances 2, 8, 0.
    layer.call(tensor([0, 2, 1, 5, 20, 20], { shape: [6, 1] }));
    expectClose(values(layer.runningMean), [momentum * 8], 1e-6);
    expectClose(values(layer.runningVariance), [1 - momentum + (momentum * 10) / 3], 1e-6);
  });

  it('leaves a group out that is not finite', () => {
    const layer = new nn.GhostBatchNorm({ channels: 1, groupSize: 2, momentum: 0.5 });
    layer.call(tensor([0, 2, Number.NaN, 5], { shape: [4, 1] }));
    expect([...values(layer.runningMean), ...values(layer.runningVariance)].every(Number.isFinite)).toBe(true);
  });

  it('is batch normalization in a batch without two groups, with one sample, and in evaluation', () => {
    const [ghost, plain] = [new nn.GhostBatchNorm({ channels: 3, groupSize: 4 }), new nn.BatchNorm({ channels: 3 })];
    for (const shape of [
      [7, 2, 2, 3],
      [1, 2, 2, 3],
      [2, 1, 1, 3],
    ]) {
      expect(values(ghost.call(noise(shape, 1)))).toEqual(values(plain.call(noise(shape, 1))));
    }
    plain.loadStateDict(ghost.stateDict());
    const input = noise([9, 1, 1, 3], 2);
    expect(values(ghost.eval().call(input))).toEqual(values(plain.eval().call(input)));
    expect(() => new nn.GhostBatchNorm({ channels: 3, groupSize: 0 })).toThrow(/groupSize/);
  });
});
