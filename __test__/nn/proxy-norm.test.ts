import { conv2d, groupNorm, manualSeed, models, nn, optim, randn, scope, type Tensor, tensor } from '../../src';
import { EvenkeelError } from '../../src/errors';
import { normalMidQuantiles } from '../../src/nn/layers/normal-quantiles';
import { expectClose, readGolden } from '../support/golden';

function irregular(shape: readonly number[], offset = 0): Tensor {
  const size = shape.reduce((product, length) => product * length, 1);
  const values = Float32Array.from({ length: size }, (_, index) => Math.sin((index + 1) * 12.9898) * 1.5 + offset);
  return tensor(values, { shape });
}

function layerOf(name: string, channels: number): nn.ProxyNorm {
  const [, activation, groups] = /_(relu|silu)_g(\d+)$/.exec(name) ?? [];
  return new nn.ProxyNorm({ channels, groups: Number(groups), activation: activation as 'relu' | 'silu' });
}

describe('golden vectors', () => {
  it('match forward and in every gradient', async () => {
    const cases = await readGolden('proxy_norm');
    expect(cases.size).toBe(12);
    for (const [name, { tensor: load, exact }] of cases) {
      const input = load('x', true);
      const layer = layerOf(name, input.shape.at(-1) ?? 0);
      const parameters = {
        gamma: layer.gamma!,
        beta: layer.beta!,
        proxy_gamma: layer.proxyGamma,
        proxy_beta: layer.proxyBeta,
      };
      for (const [key, parameter] of Object.entries(parameters)) parameter.copyFrom(await load(key).data());
      const output = layer.call(input);
      expectClose(await output.data(), exact('y'), 2e-6);
      output.backward(load('dy'));
      expectClose(await input.grad!.data(), exact('d_x'), 1e-4);
      for (const [key, parameter] of Object.entries(parameters)) {
        expectClose(await parameter.grad!.data(), exact(`d_${key}`), 1e-4);
      }
    }
  });
});

describe('the nodes', () => {
  it('are the mid-quantiles of the specification', () => {
    const nodes = normalMidQuantiles(200);
    expect(nodes[100]).toBeCloseTo(0.0062666117, 8);
    expect(nodes[150]).toBeCloseTo(0.682377942, 7);
    expect(nodes[199]).toBeCloseTo(2.8070337683, 6);
    expect(nodes.reduce((sum, node) => sum + node, 0)).toBe(0);
    expect(nodes.reduce((sum, node) => sum + node ** 2, 0) / 200).toBeCloseTo(0.9935962236, 6);
    expect(normalMidQuantiles(3)[1]).toBe(0);
  });

  it('give the reference moments of each activation', async () => {
    for (const [activation, mean, scale] of [
      ['relu', 0.398451173, 1.648373304],
      ['silu', 0.206048365, 1.714976672],
      ['gelu', 0.281594782, 1.63801239],
    ] as const) {
      const statistics = new nn.ProxyNorm({ channels: 1, activation }).proxyStatistics();
      expect(await statistics.mean.item()).toBeCloseTo(mean, 6);
      expect(await statistics.scale.item()).toBeCloseTo(scale, 5);
    }
  });
});

/** The same, put together from tensor operations. */
function composed(layer: nn.ProxyNorm, input: Tensor): Tensor {
  const { groups, epsilon, activation, channels } = layer;
  const [gamma, beta] = [layer.gamma!, layer.beta!];
  const activate = nn.createActivation(activation, channels);
  const nodes = tensor(normalMidQuantiles(200), { shape: [200, 1] });
  const proxy = nodes.mul(layer.proxyGamma.add(1)).add(layer.proxyBeta);
  const activated = activate.call(proxy.mul(gamma).add(beta));
  const mean = activated.mean({ axes: 0 });
  const variance = activated.sub(mean).square().mean({ axes: 0 });
  const normalized = groupNorm(input, { groups, gamma, beta, epsilon, activation });
  return normalized.sub(mean).mul(variance.add(layer.proxyEpsilon).sqrt().reciprocal());
}

