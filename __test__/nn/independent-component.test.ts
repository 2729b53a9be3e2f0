import * as models from '../../src/models';
import * as nn from '../../src/nn';
import {
  batchNorm,
  getThreads,
  gradcheck,
  independentComponent,
  manualSeed,
  noGrad,
  ones,
  randn,
  scope,
  setThreads,
  type Tensor,
  tensor,
  zeros,
} from '../../src/tensor';
import { noise } from './support';

const leaf = (value: Tensor): Tensor => {
  value.requiresGrad = true;
  return value;
};

function correlation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const [first, second] = [momentsOf(a), momentsOf(b)];
  let covariance = 0;
  for (let at = 0; at < a.length; at++) covariance += ((a[at]! - first.mean) * (b[at]! - second.mean)) / a.length;
  return covariance / Math.sqrt(first.variance * second.variance);
}

function momentsOf(values: ArrayLike<number>): { mean: number; variance: number } {
  let mean = 0;
  for (let at = 0; at < values.length; at++) mean += values[at]! / values.length;
  let variance = 0;
  for (let at = 0; at < values.length; at++) variance += (values[at]! - mean) ** 2 / values.length;
  return { mean, variance };
}

/** Two standard normal columns with this correlation. */
function correlated(samples: number, rho: number): Tensor {
  const values = randn([samples, 2]).dataSync() as Float32Array;
  for (let at = 0; at < values.length; at += 2) {
    values[at + 1] = rho * values[at]! + Math.sqrt(1 - rho ** 2) * values[at + 1]!;
  }
  return tensor(values, { shape: [samples, 2] });
}

const columnsOf = (values: ArrayLike<number>, count = 2): Float64Array[] =>
  Array.from({ length: count }, (_, column) =>
    Float64Array.from({ length: values.length / count }, (__, row) => values[row * count + column]!),
  );

/** Plug-in mutual information of two columns in 24 quantile bins and one for zeros, with Miller and Madow's correction. */
function mutualInformation(a: Float64Array, b: Float64Array): number {
  const bins = (values: Float64Array) => {
    const sorted = [...values].filter((value) => value !== 0).sort((x, y) => x - y);
    const edges = Array.from({ length: 23 }, (_, edge) => sorted[Math.floor(((edge + 1) * sorted.length) / 24)]!);
    return values.map((value) => {
      if (value === 0) return 24;
      let bin = 0;
      while (bin < 23 && value >= edges[bin]!) bin += 1;
      return bin;
    });
  };
  const [first, second] = [bins(a), bins(b)];
  const joint = new Float64Array(625);
  for (let at = 0; at < a.length; at++) joint[first[at]! * 25 + second[at]!]! += 1;
  const entropy = (counts: Iterable<number>) => {
    const present = [...counts].filter((count) => count > 0);
    const plain = present.reduce((total, count) => total - (count / a.length) * Math.log(count / a.length), 0);
    return plain + (present.length - 1) / (2 * a.length);
  };
  const marginal = (axis: 0 | 1) =>
    Array.from({ length: 25 }, (_, bin) =>
      joint.reduce(
        (total, count, at) => ((axis === 0 ? Math.floor(at / 25) : at % 25) === bin ? total + count : total),
        0,
      ),
    );
  return entropy(marginal(0)) + entropy(marginal(1)) - entropy(joint);
}

