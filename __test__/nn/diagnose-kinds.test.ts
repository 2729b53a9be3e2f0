import * as models from '../../src/models';
import * as nn from '../../src/nn';
import { activates } from '../../src/nn/diagnose/layer-kind';
import { normalized } from '../../src/nn/diagnose/normalized';
import { attachState } from '../../src/nn/statistics-chain';
import { manualSeed, noGrad, type Tensor, tensor } from '../../src/tensor';
import { expectClose } from '../support/golden';
import { noise } from './support';

const channels = 8;
const layers: readonly (readonly [string, () => nn.NormalizationLayer<Tensor>])[] = [
  ['BatchNorm', () => new nn.BatchNorm({ channels })],
  ['GhostBatchNorm', () => new nn.GhostBatchNorm({ channels, groupSize: 2 })],
  ['IndependentComponent', () => new nn.IndependentComponent({ channels, dropRate: 0 })],
  ['BatchKalmanNorm', () => new nn.BatchKalmanNorm({ channels, groupSize: 2, priorWeight: 0.4 })],
  ['BatchKalmanNorm of fixed weight', () => new nn.BatchKalmanNorm({ channels, mode: 'tied-norm', priorWeight: 0.7 })],
  ['SwitchableNorm', () => new nn.SwitchableNorm({ channels })],
  ['BatchRenorm', () => new nn.BatchRenorm({ channels })],
  ['GroupNorm', () => new nn.GroupNorm({ channels, groups: 2 })],
  ['LayerNorm', () => new nn.LayerNorm({ channels })],
  ['InstanceNorm', () => new nn.InstanceNorm({ channels })],
  ['RMSNorm', () => new nn.RMSNorm({ channels })],
  ['FilterResponseNorm', () => new nn.FilterResponseNorm({ channels, threshold: false, learnedEpsilon: true })],
];

describe('the normalization of a layer without its parameters', () => {
  it.each(layers)('of %s is what the layer gives with a scale of 1 and a shift of 0', (_name, create) => {
    const layer = create();
    const input = noise([5, 3, 3, channels], 1).add(0.5);
    if (layer instanceof nn.SwitchableNorm) {
      layer.meanLogits.copyFrom(Float32Array.of(0.3, -1, 0.6));
      layer.varianceLogits.copyFrom(Float32Array.of(1, 0.2, -0.4));
    }
    const source =
      layer instanceof nn.BatchKalmanNorm && layer.groupSize === 2 ? input.slice({ starts: [0], ends: [4] }) : input;
    if (layer instanceof nn.BatchKalmanNorm) {
      const groups = layer.groupSize === 2 ? 2 : 1;
      attachState(source, { state: noise([2, groups, channels], 2).abs().add(0.3), rectified: false });
    }
    noGrad(() => layer.call(noise([4, 3, 3, channels], 4)));
    for (const training of [true, false]) {
      layer.train(training);
      const buffers = () => layer.buffers().map((buffer) => [...buffer.dataSync()]);
      const before = buffers();
      const own = noGrad(() => normalized(layer, source))!.dataSync();
      expect(buffers()).toEqual(before);
      expectClose(own, noGrad(() => layer.call(source)).dataSync(), 1e-5);
    }
  });

  it('of EvoNorms is what their nonlinearity is applied to', () => {
    const input = noise([4, 3, 3, channels], 1);
    const simple = new nn.EvoNormS0({ channels, groups: 2 });
    const gate = input.sigmoid();
    const expected = simple.call(input).div(gate).dataSync();
    expectClose(noGrad(() => normalized(simple, input))!.dataSync(), expected, 1e-5);
    const batched = new nn.EvoNormB0({ channels });
    // With a slope far below 0 positive values are divided by the deviation of the batch.
    batched.slope!.copyFrom(new Float32Array(channels).fill(-1e6));
    const own = noGrad(() => normalized(batched, input))!.dataSync();
    const output = batched.call(input).dataSync();
    const positive = [...input.dataSync()].flatMap((value, at) => (value > 0.1 ? [at] : []));
    expectClose(
      positive.map((at) => own[at]!),
      positive.map((at) => output[at]!),
      1e-5,
    );
    expect([activates(simple), activates(new nn.EvoNormS0({ channels, nonlinearity: false }))]).toEqual([true, false]);
  });

  it('of OnlineNorm uses its running statistics', () => {
    const layer = new nn.OnlineNorm({ channels, guard: 'none' });
    const input = noise([4, 3, 3, channels], 1);
    noGrad(() => layer.call(input));
    const own = noGrad(() => normalized(layer, input))!.dataSync();
    expectClose(own, layer.eval().call(input).dataSync(), 1e-6);
  });
});

