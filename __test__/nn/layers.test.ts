import { EvenkeelError } from '../../src/errors';
import * as nn from '../../src/nn';
import { manualSeed, ones, scope, type Tensor, tensor } from '../../src/tensor';
import { noise } from './support';

function codeOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof EvenkeelError) return error.code;
    throw error;
  }
  return 'no error';
}

/** Overwrites a parameter with numbers. */
function set(target: Tensor | undefined, values: readonly number[]): void {
  target?.copyFrom(Float32Array.from(values));
}

function expectClose(actual: Tensor, expected: readonly number[], digits = 5): void {
  const values = [...actual.dataSync()];
  expect(values).toHaveLength(expected.length);
  for (const [index, value] of values.entries()) expect(value).toBeCloseTo(expected[index] ?? Number.NaN, digits);
}

describe('weight layers', () => {
  it('Conv2d has NHWC shapes, HWIO weights and counts its multiply-adds', () => {
    const conv = new nn.Conv2d({
      inChannels: 4,
      outChannels: 6,
      kernelSize: [3, 5],
      stride: 2,
      padding: [1, 2],
      groups: 2,
    });
    expect(conv.weight.shape).toEqual([3, 5, 2, 6]);
    expect(conv.bias?.shape).toEqual([6]);
    expect([conv.weight.decay, conv.bias?.decay]).toEqual([true, false]);
    const input = ones([2, 7, 9, 4]);
    const output = conv.call(input);
    expect(output.shape).toEqual([2, 4, 5, 6]);
    expect(conv.multiplyAdds(input, output)).toBe(2 * 4 * 5 * 6 * 3 * 5 * 2);
  });

  it('Conv2d computes a known example', () => {
    const conv = new nn.Conv2d({ inChannels: 1, outChannels: 1, kernelSize: 2 });
    set(conv.weight, [1, 2, 3, 4]);
    set(conv.bias, [10]);
    expectClose(conv.call(tensor([1, 2, 3, 4, 5, 6, 7, 8, 9], { shape: [1, 3, 3, 1] })), [47, 57, 77, 87]);
  });

  it("Conv2d keeps the size with padding 'same'", () => {
    const conv = new nn.Conv2d({ inChannels: 1, outChannels: 1, kernelSize: [5, 3], dilation: 2, padding: 'same' });
    expect(conv.padding).toEqual([4, 2]);
    expect(conv.call(ones([1, 9, 8, 1])).shape).toEqual([1, 9, 8, 1]);
    expect(codeOf(() => new nn.Conv2d({ inChannels: 1, outChannels: 1, kernelSize: 4, padding: 'same' }))).toBe(
      'INVALID_ARGUMENT',
    );
  });

  it('Linear computes input times weight plus bias', () => {
    const linear = new nn.Linear({ inFeatures: 2, outFeatures: 3 });
    set(linear.weight, [1, 2, 3, 4, 5, 6]);
    set(linear.bias, [10, 20, 30]);
    const output = linear.call(tensor([[1, -1]]));
    expectClose(output, [7, 17, 27]);
    expect(linear.multiplyAdds(output, output)).toBe(6);
    expect(new nn.Linear({ inFeatures: 2, outFeatures: 3, bias: false }).bias).toBeUndefined();
  });

  it('refuse impossible options', () => {
    const options = { inChannels: 4, outChannels: 6, kernelSize: 3 };
    for (const change of [
      { inChannels: 0 },
      { kernelSize: 0 },
      { stride: 0 },
      { padding: -1 },
      { groups: 4 },
      { dilation: 1.5 },
    ]) {
      expect(codeOf(() => new nn.Conv2d({ ...options, ...change }))).toBe('INVALID_ARGUMENT');
    }
    expect(codeOf(() => new nn.Linear({ inFeatures: 2, outFeatures: -1 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => new nn.Conv2d(options).call(ones([1, 8, 8, 5])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => new nn.Linear({ inFeatures: 2, outFeatures: 1 }).call(ones([1, 3])))).toBe('SHAPE_MISMATCH');
  });
});

describe('layers without weights', () => {
  const square = () => tensor([1, 2, 3, 4], { shape: [1, 2, 2, 1] });

  it('pool and flatten', () => {
    expectClose(new nn.MaxPool2d({ kernelSize: 2 }).call(square()), [4]);
    expectClose(new nn.AvgPool2d({ kernelSize: 2 }).call(square()), [2.5]);
    expectClose(new nn.AvgPool2d({ kernelSize: 1, stride: 2 }).call(square()), [1]);
    const pooled = new nn.GlobalAvgPool().call(ones([3, 4, 5, 7]));
    expect(pooled.shape).toEqual([3, 7]);
    expect(new nn.Flatten().call(ones([3, 4, 5, 7])).shape).toEqual([3, 140]);
    expect(new nn.Flatten().call(ones([0, 4, 5, 7])).shape).toEqual([0, 140]);
    expect(codeOf(() => new nn.MaxPool2d({ kernelSize: 0 }))).toBe('INVALID_ARGUMENT');
  });

  it('activate', () => {
    const x = [-2, -0.5, 0, 0.5, 2];
    const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));
    const cases: readonly (readonly [nn.Module, (v: number) => number])[] = [
      [new nn.ReLU(), (v) => Math.max(v, 0)],
      [new nn.LeakyReLU({ slope: 0.1 }), (v) => (v > 0 ? v : 0.1 * v)],
      [new nn.PReLU(), (v) => (v > 0 ? v : 0.25 * v)],
      [new nn.SiLU(), (v) => v * sigmoid(v)],
      [new nn.ELU({ alpha: 2 }), (v) => (v > 0 ? v : 2 * Math.expm1(v))],
      [new nn.Softplus(), (v) => Math.log1p(Math.exp(v))],
      [new nn.HardSwish(), (v) => (v * Math.min(Math.max(v + 3, 0), 6)) / 6],
      [
        new nn.GELU({ approximate: 'tanh' }),
        (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))),
      ],
      [new nn.Sigmoid(), sigmoid],
      [new nn.Tanh(), Math.tanh],
      [new nn.HardTanh({ low: -1, high: 0.25 }), (v) => Math.min(0.25, Math.max(-1, v))],
      [new nn.ThresholdedLinearUnit({ channels: 1 }), (v) => Math.max(v, 0)],
    ];
    for (const [layer, expected] of cases) expectClose(layer.call(tensor(x, { shape: [5, 1] })), x.map(expected));
    expectClose(new nn.GELU().call(tensor(x)), [-0.0455003, -0.1542688, 0, 0.3457312, 1.9544997]);
    expect(codeOf(() => new nn.HardTanh({ low: 1, high: 1 }))).toBe('INVALID_ARGUMENT');
    for (const name of [
      'none',
      'relu',
      'leakyRelu',
      'prelu',
      'elu',
      'silu',
      'gelu',
      'geluTanh',
      'sigmoid',
      'tanh',
      'hardTanh',
      'softplus',
      'hardSwish',
    ] as const) {
      // A layer and a norm with the activation fused do the same.
      const alone = nn.createActivation(name, 1).call(new nn.LayerNorm({ channels: 5 }).call(tensor([x])));
      const build = new nn.NormalizedLayers({ norm: 'layer', activation: name });
      expectClose(build.unit({ channels: 5, spatial: false }).call(tensor([x])), [...alone.dataSync()]);
    }
    expect(codeOf(() => nn.createActivation('swish' as 'silu', 1))).toBe('INVALID_ARGUMENT');
  });

  it('Dropout drops in training only, and follows the seed', () => {
    const dropout = new nn.Dropout({ rate: 0.25 });
    manualSeed(3);
    const first = dropout.call(ones([1000])).dataSync();
    const second = dropout.call(ones([1000])).dataSync();
    manualSeed(3);
    expect(dropout.call(ones([1000])).dataSync()).toEqual(first);
    expect(second).not.toEqual(first);
    const dropped = first.filter((value) => value === 0).length;
    expect(dropped).toBeGreaterThan(190);
    expect(dropped).toBeLessThan(310);
    expect(new Set(first)).toEqual(new Set([0, Math.fround(4 / 3)]));
    const input = ones([4]);
    expect(dropout.eval().call(input)).toBe(input);
    expect(codeOf(() => new nn.Dropout({ rate: 1 }))).toBe('INVALID_ARGUMENT');
  });
});

