/** The testable properties of Proxy Normalization (Labatie et al. 2021) by their numbers; N15 to N18 need long training. */
import {
  concatenate,
  conv2d,
  gradcheck,
  groupNorm,
  manualSeed,
  nn,
  noGrad,
  optim,
  randn,
  scope,
  type Tensor,
  tensor,
} from '../../../src';
import { type PowerDecomposition, powerDecomposition } from '../../../src/nn/diagnose/channels';
import { normalMidQuantiles } from '../../../src/nn/layers/normal-quantiles';
import { noise } from '../support';

const values = (value: Tensor): number[] => [...value.dataSync()];
const leaf = (value: Tensor): Tensor => tensor(value.dataSync(), { shape: value.shape, requiresGrad: true });

/** A layer whose parameters are all away from their first values. */
function irregularLayer(channels: number, options: Partial<nn.ProxyNormOptions> = {}): nn.ProxyNorm {
  const layer = new nn.ProxyNorm({ channels, ...options });
  layer.gamma!.copyFrom(noise([channels], 1).mul(0.3).add(1).dataSync());
  for (const [seed, parameter] of [layer.beta!, layer.proxyBeta, layer.proxyGamma].entries()) {
    parameter.copyFrom(
      noise([channels], seed + 2)
        .mul(0.2)
        .dataSync(),
    );
  }
  return layer;
}