describe('a network with every method', () => {
  const labels = () => tensor([0, 1, 2, 0, 1, 2], { dtype: 'int32' });
  const build = (norm: nn.NormalizationName | nn.Normalization, version: 1 | 2) => {
    manualSeed(3);
    return models.resnetCifar({ depth: 8, width: 4, norm, version, block: 'basic', classes: 3 });
  };
  const names = Object.keys(nn.normalizations) as nn.NormalizationName[];

  it.each(names)('shows all activations, also those behind additions, with %s', async (norm) => {
    for (const version of [1, 2] as const) {
      const found = await nn.diagnose(build(norm, version), { images: noise([6, 8, 8, 3], 1), labels: labels() });
      const active = found.layers.filter(({ deadShare }) => deadShare !== undefined);
      // Version 1: behind the stem and twice in each of 3 blocks; a method may have a threshold on each side of a sum.
      const [least, most] = version === 1 ? [7, norm === 'frn' ? 10 : 7] : [7, 7];
      expect(active.length).toBeGreaterThanOrEqual(least);
      expect(active.length).toBeLessThanOrEqual(most);
      for (const { kind, power, nonFinite } of found.layers) {
        expect(nonFinite).toBe(false);
        if (kind !== 'norm') continue;
        const { constant, within, means, deviations } = power!.shares;
        expect(constant + within + means + deviations).toBeCloseTo(1, 6);
      }
      for (const { evidence, advice } of found.findings) {
        expect(evidence).toMatch(/\d/);
        expect(advice.length).toBeGreaterThan(20);
        expect(`${evidence}${advice}`).not.toContain('\n');
      }
    }
  });

  it.each(names.filter((name) => !/none|bnp|bn-free/.test(name)))(
    'measures its first norm before scale and shift, with %s',
    async (norm) => {
      const shares = [];
      for (const scale of [1, 3]) {
        const model = build(norm, 1);
        const first = model.modules().find((module) => module instanceof nn.NormalizationLayer)!;
        first.gamma!.copyFrom(new Float32Array(first.gamma!.size).fill(scale));
        first.beta?.copyFrom(new Float32Array(first.gamma!.size).fill(scale - 1));
        const found = await nn.diagnose(model, { images: noise([6, 8, 8, 3], 1) });
        shares.push(found.layers.find(({ kind }) => kind === 'norm')?.power);
      }
      expect(shares[0]).toBeDefined();
      expect(shares[1]).toEqual(shares[0]);
    },
  );

  it.each(['ic-conv-relu', 'conv-relu-ic'] as const)('sees the activations of ic in the order %s', async (order) => {
    const found = await nn.diagnose(build(nn.normalizations.ic({ order }), 2), { images: noise([6, 8, 8, 3], 1) });
    expect(found.layers.filter(({ kind }) => kind === 'activation')).toHaveLength(7);
  });

  it('does not take the dropout of ic for dependence on other samples', async () => {
    const model = new nn.Sequential([new nn.IndependentComponent({ channels: 3, dropRate: 0.9 })]);
    const twice = async () => (await nn.diagnose(model, { images: noise([6, 3], 1) })).sampleDependence;
    expect(await twice()).toEqual(await twice());
  });
});