describe('independentComponent', () => {
  const shapes: readonly (readonly number[])[] = [
    [3, 1, 1, 1],
    [2, 3, 5, 3],
    [1, 7, 7, 17],
    [5, 33],
    [3, 4, 4, 64],
    [2, 9, 1, 65],
  ];

  it('IC-7: is batch norm where values are kept, and 0 elsewhere', () => {
    for (const shape of shapes) {
      manualSeed(3);
      const channels = shape.at(-1)!;
      const [x, gamma, beta] = [noise(shape, 1), noise([channels], 2), noise([channels], 3)];
      const running = () => ({ runningMean: zeros([channels]), runningVariance: ones([channels]) });
      const [own, other] = [running(), running()];
      const dropped = independentComponent(x, { gamma, beta, rate: 0.25, ...own }).dataSync();
      const plain = batchNorm(x, { gamma, beta, training: true, ...other }).dataSync();
      let kept = 0;
      for (const [at, value] of dropped.entries()) {
        if (value === 0) continue;
        kept += 1;
        expect(value).toBeCloseTo(plain[at]! / 0.75, 4);
      }
      expect(Math.abs(kept / x.size - 0.75)).toBeLessThan(4 * Math.sqrt((0.75 * 0.25) / x.size) + 1e-9);
      expect([...own.runningMean.dataSync()]).toEqual([...other.runningMean.dataSync()]);
      expect([...own.runningVariance.dataSync()]).toEqual([...other.runningVariance.dataSync()]);
      const whole = independentComponent(x, { gamma, beta, rate: 0 }).dataSync();
      expect([...whole]).toEqual([...plain]);
    }
  });

  it('has gradients that agree with finite differences', async () => {
    for (const shape of [
      [3, 2, 2, 3],
      [6, 5],
      [2, 3, 3, 17],
    ] as const) {
      const channels = shape.at(-1)!;
      const inputs = [noise(shape, 1), noise([channels], 2), noise([channels], 3)].map(leaf);
      const result = await gradcheck((x, gamma, beta) => {
        manualSeed(5);
        return independentComponent(x!, { gamma, beta, rate: 0.3 });
      }, inputs);
      expect(result).toMatchObject({ passed: true });
    }
  });

  it('has the same bits on any number of threads, and others in the next call', () => {
    const before = getThreads();
    const results = [1, 2, 3].map((threads) => {
      setThreads(threads);
      manualSeed(1);
      const x = leaf(noise([3, 40, 40, 33], 1));
      const output = independentComponent(x, { rate: 0.05 });
      output.backward(noise(output.shape, 2));
      const second = independentComponent(x, { rate: 0.05 });
      expect([...second.dataSync().slice(0, 999)]).not.toEqual([...output.dataSync().slice(0, 999)]);
      return [output, x.grad!].map((value) => Buffer.from(value.dataSync().buffer).toString('base64'));
    });
    setThreads(before);
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  it('IC-4: multiplies correlations with the keep chance', () => {
    manualSeed(7);
    const x = correlated(200_000, 0.6);
    for (const rate of [0.05, 0.5]) {
      const [a, b] = columnsOf(independentComponent(x, { rate }).dataSync());
      const [c, d] = columnsOf(x.dataSync());
      expect(Math.abs(correlation(a!, b!) / correlation(c!, d!) - (1 - rate))).toBeLessThan(0.01);
      // A mean of its own lowers it further: means 1 and deviations 1 give p / (1 + (1 - p)).
      const [e, f] = columnsOf(independentComponent(x, { rate, beta: ones([2]) }).dataSync());
      expect(Math.abs(correlation(e!, f!) / correlation(c!, d!) - (1 - rate) / (1 + rate))).toBeLessThan(0.01);
    }
  });

  it('IC-3: multiplies mutual information with the square of the keep chance', () => {
    manualSeed(8);
    const x = correlated(200_000, 0.6);
    const plain = columnsOf(independentComponent(x, { rate: 0 }).dataSync());
    const whole = mutualInformation(plain[0]!, plain[1]!);
    for (const rate of [0.1, 0.5]) {
      const [a, b] = columnsOf(independentComponent(x, { rate }).dataSync());
      expect(Math.abs(mutualInformation(a!, b!) / whole - (1 - rate) ** 2)).toBeLessThan(0.02);
    }
  });

  it.each([
    ['a rate of 1', () => independentComponent(zeros([2, 2]), { rate: 1 })],
    ['a negative rate', () => independentComponent(zeros([2, 2]), { rate: -0.1 })],
    ['one value a channel', () => independentComponent(zeros([1, 2]))],
    ['half the running statistics', () => independentComponent(zeros([2, 2]), { runningMean: zeros([2]) })],
  ])('refuses %s', (_name, body) => {
    expect(() => scope(body)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});

describe('IndependentComponent', () => {
  it('IC-7: on average puts out in training what it puts out in evaluation', () => {
    manualSeed(9);
    const layer = new nn.IndependentComponent({ channels: 3, dropRate: 0.2, momentum: 1 });
    layer.beta!.copyFrom(Float32Array.of(0.5, -1, 2));
    const x = randn([50, 3]);
    const total = new Float64Array(150);
    const draws = 500;
    for (let draw = 0; draw < draws; draw++) {
      const values = noGrad(() => scope(() => layer.call(x).dataSync()));
      for (const [at, value] of values.entries()) total[at]! += value / draws;
    }
    // The batch's own biased variance, which training divides by; momentum 1 leaves the unbiased one.
    layer.runningVariance.copyFrom(Float32Array.from(layer.runningVariance.dataSync(), (v) => (v * 49) / 50));
    const expected = layer.eval().call(x).dataSync();
    for (const [at, value] of total.entries()) {
      const error = Math.abs(expected[at]!) * Math.sqrt(0.2 / 0.8 / draws);
      expect(Math.abs(value - expected[at]!)).toBeLessThan(5 * error + 1e-5);
    }
  });

  it('IC-6: keeps inputs of a weight row from pulling in one direction', () => {
    // Gradients of a row are the input times a number; behind ReLU all have one sign, behind an IC layer hardly ever.
    manualSeed(10);
    const coherent = (inputs: ArrayLike<number>, features: number) => {
      let rows = 0;
      for (let start = 0; start < inputs.length; start += features) {
        const values = Array.from({ length: features }, (_, at) => inputs[start + at]!).filter((h) => h !== 0);
        if (values.every((h) => h > 0) || values.every((h) => h < 0)) rows += 1;
      }
      return rows / (inputs.length / features);
    };
    const x = randn([500, 16]);
    const normThenRelu = batchNorm(x, { training: true }).relu().dataSync();
    const reluThenIc = independentComponent(x.relu()).dataSync();
    expect(coherent(normThenRelu, 16)).toBe(1);
    expect(coherent(reluThenIc, 16)).toBeLessThan(0.05);
  });
});

describe('the method ic', () => {
  const build = (
    options: nn.IndependentComponentMethodOptions,
    version: 1 | 2,
    shortcut: 'A' | 'projection' = 'projection',
  ) =>
    models.resnetCifar({
      depth: 14,
      width: 4,
      version,
      block: 'basic',
      shortcut,
      classes: 3,
      norm: nn.normalizations.ic(options),
    });

  function orderOf(options: nn.IndependentComponentMethodOptions, prefix: string): string[] {
    const model = build(options, 2);
    const order: string[] = [];
    const kinds = [nn.IndependentComponent, nn.Conv2d, nn.ReLU, nn.Linear, nn.ResidualSum, nn.GlobalAvgPool] as const;
    for (const [name, module] of model.namedModules()) {
      if (name.startsWith(prefix) && kinds.some((kind) => module instanceof kind)) {
        module.onCall(() => order.push(module.constructor.name));
      }
    }
    model.call(noise([2, 8, 8, 3], 1));
    return order;
  }

  it('has the orders of the paper', () => {
    const [ic, conv, relu] = ['IndependentComponent', 'Conv2d', 'ReLU'];
    const one = { order: 'relu-ic-conv' } as const;
    expect(orderOf(one, 'blocks.1')).toEqual([relu, ic, conv, relu, ic, conv, 'ResidualSum']);
    expect(orderOf(one, 'blocks.2.shortcut')).toEqual([conv]);
    expect(orderOf(one, 'pool')).toEqual([ic, 'GlobalAvgPool']);
    expect(orderOf(one, 'classifier')).toEqual(['Linear']);
    expect(orderOf(one, 'stem')).toEqual([conv, relu]);
    expect(orderOf({ onProjection: true }, 'blocks.2.shortcut')).toEqual([ic, conv]);
    const before = orderOf({ order: 'ic-conv-relu' }, 'blocks.1');
    expect(before).toEqual([ic, conv, ic, conv, 'ResidualSum']);
    const after = orderOf({ order: 'conv-relu-ic' }, 'blocks.1');
    expect(after).toEqual([conv, ic, conv, ic, 'ResidualSum']);
    expect(orderOf({ order: 'conv-relu-ic' }, 'pool')).toEqual(['GlobalAvgPool']);
    expect(orderOf({ order: 'conv-relu-ic' }, 'classifier')).toEqual(['Linear']);
  });

  it('leaves more of two images than which has more of a feature: the classifier reads means of normalized maps', () => {
    manualSeed(3);
    const model = build({ dropRate: 0 }, 2);
    const pooled: number[] = [];
    for (const [name, module] of model.namedModules()) {
      if (name === 'classifier') module.onCall((_, input) => pooled.push(...(input as Tensor).dataSync()));
    }
    model.call(noise([2, 8, 8, 3], 1));
    expect(pooled).toHaveLength(32);
    // Batch normalization of two values, behind the pooling, makes them 1 and -1.
    expect(new Set(pooled.map((value) => Math.abs(value).toFixed(2))).size).toBeGreaterThan(8);
  });

  it('has its layer in front of every pooling of a network with two classifiers, and of a classifier without one', () => {
    const norm = nn.normalizations.ic();
    const build = new nn.NormalizedLayers({ norm });
    const kinds = [
      build.globalPool(4),
      build.linear({ inFeatures: 4, outFeatures: 2 }, 'classifier'),
      build.linear({ inFeatures: 4, outFeatures: 2 }, 'classifier'),
      build.globalPool(4),
      build.linear({ inFeatures: 4, outFeatures: 2 }, 'classifier'),
    ].map((layer) => layer.constructor.name);
    expect(kinds).toEqual(['PreparedWeight', 'Linear', 'PreparedWeight', 'PreparedWeight', 'Linear']);
    expect(new nn.NormalizedLayers({ norm: 'batch' }).globalPool(4)).toBeInstanceOf(nn.GlobalAvgPool);
  });

  it.each(['ic-conv-relu', 'conv-relu-ic'] as const)('trains, saves and loads in the order %s', (order) => {
    for (const version of [1, 2] as const) {
      manualSeed(2);
      const [model, twin] = [build({ order }, version, 'A'), build({ order }, version, 'A')];
      const labels = tensor([0, 2, 1, 0], { dtype: 'int32' });
      scope(() => new nn.CrossEntropyLoss().call(model.call(noise([4, 8, 8, 3], 1)), labels).backward());
      for (const [name, parameter] of model.namedParameters()) {
        expect([name, parameter.grad?.dataSync().every(Number.isFinite)]).toEqual([name, true]);
      }
      twin.loadStateDict(model.stateDict());
      const run = (each: nn.Module) =>
        noGrad(() => [
          ...each
            .eval()
            .call(noise([4, 8, 8, 3], 2))
            .dataSync(),
        ]);
      expect(run(twin)).toEqual(run(model));
    }
  });

  it('with a negative result of every convolution shows that the activation is there', () => {
    const model = build({ order: 'ic-conv-relu', dropRate: 0 }, 2, 'A');
    const branches: number[] = [];
    for (const module of model.modules()) {
      if (module instanceof nn.ResidualSum) {
        module.onCall((_, input) => branches.push(...(input as nn.ResidualPair)[0].dataSync()));
      }
    }
    model.call(noise([2, 8, 8, 3], 1));
    expect(branches.every((value) => value >= 0)).toBe(true);
    expect(branches.some((value) => value === 0)).toBe(true);
  });

  it('refuses what it cannot build', () => {
    expect(() => nn.normalizations.ic({ order: 'ic' as 'relu-ic-conv' })).toThrow('order');
    expect(() => nn.normalizations.ic({ dropRate: 1 }).beforeWeight).not.toThrow();
    expect(() => new nn.IndependentComponent({ channels: 2, dropRate: 1 })).toThrow('dropRate');
    const norm = nn.normalizations.ic({ order: 'conv-relu-ic' });
    expect(() => models.mlp({ inputs: 3, activation: 'prelu', norm })).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED' }),
    );
  });
});