describe('the layer', () => {
  it.each([1, 4])('N1: gives a sample the same bits in any batch, gradients too, with %i groups', (groups) => {
    const layer = irregularLayer(8, { groups });
    const [sample, garbage] = [noise([1, 3, 3, 8], 5), noise([1, 3, 3, 8], 6).mul(Number.NaN)];
    const run = (parts: readonly Tensor[], at: number) => {
      const input = tensor(parts.flatMap(values), { shape: [parts.length, 3, 3, 8], requiresGrad: true });
      const output = layer.call(input);
      output.backward(noise([1, 3, 3, 8], 7).expand([parts.length, 3, 3, 8]));
      return [output, input.grad!].map((each) => values(each).slice(at * 72, at * 72 + 72));
    };
    expect(run([garbage, sample, noise([1, 3, 3, 8], 8).mul(1e18)], 1)).toEqual(run([sample], 0));
  });

  it('N2: has statistics that no data changes, and no buffers', () => {
    const layer = irregularLayer(5);
    const statistics = () => scope(() => Object.values(layer.proxyStatistics()).map(values));
    const before = statistics();
    layer.call(noise([3, 2, 2, 5], 1).mul(100));
    expect(statistics()).toEqual(before);
    expect(values(layer.eval().call(noise([3, 2, 2, 5], 2)))).toEqual(
      values(layer.train().call(noise([3, 2, 2, 5], 2))),
    );
    expect(layer.namedBuffers()).toEqual([]);
  });

  it('N3: has moments near the closed form of ReLU', () => {
    const density = (a: number) => Math.exp((-a * a) / 2) / Math.sqrt(2 * Math.PI);
    // The distribution function by Simpson's rule; exact to more digits than are compared.
    const distribution = (a: number) => {
      const steps = 400;
      let sum = density(0) + density(a);
      for (let step = 1; step < steps; step++) sum += (step % 2 === 1 ? 4 : 2) * density((a * step) / steps);
      return 0.5 + (sum * a) / steps / 3;
    };
    const grid = [-2, -1, 0, 0.5, 2].flatMap((a) => [0.25, 1, 2].map((s) => [a, s] as const));
    const layer = new nn.ProxyNorm({ channels: grid.length });
    layer.beta!.copyFrom(Float32Array.from(grid, ([a]) => a));
    layer.gamma!.copyFrom(Float32Array.from(grid, ([, s]) => s));
    const { mean, scale } = layer.proxyStatistics();
    for (const [at, [a, s]] of grid.entries()) {
      const ratio = a / s;
      const first = a * distribution(ratio) + s * density(ratio);
      const second = (a * a + s * s) * distribution(ratio) + a * s * density(ratio);
      expect(Math.abs(values(mean)[at]! - first) / s).toBeLessThan(0.0065);
      expect(Math.abs(values(scale)[at]! ** -2 - 0.03 - (second - first ** 2)) / s ** 2).toBeLessThan(0.0065);
    }
  });

  it.each(['relu', 'silu', 'gelu'] as const)(
    'N4: standardizes what is distributed like the proxy, with %s',
    (activation) => {
      // The nodes themselves, in another order in each channel: the norm multiplies them with 1 / √mean(q²).
      const nodes = normalMidQuantiles(200);
      const factor = 1 / Math.sqrt(nodes.reduce((sum, node) => sum + node ** 2, 0) / 200);
      const layer = irregularLayer(3, { activation, epsilon: 0 });
      layer.proxyBeta.copyFrom(new Float32Array(3));
      layer.proxyGamma.copyFrom(new Float32Array(3).fill(factor - 1));
      const input = Float32Array.from(
        { length: 600 },
        (_, at) => nodes[(Math.floor(at / 3) * [1, 3, 7][at % 3]!) % 200]!,
      );
      const output = values(layer.call(tensor(input, { shape: [1, 20, 10, 3] })));
      const variances = values(layer.proxyStatistics().scale).map((scale) => scale ** -2 - 0.03);
      for (const channel of [0, 1, 2]) {
        const own = output.filter((_, at) => at % 3 === channel);
        const mean = own.reduce((sum, value) => sum + value / 200, 0);
        const variance = own.reduce((sum, value) => sum + (value - mean) ** 2 / 200, 0);
        expect(Math.abs(mean)).toBeLessThan(2e-6);
        expect(Math.abs(variance - variances[channel]! / (variances[channel]! + 0.03))).toBeLessThan(2e-6);
      }
    },
  );

  // With ReLU by the reference vectors of ../proxy-norm.test.ts: among 200 nodes one is always at its kink.
  it.each(['silu', 'gelu'] as const)(
    'N5: has gradients that agree with finite differences, with %s',
    async (activation) => {
      for (const groups of [1, 2, 6]) {
        const layer = irregularLayer(6, { activation, groups });
        const inputs = [leaf(noise([2, 3, 3, 6], 9)), ...layer.parameters()];
        const result = await gradcheck((x) => layer.call(x!), inputs, { step: 2e-3 });
        expect(result).toMatchObject({ passed: true });
      }
    },
  );

  it('N6: adds up the gradients of parts of a batch to those of the whole', () => {
    const gradients = (parts: number): number[] => {
      const layer = irregularLayer(7);
      const [input, gradient] = [noise([8, 3, 3, 7], 1), noise([8, 3, 3, 7], 2)];
      for (let part = 0; part < parts; part++) {
        const range = { starts: [(8 / parts) * part], ends: [(8 / parts) * (part + 1)] };
        layer.call(leaf(input.slice(range))).backward(gradient.slice(range));
      }
      return layer.parameters().flatMap(({ grad }) => values(grad!));
    };
    const [whole, split] = [gradients(1), gradients(4)];
    expect(Math.hypot(...whole.map((value, at) => value - split[at]!)) / Math.hypot(...whole)).toBeLessThan(1e-6);
  });

  it('N7: decays the parameters of the proxy alone', () => {
    for (const grouped of [false, true]) {
      const layer = irregularLayer(4);
      const parameters = {
        gamma: layer.gamma!,
        beta: layer.beta!,
        proxyGamma: layer.proxyGamma,
        proxyBeta: layer.proxyBeta,
      };
      const before = Object.values(parameters).map(values);
      for (const parameter of layer.parameters()) parameter.grad = tensor(new Float32Array(4));
      const decay = { weightDecay: 0.25 };
      const parts = grouped ? optim.parameterGroups(layer, decay) : layer.parameters();
      new optim.SGD(parts, { learningRate: 0.5, ...decay }).step();
      const after = Object.values(parameters).map(values);
      expect(after.slice(0, 2)).toEqual(before.slice(0, 2));
      for (const which of [2, 3]) {
        for (const [at, value] of after[which]!.entries()) expect(value).toBeCloseTo(0.875 * before[which]![at]!, 6);
      }
    }
  });
});

const CHANNELS = 64;