describe('normalization layers', () => {
  const channels = 6;
  const input = () => noise([3, 4, 5, channels], 9);

  /** Normalizes by definition, in float64, over the sets that `key` names. */
  function normalize(
    x: Tensor,
    key: (n: number, p: number, c: number) => string,
    epsilon: number,
    centre = true,
  ): number[] {
    const values = [...x.dataSync()];
    const positions = x.size / ((x.shape[0] ?? 1) * channels);
    const keyOf = (index: number) =>
      key(Math.floor(index / channels / positions), Math.floor(index / channels) % positions, index % channels);
    const sets = new Map<string, number[]>();
    for (const [index, value] of values.entries()) {
      const set = sets.get(keyOf(index)) ?? [];
      set.push(value);
      sets.set(keyOf(index), set);
    }
    const moments = new Map(
      [...sets].map(([name, set]) => {
        const mean = centre ? set.reduce((a, b) => a + b, 0) / set.length : 0;
        return [name, { mean, square: set.reduce((a, b) => a + (b - mean) ** 2, 0) / set.length }] as const;
      }),
    );
    return values.map((value, index) => {
      const { mean, square } = moments.get(keyOf(index)) ?? { mean: Number.NaN, square: Number.NaN };
      return (value - mean) / Math.sqrt(square + epsilon);
    });
  }

  it('take their statistics over the right sets', () => {
    const x = input();
    expectClose(
      new nn.BatchNorm({ channels }).call(x),
      normalize(x, (_n, _p, c) => `${c}`, 1e-5),
    );
    expectClose(
      new nn.GroupNorm({ channels, groups: 2 }).call(x),
      normalize(x, (n, _p, c) => `${n},${Math.floor(c / 3)}`, 1e-5),
    );
    expectClose(
      new nn.LayerNorm({ channels }).call(x),
      normalize(x, (n) => `${n}`, 1e-5),
    );
    expectClose(
      new nn.LayerNorm({ channels, over: 'channels' }).call(x),
      normalize(x, (n, p) => `${n},${p}`, 1e-5),
    );
    expectClose(
      new nn.InstanceNorm({ channels }).call(x),
      normalize(x, (n, _p, c) => `${n},${c}`, 1e-5),
    );
    expectClose(
      new nn.RMSNorm({ channels }).call(x),
      normalize(x, (n, p) => `${n},${p}`, 1e-5, false),
    );
    expectClose(
      new nn.FilterResponseNorm({ channels, threshold: false }).call(x),
      normalize(x, (n, _p, c) => `${n},${c}`, 1e-6, false),
    );
  });

  it('scale, shift and activate', () => {
    const x = input();
    const layers = [nn.BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm, nn.RMSNorm] as const;
    for (const Layer of layers) {
      const plain = new Layer({ channels, affine: false });
      const fused = new Layer({ channels, activation: 'relu' });
      expect(plain.parameters()).toHaveLength(0);
      expect(fused.parameters().every((parameter) => !parameter.decay)).toBe(true);
      set(fused.gamma, [1, 2, 3, 4, 5, 6]);
      set(fused.beta, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
      const shift = Layer === nn.RMSNorm ? 0 : 0.1;
      const expected = [...plain.call(x).dataSync()].map((value, index) => {
        const c = (index % channels) + 1;
        return Math.max(0, value * c + shift * c);
      });
      expectClose(fused.call(x), expected, 4);
      expect(new Layer({ channels, initialScale: 0 }).gamma?.dataSync()).toEqual(new Float32Array(channels));
    }
  });

  it('BatchNorm uses the batch in training and running statistics in evaluation', () => {
    const norm = new nn.BatchNorm({ channels: 1, momentum: 0.25 });
    const x = tensor([1, 3, 5, 7], { shape: [4, 1] });
    expectClose(norm.call(x), [-1.3416, -0.4472, 0.4472, 1.3416], 4);
    expectClose(norm.runningMean, [1]);
    // Mean 4, unbiased variance 20/3.
    expectClose(norm.runningVariance, [0.75 + 20 / 12]);
    norm.eval();
    const deviation = Math.sqrt(0.75 + 20 / 12 + 1e-5);
    expectClose(norm.call(x), [0, 2 / deviation, 4 / deviation, 6 / deviation]);
    expectClose(norm.runningMean, [1]);
    expect(norm.namedBuffers().map(([name]) => name)).toEqual(['runningMean', 'runningVariance']);
  });

  it('BatchNorm adds a shortcut before its activation', () => {
    const x = input();
    const shortcut = noise(x.shape, 10);
    const plain = [...new nn.BatchNorm({ channels }).call(x).dataSync()];
    const added = [...shortcut.dataSync()];
    expectClose(
      new nn.BatchNorm({ channels, activation: 'relu' }).call([x, shortcut]),
      plain.map((value, index) => Math.max(0, value + (added[index] ?? Number.NaN))),
    );
  });

  it('FilterResponseNorm gives the golden values of its specification, with gradients', () => {
    const wave = (f: (k: number) => number) => Float32Array.from({ length: 16 }, (_, k) => f(k));
    const x = tensor(
      wave((k) => Math.sin(0.7 * k + 0.3)),
      { shape: [2, 2, 2, 2], requiresGrad: true },
    );
    const norm = new nn.FilterResponseNorm({ channels: 2 });
    set(norm.gamma, [1.1, 0.8]);
    set(norm.beta, [0.05, -0.1]);
    set(norm.tau, [-0.2, 0.1]);
    const z = norm.call(x);
    expectClose(
      z,
      [
        0.5065335959, 0.7840787476, 1.5819707135, 0.609665162, 0.1142357745, 0.1, -0.2, 0.1, -0.2, 0.2491038356,
        1.4878093584, 1.0086449478, 1.1708634956, 0.1, -0.2, 0.1,
      ],
    );
    z.backward(
      tensor(
        wave((k) => Math.cos(0.9 * k)),
        { shape: [2, 2, 2, 2] },
      ),
    );
    expectClose(norm.gamma?.grad as Tensor, [-1.3427147692, -1.4535697725]);
    expectClose(norm.beta?.grad as Tensor, [-1.2294206794, -1.4151974801]);
    expectClose(norm.tau?.grad as Tensor, [2.242478776, 2.0315798389]);
    expectClose(
      x.grad as Tensor,
      [
        1.5374357066, 0.6864786149, -0.3758633477, -0.9230441587, -1.3863976627, -0.0242813905, 0.0245163073,
        -0.0350596239, -0.3373510875, -0.1092756213, -0.7730684915, -0.4767546169, 0.269652863, 0.013012934,
        -0.5640048791, -0.5152225705,
      ],
    );
  });

  it('FilterResponseNorm learns epsilon where asked to', () => {
    const norm = new nn.FilterResponseNorm({ channels: 3, learnedEpsilon: true });
    set(norm.tau, [-0.5, -0.5, -0.5]);
    const z = norm.call(tensor([0.01, -0.02, 0.5, -0.3, 0.002, 1.5], { shape: [2, 3] }));
    expectClose(z, [0.7053456159, -0.5, 0.9997980612, -0.5, 0.1951800146, 0.9999775563]);
    z.backward(
      tensor(
        Float32Array.from({ length: 6 }, (_, k) => Math.cos(0.9 * k)),
        { shape: [2, 3] },
      ),
    );
    expect(norm.epsilonOffset?.grad?.itemSync()).toBeCloseTo(-920.617, 1);
    const exponential = new nn.FilterResponseNorm({ channels: 3, learnedEpsilon: true, epsilonForm: 'exponential' });
    set(exponential.tau, [-0.5, -0.5, -0.5]);
    expectClose(exponential.call(tensor([0.01, -0.02, 0.5], { shape: [1, 3] })), [0.7053456159, -0.5, 0.9997980612]);
    expect(codeOf(() => new nn.FilterResponseNorm({ channels: 3, threshold: true, activation: 'silu' }))).toBe(
      'INVALID_ARGUMENT',
    );
  });

  it('give one sample the same bits alone and in a batch, except BatchNorm', () => {
    const layers: readonly nn.Module[] = [
      new nn.GroupNorm({ channels }),
      new nn.LayerNorm({ channels }),
      new nn.LayerNorm({ channels, over: 'channels' }),
      new nn.InstanceNorm({ channels }),
      new nn.RMSNorm({ channels }),
      new nn.FilterResponseNorm({ channels }),
    ];
    const batch = input();
    const second = tensor(batch.dataSync().slice(batch.size / 3, (2 * batch.size) / 3), { shape: [1, 4, 5, channels] });
    const inBatch = (layer: nn.Module) =>
      layer
        .call(batch)
        .dataSync()
        .slice(batch.size / 3, (2 * batch.size) / 3);
    for (const layer of layers) expect(layer.call(second).dataSync()).toEqual(inBatch(layer));
    const batchNorm = new nn.BatchNorm({ channels });
    expect(batchNorm.call(second).dataSync()).not.toEqual(inBatch(batchNorm));
  });

  it('choose groups that divide the channels', () => {
    // Numbers that no division ends at, or JavaScript's undefined, once kept it looking for ever.
    expect(() => nn.defaultGroups(2.5)).toThrow('defaultGroups: channels is 2.5; give an integer of at least 1');
    expect([1, 3, 7, 8, 12, 15, 16, 17, 32, 63, 64, 65, 128, 256].map(nn.defaultGroups)).toEqual([
      1, 1, 1, 2, 3, 3, 4, 1, 8, 9, 16, 13, 32, 32,
    ]);
    expect(codeOf(() => new nn.GroupNorm({ channels: 6, groups: 4 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => new nn.LayerNorm({ channels: 6, over: 'rows' as 'sample' }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => new nn.BatchNorm({ channels: 6, epsilon: -1 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => new nn.BatchNorm({ channels: 6, momentum: 2 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => scope(() => new nn.BatchNorm({ channels: 6 }).call(ones([2, 5]))))).toBe('SHAPE_MISMATCH');
  });
});
