/**
 * Testable properties of the norms people use today. Those of Batch Renormalization, EvoNorm, Switchable and Online Normalization are in
 * ../batch-renorm.test.ts, ../evo-norm.test.ts, ../switchable-norm.test.ts and ../online-norm.test.ts.
 */
import { manualSeed, models, nn, noGrad, optim, randn, scope, type Tensor, tensor } from '../../../src';
import { expectClose } from '../../support/golden';
import { noise } from '../support';

const values = (value: Tensor): number[] => [...value.dataSync()];
const names = Object.keys(nn.normalizations) as nn.NormalizationName[];

/** A convolution with a method's layers around it, as a model has them inside. */
function hidden(norm: nn.NormalizationName, channels: number): nn.Module {
  manualSeed(6);
  const build = new nn.NormalizedLayers({ norm });
  const options = { inChannels: channels, outChannels: channels, kernelSize: 3, padding: 1 };
  return new nn.Sequential([
    build.conv2d(options, 'stem'),
    build.unit({ channels }),
    build.conv2d(options),
    build.unit({ channels }),
  ]);
}

describe('methods that promise to keep samples apart', () => {
  it.each(names.filter((name) => !nn.normalizations[name]().mixesSamples))(
    '%s gives a sample the same bits alone and in any batch, in training and evaluation',
    (name) => {
      for (const channels of [4, 17]) {
        const layers = hidden(name, channels);
        for (const training of [true, false]) {
          layers.train(training);
          const [sample, other] = [noise([1, 5, 3, channels], 1), noise([1, 5, 3, channels], 2).mul(1e6)];
          const run = (parts: readonly Tensor[], at: number) => {
            const input = tensor(parts.flatMap(values), { shape: [parts.length, 5, 3, channels] });
            const size = 15 * channels;
            return noGrad(() => values(layers.call(input))).slice(at * size, (at + 1) * size);
          };
          const alone = run([sample], 0);
          expect(run([sample, other], 0)).toEqual(alone);
          expect(run([other, other, sample, other, other], 2)).toEqual(alone);
        }
      }
    },
  );

  it.each(names.filter((name) => nn.normalizations[name]().mixesSamples))(
    '%s does not promise it, and says so',
    (name) => {
      const layers = hidden(name, 4);
      const [sample, other] = [noise([1, 5, 3, 4], 1), noise([1, 5, 3, 4], 2).mul(3)];
      const run = (second: Tensor) => {
        const state = new Map(
          [...layers.stateDict()].map(([key, value]) => [
            key,
            { shape: value.shape, values: value.dataSync().slice() },
          ]),
        );
        // The sample comes last, so that methods which go through the batch in order have seen the other.
        const input = tensor([...values(second), ...values(sample)], { shape: [2, 5, 3, 4] });
        const output = noGrad(() => values(layers.train().call(input))).slice(60);
        layers.loadStateDict(state as never);
        return output;
      };
      for (const module of layers.modules()) if (module instanceof nn.IndependentComponent) module.dropRate = 0;
      expect(run(other)).not.toEqual(run(sample));
    },
  );
});

describe('a batch of one sample', () => {
  it('is too little for ic in front of a linear layer, which says so', () => {
    const model = models.mlp({ inputs: 4, hidden: [5], norm: 'ic' });
    expect(() => model.call(noise([1, 4], 1))).toThrow('single value of each channel');
  });

  it.each(names)('is enough for a step with %s, with finite gradients', (norm) => {
    manualSeed(7);
    const model = models.resnetCifar({ depth: 8, width: 4, norm, classes: 3 });
    for (const seed of [1, 2]) {
      model.zeroGrad();
      scope(() => {
        const loss = new nn.CrossEntropyLoss().call(
          model.call(noise([1, 8, 8, 3], seed)),
          tensor([2], { dtype: 'int32' }),
        );
        loss.backward();
        nn.gradientTransformOf(model)?.apply(model.parameters());
        new optim.SGD(model.parameters(), { learningRate: 0.01 }).step();
      });
      const broken = model
        .namedParameters()
        .filter(([, { grad }]) => grad?.dataSync().every(Number.isFinite) === false);
      expect(broken.map(([name]) => name)).toEqual([]);
    }
    expect([...model.stateDict().values()].every((value) => value.dataSync().every(Number.isFinite))).toBe(true);
    expect(nn.gradientTransformOf(model) !== undefined).toBe(norm === 'bnp' || norm === 'bn-free');
  });
});

describe('batch normalization', () => {
  it.each([1, 7, 16, 65])('gives mean 0 and variance v / (v + epsilon) with %i channels', (channels) => {
    const input = noise([4, 3, 3, channels], 1).mul(0.01).add(5);
    const output = new nn.BatchNorm({ channels, affine: false, epsilon: 1e-4 }).call(input);
    const over = { axes: [0, 1, 2] } as const;
    const moments = (value: Tensor) => [value.mean(over), value.sub(value.mean(over)).square().mean(over)].map(values);
    const [[mean, variance], [, before]] = [moments(output), moments(input)];
    for (let channel = 0; channel < channels; channel++) {
      expect(Math.abs(mean![channel]!)).toBeLessThan(1e-3);
      expect(variance![channel]!).toBeCloseTo(before![channel]! / (before![channel]! + 1e-4), 3);
    }
  });

  it('does not see the scale of the weights in front', () => {
    const [input, weight] = [noise([4, 5, 5, 3], 1), noise([3, 7], 2)];
    const layer = new nn.BatchNorm({ channels: 7, epsilon: 0 });
    const respond = (scale: number) => values(layer.call(input.matmul(weight.mul(scale))));
    expectClose(respond(37), respond(1), 1e-5);
  });
});

describe('group normalization', () => {
  it('with one group is layer normalization of a sample, and with a group for each channel instance normalization', () => {
    for (const channels of [3, 16, 33]) {
      const input = noise([2, 3, 5, channels], channels);
      const group = (groups: number) => values(new nn.GroupNorm({ channels, groups }).call(input));
      expect(group(1)).toEqual(values(new nn.LayerNorm({ channels }).call(input)));
      expect(group(channels)).toEqual(values(new nn.InstanceNorm({ channels }).call(input)));
    }
  });
});

describe('weight standardization', () => {
  it('brings every filter to mean 0 and variance 1, so that scale and offset of the stored weight do not matter', () => {
    manualSeed(9);
    const layer = new nn.WeightStandardizedConv2d({ inChannels: 5, outChannels: 3, kernelSize: 3, bias: false });
    const input = randn([2, 6, 6, 5]);
    const before = values(layer.call(input));
    layer.weight.copyFrom(Float32Array.from(layer.weight.dataSync(), (value) => 20 * value + 3));
    expectClose(values(layer.call(input)), before, 1e-3);
    // Where all inputs are 1, the response is the sum of a filter, which is 0.
    const flat = values(layer.call(input.mul(0).add(1)));
    expect(Math.max(...flat.map(Math.abs))).toBeLessThan(1e-4);
  });
});
