import { EvenkeelError } from '../../src/errors';
import * as nn from '../../src/nn';
import { gradcheck, manualSeed, noGrad, ones, scope, tensor } from '../../src/tensor';
import { noise } from './support';

describe('Concatenate', () => {
  it('puts channels side by side', () => {
    const layer = new nn.Concatenate();
    const first = tensor([1, 2, 3, 4], { shape: [1, 2, 1, 2] });
    const second = tensor([5, 6], { shape: [1, 2, 1, 1] });
    const output = layer.call([first, second, first]);
    expect(output.shape).toEqual([1, 2, 1, 5]);
    expect([...output.dataSync()]).toEqual([1, 2, 5, 1, 2, 3, 4, 6, 3, 4]);
    expect(() => layer.call([first, tensor([1], { shape: [1, 1, 1, 1] })])).toThrow(EvenkeelError);
  });
});

describe('SqueezeExcitation', () => {
  it('multiplies channels with a gate between 0 and 1', () => {
    const layer = new nn.SqueezeExcitation({ channels: 3, hidden: 2 });
    layer.reduce.weight.copyFrom(Float32Array.of(1, 0, 0, 0, 0, 1));
    layer.reduce.bias?.copyFrom(Float32Array.of(0, -10));
    layer.expand.weight.copyFrom(Float32Array.of(1, 2, 0, 5, 5, 5));
    layer.expand.bias?.copyFrom(Float32Array.of(0, 0, -1));
    // The first channel's mean is 2; the second hidden feature is cut off by ReLU.
    const output = layer.call(tensor([1, 10, 1, 3, 20, 1], { shape: [1, 1, 2, 3] }));
    const gate = [2, 4, -1].map((value) => 1 / (1 + Math.exp(-value)));
    const expected = [1, 10, 1, 3, 20, 1].map((value, index) => value * (gate[index % 3] ?? 0));
    for (const [index, value] of [...output.dataSync()].entries()) expect(value).toBeCloseTo(expected[index] ?? 0, 5);
    expect(String(layer)).toContain('reduce');
  });

  it.each([1, 7, 17])('has the right gradients with %i channels', async (channels) => {
    manualSeed(3);
    const layer = new nn.SqueezeExcitation({ channels, activation: 'silu' });
    const input = noise([2, 3, 2, channels], 5);
    input.requiresGrad = true;
    const { worst } = await gradcheck((value) => layer.call(value), [input, ...layer.parameters()]);
    expect(worst).toBeLessThan(1e-2);
  });
});

describe('StochasticDepth', () => {
  it('drops whole samples in training and keeps the mean', () => {
    manualSeed(5);
    const layer = new nn.StochasticDepth({ rate: 0.25 });
    const values = noGrad(() => scope(() => layer.call(ones([4000, 1, 1, 3])).dataSync()));
    let kept = 0;
    for (let sample = 0; sample < 4000; sample += 1) {
      const own = [...values.slice(3 * sample, 3 * sample + 3)];
      expect(own).toEqual(own[0] === 0 ? [0, 0, 0] : new Array(3).fill(Math.fround(1 / 0.75)));
      if (own[0] !== 0) kept += 1;
    }
    // Five standard deviations of a binomial distribution.
    expect(Math.abs(kept - 3000)).toBeLessThan(5 * Math.sqrt(4000 * 0.25 * 0.75));
  });

  it('does nothing in evaluation or at rate 0', () => {
    const input = noise([3, 2, 2, 1], 1);
    expect(new nn.StochasticDepth({ rate: 0.9 }).eval().call(input).dataSync()).toEqual(input.dataSync());
    expect(new nn.StochasticDepth({ rate: 0 }).call(input).dataSync()).toEqual(input.dataSync());
    expect(() => new nn.StochasticDepth({ rate: 1 })).toThrow(EvenkeelError);
  });
});