/** Adds one pixel on each side, from the opposite side. */
function periodic(input: Tensor): Tensor {
  const [batch = 0, height = 0, width = 0, channels = 0] = input.shape;
  const rows = concatenate(
    [
      input.slice({ starts: [0, height - 1], ends: [batch, height] }),
      input,
      input.slice({ starts: [0, 0], ends: [batch, 1] }),
    ],
    1,
  );
  const part = (start: number, end: number) =>
    rows.slice({ starts: [0, 0, start, 0], ends: [batch, height + 2, end, channels] });
  return concatenate([part(width - 1, width), rows, part(0, 1)], 2);
}

/** Smooth images with a colour of their own. */
function images(): Tensor {
  const draws = randn([16, 3, 3]).dataSync();
  const pixels = Float32Array.from({ length: 16 * 64 * 3 }, (_, at) => {
    const [sample, row, column, channel] = [
      Math.floor(at / 192),
      Math.floor(at / 24) % 8,
      Math.floor(at / 3) % 8,
      at % 3,
    ];
    const [first, second, colour] = [0, 1, 2].map((index) => draws[(sample * 3 + channel) * 3 + index]!);
    const turn = (2 * Math.PI) / 8;
    return Math.sin(turn * (row + column) + 3 * first!) + Math.sin(turn * column + 3 * second!) + colour!;
  });
  return tensor(pixels, { shape: [16, 8, 8, 3] });
}

type Shares = Pick<PowerDecomposition, 'constant' | 'within'> & { readonly instances: number };

/** Shares of the power of the normalized pre-activations at every depth of a plain random network. */
function shares(create: () => nn.NormalizationLayer, depth: number): Shares[] {
  manualSeed(21);
  const found: Shares[] = [];
  noGrad(() => {
    let value = images();
    for (let layer = 0; layer < depth; layer++) {
      const before = value;
      const channels = before.shape.at(-1)!;
      const norm = create();
      norm.gamma!.copyFrom(randn([CHANNELS]).mul(0.2).add(1).dataSync());
      norm.beta!.copyFrom(randn([CHANNELS]).mul(0.2).dataSync());
      const kernel = randn([3, 3, channels, CHANNELS]).mul(1 / Math.sqrt(9 * channels));
      const responses = scope(() => conv2d(periodic(before), kernel));
      const normalized = scope(() => normalize(norm, responses));
      const power = powerDecomposition({
        values: normalized.dataSync(),
        samples: 16,
        positions: 64,
        channels: CHANNELS,
      });
      found.push({
        constant: power.constant / power.total,
        within: power.within / power.total,
        instances: (power.means + power.deviations) / power.total,
      });
      value = norm.call(responses);
      for (const each of [before, kernel, responses, normalized]) each.dispose();
      norm.dispose();
    }
    value.dispose();
  });
  return found;
}

/** The norm's own normalization without scale, shift and what follows. */
function normalize(norm: nn.NormalizationLayer, input: Tensor): Tensor {
  if (norm instanceof nn.BatchNorm) return new nn.BatchNorm({ channels: CHANNELS, affine: false }).call(input);
  const groups =
    norm instanceof nn.InstanceNorm ? CHANNELS : norm instanceof nn.LayerNorm ? 1 : (norm as nn.GroupNorm).groups;
  return groupNorm(input, { groups });
}