describe('the pass in one', () => {
  // Without an activation the gradients of scale and offset are sums that cancel, and nothing to compare relative to.
  it.each(['relu', 'silu', 'gelu', 'tanh'] as const)('agrees with tensor operations for %s', async (activation) => {
    for (const channels of [1, 7, 16, 66]) {
      const layer = new nn.ProxyNorm({ channels, groups: channels % 3 === 0 ? 3 : 1, activation });
      for (const [index, parameter] of layer.parameters().entries()) {
        parameter.copyFrom((await irregular([channels], 0.2 * index).data()) as Float32Array);
      }
      const results = [];
      for (const respond of [(input: Tensor) => layer.call(input), (input: Tensor) => composed(layer, input)]) {
        layer.zeroGrad();
        const input = irregular([3, 4, 3, channels]);
        input.requiresGrad = true;
        const output = respond(input);
        output
          .mul(irregular([3, 4, 3, channels], 0.5))
          .sum()
          .backward();
        const gradients = [input, ...layer.parameters()].map(({ grad }) => grad!);
        results.push(await Promise.all([output, ...gradients].map((value) => value.data())));
      }
      const [fused = [], separate = []] = results;
      for (const [index, values] of fused.entries()) expectClose(values, [...separate[index]!], 5e-5);
    }
  });

  it('makes the statistics anew when a parameter changed, by whatever way', async () => {
    const layer = new nn.ProxyNorm({ channels: 3 });
    const agrees = async () => {
      const input = irregular([2, 2, 2, 3]);
      expectClose(await layer.call(input).data(), [...(await composed(layer, input).data())], 1e-6);
    };
    await agrees();
    const optimizer = new optim.SGD(layer.parameters(), { learningRate: 0.5 });
    layer
      .call(irregular([2, 2, 2, 3]))
      .square()
      .sum()
      .backward();
    optimizer.step();
    await agrees();
    layer.beta!.copyFrom(new Float32Array([1, -1, 0]));
    await agrees();
    layer.loadStateDict(new nn.ProxyNorm({ channels: 3 }).stateDict());
    await agrees();
    for (const parameter of layer.parameters()) {
      parameter.copyFrom(new Float32Array([0.5, 1, 2]));
      await agrees();
    }
  });

  it('gives the same bits in training and evaluation', async () => {
    const layer = new nn.ProxyNorm({ channels: 2 });
    const first = await layer.call(irregular([1, 3, 3, 2])).data();
    layer.eval();
    expect([...(await layer.call(irregular([1, 3, 3, 2])).data())]).toEqual([...first]);
  });
});

describe('properties', () => {
  it('gives a sample the same bits alone and in any batch', async () => {
    const layer = new nn.ProxyNorm({ channels: 17 });
    const batch = irregular([3, 5, 5, 17]);
    const whole = await layer.call(batch).data();
    const alone = await layer.call(batch.slice({ starts: [1], ends: [2] })).data();
    expect([...alone]).toEqual([...whole.slice(alone.length, 2 * alone.length)]);
  });

  it('does not amplify a dead channel by more than proxyEpsilon allows', async () => {
    const layer = new nn.ProxyNorm({ channels: 2 });
    layer.beta!.copyFrom(new Float32Array([-100, 0]));
    const { scale } = layer.proxyStatistics();
    expect((await scale.data())[0]).toBeCloseTo(1 / Math.sqrt(0.03), 4);
  });

  it('decays the proxy parameters alone', () => {
    const names = new nn.ProxyNorm({ channels: 2 }).namedParameters().filter(([, parameter]) => parameter.decay);
    expect(names.map(([name]) => name).sort()).toEqual(['proxyBeta', 'proxyGamma']);
  });

  /**
   * The paper's first failure of layer norm: with depth, each channel of the normalized pre-activations becomes the same constant for
   * every input. Thresholds from the correlation map of wide random networks, which gives 0.987 after 50 layers without the proxy.
   */
  it('keeps channels from becoming constant with depth, where layer norm alone does not', async () => {
    const constantShare = async (norm: () => nn.Module): Promise<number> => {
      manualSeed(3);
      let value = randn([16, 4, 4, 128]);
      for (let depth = 1; depth < 50; depth++) {
        value = scope(() => norm().call(conv2d(value, randn([1, 1, 128, 128]))));
      }
      const normalized = new nn.LayerNorm({ channels: 128, affine: false }).call(
        conv2d(value, randn([1, 1, 128, 128])),
      );
      return normalized
        .mean({ axes: [0, 1, 2] })
        .square()
        .mean()
        .item();
    };
    expect(await constantShare(() => new nn.LayerNorm({ channels: 128, activation: 'relu' }))).toBeGreaterThan(0.85);
    expect(await constantShare(() => new nn.ProxyNorm({ channels: 128 }))).toBeLessThan(0.1);
  });

  it('refuses what has no proxy', () => {
    const attempt = () => models.create('resnet20v2', { norm: 'proxy', activation: 'prelu' });
    expect(attempt).toThrow(EvenkeelError);
    expect(attempt).toThrow(/prelu/);
    expect(() => new nn.ProxyNorm({ channels: 6, groups: 4 })).toThrow(/divide/);
  });
});
