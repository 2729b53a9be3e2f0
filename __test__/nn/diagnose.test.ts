import * as models from '../../src/models';
import * as nn from '../../src/nn';
import { conditionNumber, dependence, powerDecomposition } from '../../src/nn/diagnose';
import { manualSeed, memory, randn, synchronize, type Tensor, tensor } from '../../src/tensor';
import { noise } from './support';

function labels(count: number): Tensor {
  return tensor(
    Int32Array.from({ length: count }, (_, index) => index % 10),
    { dtype: 'int32' },
  );
}

/**
 * A plain network: convolution, norm and ReLU, `depth` times. Kernels of 1, because the zeros around a map would make a pattern that is
 * the same for all inputs but not for all positions, which the decomposition counts as P2.
 */
function plain(norm: (channels: number) => nn.Module, depth: number, channels = 48): nn.Module {
  manualSeed(5);
  const layers: nn.Module[] = [];
  for (let index = 0; index < depth; index++) {
    layers.push(
      new nn.Conv2d({ inChannels: index === 0 ? 3 : channels, outChannels: channels, kernelSize: 1, bias: false }),
      norm(channels),
    );
  }
  return new nn.Sequential([
    ...layers,
    new nn.GlobalAvgPool(),
    new nn.Linear({ inFeatures: channels, outFeatures: 10 }),
  ]);
}

/** Gives the norms of a network shifts of N(0, 1): the case with the fastest collapse of layer norm. */
async function shifted(model: nn.Module): Promise<nn.Module> {
  for (const [name, parameter] of model.namedParameters()) {
    if (name.endsWith('.beta')) parameter.copyFrom(await randn([...parameter.shape]).data());
  }
  return model;
}

function kinds({ findings }: nn.Diagnosis): string[] {
  return findings.map(({ kind }) => kind);
}

jest.setTimeout(60_000);
beforeEach(() => manualSeed(8));

describe('power decomposition', () => {
  it('gives the golden numbers', () => {
    const values = Float64Array.from({ length: 48 }, (_, k) => Math.sin(0.7 * k + 0.3) + 0.2 * (k % 3));
    const parts = powerDecomposition({ values, samples: 4, positions: 4, channels: 3 });
    expect(parts.constant).toBeCloseTo(0.093326697, 9);
    expect(parts.within).toBeCloseTo(0.47106303, 9);
    expect(parts.means).toBeCloseTo(0.030711855, 9);
    expect(parts.deviations).toBeCloseTo(0.002224624, 9);
    expect(parts.total).toBeCloseTo(0.597326205, 9);
  });

  it.each([
    [1, 1, 1, 0],
    [1, 7, 3, 0],
    [5, 1, 17, 0],
    [3, 15, 16, 1e4],
    [7, 9, 65, -3],
  ])(
    'adds up to the mean square: %i samples, %i positions, %i channels, offset %d',
    async (samples, positions, channels, offset) => {
      const values = Float64Array.from(
        await noise([samples, positions, channels], 4).data(),
        (value) => value + offset,
      );
      const { constant, within, means, deviations, total } = powerDecomposition({
        values,
        samples,
        positions,
        channels,
      });
      expect((constant + within + means + deviations) / total).toBeCloseTo(1, 12);
      const square = values.reduce((sum, value) => sum + value ** 2 / values.length, 0);
      expect(total / square).toBeCloseTo(1, 12);
    },
  );
});