describe('plain random networks', () => {
  const channels = CHANNELS;
  const activation = 'relu';
  const cached = new Map<string, Shares[]>();
  const makers = {
    layer: () => new nn.LayerNorm({ channels, activation }),
    'layer + proxy': () => new nn.ProxyNorm({ channels }),
    'group + proxy': () => new nn.ProxyNorm({ channels, groups: 4 }),
    batch: () => new nn.BatchNorm({ channels, activation }),
    instance: () => new nn.InstanceNorm({ channels, activation }),
  };
  const sharesOf = (name: keyof typeof makers): Shares[] => {
    const known = cached.get(name) ?? shares(makers[name], 50);
    cached.set(name, known);
    return known;
  };
  const at = (name: keyof typeof makers, depth: number): Shares => sharesOf(name)[depth - 1]!;

  it('N8: collapse to one constant for each channel with layer norm', () => {
    expect(at('layer', 10).constant).toBeGreaterThanOrEqual(0.8);
    expect(at('layer', 20).constant).toBeGreaterThanOrEqual(0.93);
    expect(at('layer', 50).constant).toBeGreaterThanOrEqual(0.97);
  });

  it('N9: collapse at the rate of the correlation map', () => {
    const map = (c: number) => (Math.sqrt(1 - c * c) + c * (Math.PI - Math.acos(c))) / Math.PI;
    let correlation = 0;
    for (let depth = 2; depth <= 20; depth++) {
      correlation = map((1.04 * correlation + 0.04) / 1.08);
      if ([2, 5, 10, 20].includes(depth)) {
        expect(Math.abs(at('layer', depth).constant - correlation)).toBeLessThanOrEqual(0.1);
      }
    }
  });

  it.each(['layer + proxy', 'group + proxy'] as const)('N10: do not collapse with %s', (name) => {
    expect(
      Math.max(
        ...sharesOf(name)
          .slice(4)
          .map(({ constant }) => constant),
      ),
    ).toBeLessThanOrEqual(0.1);
    expect(
      Math.max(
        ...sharesOf(name)
          .slice(19)
          .map(({ constant }) => constant),
      ),
    ).toBeLessThanOrEqual(0.01);
  });

  it('N11: have no constant share with batch norm', () => {
    expect(Math.max(...sharesOf('batch').map(({ constant }) => constant))).toBeLessThanOrEqual(1e-6);
  });

  it('N12: lose the variability of instances with instance norm, and keep it with the proxy', () => {
    expect(Math.max(...sharesOf('instance').map(({ instances }) => instances))).toBeLessThanOrEqual(1e-6);
    for (const depth of [10, 20, 50]) {
      expect(at('layer + proxy', depth).instances).toBeGreaterThanOrEqual(0.01);
      expect(at('layer + proxy', depth).instances).toBeGreaterThanOrEqual(at('layer', depth).instances);
    }
  });
});

describe('correlations', () => {
  it.each([
    [0, 0.338, 0],
    [0.3, 0.498, 0.239],
    [0.6, 0.688, 0.525],
    [0.9, 0.914, 0.866],
  ])('N13: of %d become %d behind layer norm and %d behind the proxy', (correlation, plain, proxied) => {
    manualSeed(8);
    const [channels, rows] = [2000, 200];
    const first = randn([rows, channels]);
    const second = first.mul(correlation).add(randn([rows, channels]).mul(Math.sqrt(1 - correlation ** 2)));
    const layer = new nn.ProxyNorm({ channels, epsilon: 0 });
    layer.gamma!.copyFrom(randn([channels]).mul(0.2).add(1).dataSync());
    layer.beta!.copyFrom(randn([channels]).mul(0.2).dataSync());
    const respond = (input: Tensor) => input.mul(layer.gamma!).add(layer.beta!).relu();
    const cosine = (a: readonly number[], b: readonly number[]) => {
      const [product, left, right] = a.reduce(
        ([p, l, r], value, at) => [p + value * b[at]!, l + value ** 2, r + b[at]! ** 2] as [number, number, number],
        [0, 0, 0] as [number, number, number],
      );
      return product / Math.sqrt(left * right);
    };
    // As in the closed form, the inputs are normalized already: without the norm in front.
    const [a, b] = [respond(first), respond(second)];
    expect(Math.abs(cosine(values(a), values(b)) - plain)).toBeLessThan(0.01);
    const { mean, scale } = layer.proxyStatistics();
    const [c, d] = [a, b].map((value) => values(value.sub(mean).mul(scale)));
    expect(Math.abs(cosine(c!, d!) - proxied)).toBeLessThan(0.01);
  });

  it('N14: the four parts of the power add up to the mean square, and match the reference', () => {
    const input = Float64Array.from({ length: 48 }, (_, k) => Math.sin(0.7 * k + 0.3) + 0.2 * (k % 3));
    const power = powerDecomposition({ values: input, samples: 4, positions: 4, channels: 3 });
    const parts = [power.constant, power.within, power.means, power.deviations];
    for (const [index, expected] of [0.093326697, 0.47106303, 0.030711855, 0.002224624].entries()) {
      expect(parts[index]).toBeCloseTo(expected, 8);
    }
    expect(parts.reduce((sum, part) => sum + part, 0)).toBeCloseTo(power.total, 12);
    expect(power.total).toBeCloseTo(0.597326205, 8);
  });
});
