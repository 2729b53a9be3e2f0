import { gradcheck, nn, type Tensor, tensor } from '../../src';
import { expectClose } from '../support/golden';
import { noise } from './support';

const values = (value: Tensor): number[] => [...value.dataSync()];

/** Sets both triples of logits. */
function choose(layer: nn.SwitchableNorm, logits: readonly number[]): void {
  for (const parameter of [layer.meanLogits, layer.varianceLogits]) parameter.copyFrom(Float32Array.from(logits));
}

describe('a single choice is that norm', () => {
  it.each([1, 3, 7, 16, 33])('with %i channels', (channels) => {
    const input = noise([3, 2, 3, channels], 1);
    const common = { channels, activation: 'relu' } as const;
    const layer = new nn.SwitchableNorm(common);
    const norms = [new nn.InstanceNorm(common), new nn.LayerNorm(common), new nn.BatchNorm(common)];
    for (const [index, norm] of norms.entries()) {
      choose(
        layer,
        [0, 1, 2].map((other) => (other === index ? 30 : -30)),
      );
      expectClose(values(layer.call(input)), values(norm.call(input)), 2e-6);
    }
  });

  it('far from 0 too', () => {
    const input = noise([4, 4, 4, 3], 1).add(1000);
    const layer = new nn.SwitchableNorm({ channels: 3 });
    choose(layer, [-30, -30, 30]);
    expectClose(values(layer.call(input)), values(new nn.BatchNorm({ channels: 3 }).call(input)), 1e-4);
  });
});

describe('gradients', () => {
  it.each(['training', 'evaluation'])('in %s', async (mode) => {
    const layer = new nn.SwitchableNorm({ channels: 3 }).train(mode === 'training');
    layer.meanLogits.copyFrom(new Float32Array([0.5, -0.3, 1]));
    layer.varianceLogits.copyFrom(new Float32Array([-0.2, 0.7, 0.4]));
    layer.gamma!.copyFrom(new Float32Array([0.7, 1.2, -0.6]));
    const input = noise([2, 2, 3, 3], 4);
    input.requiresGrad = true;
    const inputs = [input, ...layer.parameters()];
    expect(inputs).toHaveLength(5);
    const result = await gradcheck((x) => layer.forward(x!), inputs, { step: 3e-3, tolerance: 1e-2 });
    // The running statistics of evaluation stay put, so both modes are functions of their inputs.
    expect(result).toMatchObject({ passed: true });
  });
});

describe('statistics', () => {
  it('move towards those of the batch, unless it is not finite, and are saved', () => {
    const layer = new nn.SwitchableNorm({ channels: 1, momentum: 0.25 });
    layer.call(tensor([0, 2, 6, 8], { shape: [2, 2, 1] }));
    expectClose([...values(layer.runningMean), ...values(layer.runningVariance)], [1, 0.75 + 10 / 4], 1e-6);
    const before = [values(layer.runningMean), values(layer.runningVariance)];
    layer.call(tensor([0, Number.NaN], { shape: [1, 2, 1] }));
    expect([values(layer.runningMean), values(layer.runningVariance)]).toEqual(before);
    const other = new nn.SwitchableNorm({ channels: 1 });
    other.loadStateDict(layer.stateDict());
    const input = noise([3, 2, 2, 1], 5);
    expect(values(other.eval().call(input))).toEqual(values(layer.eval().call(input)));
  });

  it('of evaluation do not depend on the batch', () => {
    const layer = new nn.SwitchableNorm({ channels: 5 });
    const batch = noise([3, 2, 2, 5], 1);
    layer.call(batch);
    layer.eval();
    const alone = values(layer.call(batch.slice({ starts: [1], ends: [2] })));
    expect(alone).toEqual(values(layer.call(batch)).slice(alone.length, 2 * alone.length));
  });

  it('take batches of one sample and maps of one position', () => {
    const layer = new nn.SwitchableNorm({ channels: 7 });
    for (const shape of [
      [1, 3, 3, 7],
      [4, 1, 1, 7],
      [4, 7],
      [1, 7],
    ]) {
      expect(values(layer.call(noise(shape, 2))).every(Number.isFinite)).toBe(true);
    }
    expect(() => layer.call(noise([2, 6], 1))).toThrow(/expected an input/);
  });
});