describe('dependence between channels', () => {
  it('finds the eigenvalues of a known matrix', () => {
    const [a, b] = [2, 1.9];
    expect(conditionNumber([Float64Array.of(a, b), Float64Array.of(b, a)])).toBeCloseTo(3.9 / 0.1, 6);
    expect(conditionNumber([Float64Array.of(1, 1), Float64Array.of(1, 1)])).toBe(Number.POSITIVE_INFINITY);
    const diagonal = [1e-3, 5, 100].map((value, at, all) => Float64Array.from(all, (_, k) => (k === at ? value : 0)));
    expect(conditionNumber(diagonal) / 1e5).toBeCloseTo(1, 6);
  });

  it('tells independent channels from copies and leaves constant ones out', async () => {
    const base = await randn([1000, 2]).data();
    const copies = Float64Array.from({ length: 4000 }, (_, k) => {
      const row = k >> 2;
      return [base[2 * row] ?? 0, base[2 * row + 1] ?? 0, -2 * (base[2 * row] ?? 0), 7][k % 4] ?? 0;
    });
    const independent = dependence({ values: base, samples: 1000, positions: 1, channels: 2 });
    expect(independent.correlation).toBeLessThan(0.1);
    expect(independent.mutualInformation).toBeLessThan(0.01);
    expect(independent.conditionNumber).toBeLessThan(1.5);
    const copied = dependence({ values: copies, samples: 1000, positions: 1, channels: 4 });
    expect(copied.correlation).toBeGreaterThan(1 / 3);
    expect(copied.correlation).toBeLessThan(0.4);
    expect(copied.conditionNumber).toBe(Number.POSITIVE_INFINITY);
    expect(dependence({ values: [1, 2], samples: 1, positions: 1, channels: 2 }).correlation).toBeUndefined();
  });
});

describe('diagnose', () => {
  const batch = () => ({ images: randn([16, 6, 6, 3]), labels: labels(16) });

  it('reports that a deep layer norm network collapses, and that proxy norm does not', async () => {
    const layer = await nn.diagnose(
      await shifted(plain((channels) => new nn.LayerNorm({ channels, activation: 'relu' }), 12)),
      batch(),
    );
    const shares = layer.layers.filter(({ kind }) => kind === 'norm').map(({ power }) => power?.shares.constant ?? 0);
    expect(shares[0]).toBeLessThan(0.15);
    expect(shares.at(-1)).toBeGreaterThan(0.8);
    const collapse = layer.findings.find(({ kind }) => kind === 'constant-collapse');
    expect(collapse).toMatchObject({ severity: 'warning', evidence: expect.stringMatching(/\d %.*of the pre-act/) });
    expect(collapse?.advice).toContain('proxy');
    const proxy = await nn.diagnose(await shifted(plain((channels) => new nn.ProxyNorm({ channels }), 12)), batch());
    expect(kinds(proxy)).not.toContain('constant-collapse');
    const last = proxy.layers.filter(({ kind }) => kind === 'norm').at(-1);
    expect(last?.power?.shares.constant).toBeLessThan(0.2);
  });

  it('measures norms before scale, shift and activation', async () => {
    const model = plain((channels) => new nn.BatchNorm({ channels, activation: 'relu' }), 3, 7);
    for (const parameter of model.parameters())
      if (parameter.rank === 1) parameter.copyFrom(new Float32Array(parameter.size).fill(3));
    const { layers } = await nn.diagnose(model, batch());
    for (const { kind, power } of layers) {
      if (kind !== 'norm') continue;
      expect(power?.total).toBeCloseTo(1, 3);
      expect(power?.shares.constant).toBeLessThan(1e-6);
    }
    expect(layers.map(({ kind }) => kind)).toEqual(['weight', 'norm', 'weight', 'norm', 'weight', 'norm', 'weight']);
    expect(layers.map(({ depth }) => depth)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  it('shows that instance norm erases the statistics of instances', async () => {
    const found = await nn.diagnose(
      plain((channels) => new nn.InstanceNorm({ channels, activation: 'relu' }), 2, 8),
      batch(),
    );
    expect(found.layers[1]?.instanceVariability).toBeLessThan(1e-6);
    expect(kinds(found)).toContain('uniform-instances');
  });

  it('shows that samples depend on each other with batch norm and not with frn', async () => {
    const images = randn([8, 8, 8, 1]);
    const dependent = await nn.diagnose(models.create('resnet-tiny', { norm: 'batch', inputShape: [8, 8, 1] }), {
      images,
    });
    expect(dependent.sampleDependence?.relativeDifference).toBeGreaterThan(0.01);
    expect(dependent.findings.find(({ kind }) => kind === 'sample-dependence')?.severity).toBe('warning');
    const independent = await nn.diagnose(models.create('resnet-tiny', { norm: 'frn', inputShape: [8, 8, 1] }), {
      images,
    });
    expect(independent.sampleDependence).toEqual({
      samples: 4,
      companyOf: 1,
      maximumDifference: 0,
      relativeDifference: 0,
    });
    expect(kinds(independent)).not.toContain('sample-dependence');
    expect(independent.loss).toBeUndefined();
  });

  it('does not take dropout for dependence', async () => {
    const model = new nn.Sequential([new nn.Linear({ inFeatures: 5, outFeatures: 3 }), new nn.Dropout({ rate: 0.5 })]);
    const { sampleDependence } = await nn.diagnose(model, { images: noise([6, 5], 1) });
    expect(sampleDependence?.maximumDifference).toBe(0);
    expect(model.modules().every(({ training }) => training)).toBe(true);
  });

  it('finds a dead channel by its number', async () => {
    const conv = new nn.Conv2d({ inChannels: 3, outChannels: 7, kernelSize: 1 });
    conv.bias?.copyFrom(Float32Array.of(0, 0, -1e6, 0, 0, 0, 0));
    const model = new nn.Sequential({
      conv,
      relu: new nn.ReLU(),
      pool: new nn.GlobalAvgPool(),
      out: new nn.Linear({ inFeatures: 7, outFeatures: 10 }),
    });
    const found = await nn.diagnose(model, batch());
    const relu = found.layers.find(({ name }) => name === 'relu');
    expect(relu?.deadChannels).toEqual([2]);
    expect(relu?.deadShare).toBeCloseTo(1 / 7);
    expect(found.findings.find(({ kind }) => kind === 'dead-units')).toMatchObject({
      layer: 'relu',
      severity: 'warning',
      evidence: expect.stringContaining('1 of 7 channels of relu'),
    });
  });

  it('compares gradients with weights', async () => {
    const model = new nn.Linear({ inFeatures: 2, outFeatures: 1, bias: false });
    model.weight.copyFrom(Float32Array.of(3, 4));
    const images = tensor([1, 0, 0, 1], { shape: [2, 2] });
    const found = await nn.diagnose(
      model,
      { images, labels: tensor([0, 0], { shape: [2, 1] }) },
      { loss: new nn.MSELoss() },
    );
    // Loss (3² + 4²) / 2, gradient (3, 4).
    expect(found.loss).toBeCloseTo(12.5, 5);
    expect(found.layers[0]?.gradientToWeight).toBeCloseTo(1, 5);
  });

  it('names the first layer with a number that is not finite', async () => {
    const model = plain((channels) => new nn.GroupNorm({ channels, groups: 1, activation: 'relu' }), 2, 4);
    model.parameters()[3]?.copyFrom(new Float32Array(model.parameters()[3]?.size ?? 0).fill(Number.NaN));
    const found = await nn.diagnose(model, batch());
    expect(found.findings[0]).toMatchObject({ kind: 'non-finite', layer: '2' });
  });

  it('leaves the model and the memory as they were', async () => {
    const model = models.create('resnet-tiny', { norm: 'batch', inputShape: [8, 8, 1] });
    const input = { images: randn([4, 8, 8, 1]), labels: labels(4) };
    model.eval();
    const state = async () =>
      Promise.all([...model.stateDict().values()].map(async (value) => [...(await value.data())]));
    const before = await state();
    await nn.diagnose(model, input);
    const { liveTensors } = memory();
    await nn.diagnose(model, input);
    await synchronize();
    expect(memory().liveTensors).toBe(liveTensors);
    expect(await state()).toEqual(before);
    expect(model.modules().some(({ training }) => training)).toBe(false);
    expect(model.parameters().every(({ grad }) => grad === undefined)).toBe(true);
  });

  it.each(['none', 'proxy', 'bn-free', 'rms', 'group'] as const)('takes a batch of one with norm %s', async (norm) => {
    const model = models.create('mlp', { norm, inputShape: [4, 4, 1] });
    const found = await nn.diagnose(model, { images: noise([1, 4, 4, 1], 3), labels: labels(1) });
    expect(found.sampleDependence).toBeUndefined();
    expect(found.layers.length).toBeGreaterThan(2);
  });

  it('refuses an empty batch', async () => {
    await expect(
      nn.diagnose(
        plain(() => new nn.ReLU(), 1),
        { images: tensor([], { shape: [0, 6, 6, 3] }) },
      ),
    ).rejects.toThrow(/at least one sample/);
  });
});
