import * as models from '../../src/models';
import * as nn from '../../src/nn';
import * as optim from '../../src/optim';
import {
  getThreads,
  manualSeed,
  memory,
  noGrad,
  randn,
  scope,
  setThreads,
  type Tensor,
  tensor,
  zeros,
} from '../../src/tensor';
import { run } from '../../src/tensor/tensor';
import { noise } from '../nn/support';
import { expectClose, readGolden } from '../support/golden';

function backward(model: nn.Module, input: Tensor): void {
  scope(() => {
    const output = model.call(input);
    output.backward(noise(output.shape, 17));
  });
}

describe('the golden vectors', () => {
  it('of preconditioned gradients', async () => {
    const cases = await readGolden('batch_norm_preconditioning');
    expect(cases.size).toBeGreaterThan(2);
    for (const golden of cases.values()) {
      const [weight, bias] = [golden.tensor('gw'), golden.tensor('gb')];
      const [mean, variance] = [golden.tensor('mean'), golden.tensor('variance')];
      const rows = Number(/rows(\d+)$/.exec(golden.name)![1]);
      const outputs = bias.size;
      const scale = Math.max(weight.size / outputs / rows, 1);
      run('precondition', [], weight, bias, mean, variance, outputs, 1, 1e-2, 1e-4, scale);
      expectClose(await weight.data(), golden.values('pw'), 2e-6);
      expectClose(await bias.data(), golden.values('pb'), 2e-6);
    }
  });
});

describe('batchNormPreconditioning', () => {
  /** What the steps of {@link BatchNormPreconditioning} should give, in float64, for a layer `[..., in / groups, out]`. */
  function expected(
    weight: Float32Array,
    bias: Float32Array | undefined,
    mean: number[],
    variance: number[],
    options: {
      outputs: number;
      groups?: number;
      scale?: number;
    },
  ): { weight: number[]; bias: number[] } {
    const { outputs, groups = 1, scale = 1 } = options;
    const rows = mean.length / groups;
    const largest = Math.max(...variance);
    const result = { weight: [] as number[], bias: [...(bias ?? [])].map((g) => g / scale) };
    for (const [at, g] of weight.entries()) {
      const output = at % outputs;
      const row = Math.floor(at / outputs) % rows;
      const channel = Math.floor(output / (outputs / groups)) * rows + row;
      const centred = g - (bias === undefined ? 0 : mean[channel]! * bias[output]!);
      const value = centred / (variance[channel]! + 1e-2 * largest + 1e-4) / scale;
      result.weight.push(value);
      if (bias !== undefined) result.bias[output]! -= value * mean[channel]!;
    }
    return result;
  }

  /** Channel means and biased variances of rows. */
  function statistics(values: ArrayLike<number>, channels: number): { mean: number[]; variance: number[] } {
    const rows = values.length / channels;
    const mean = Array.from({ length: channels }, () => 0);
    const variance = Array.from({ length: channels }, () => 0);
    for (let at = 0; at < values.length; at++) mean[at % channels]! += values[at]! / rows;
    for (let at = 0; at < values.length; at++)
      variance[at % channels]! += (values[at]! - mean[at % channels]!) ** 2 / rows;
    return { mean, variance };
  }

  it.each([
    ['dense', () => new nn.Linear({ inFeatures: 7, outFeatures: 5 }), [9, 7], 7 / 9],
    ['dense with few samples', () => new nn.Linear({ inFeatures: 33, outFeatures: 3 }), [2, 33], 33 / 2],
    ['convolution', () => new nn.Conv2d({ inChannels: 3, outChannels: 17, kernelSize: 3 }), [2, 5, 6, 3], 27 / 24],
    [
      'grouped',
      () => new nn.Conv2d({ inChannels: 6, outChannels: 4, kernelSize: 3, groups: 2, padding: 1 }),
      [2, 4, 4, 6],
      27 / 32,
    ],
    [
      'depthwise',
      () => new nn.Conv2d({ inChannels: 5, outChannels: 10, kernelSize: 3, groups: 5, stride: 2 }),
      [3, 5, 5, 5],
      9 / 12,
    ],
    [
      'without bias',
      () => new nn.Conv2d({ inChannels: 3, outChannels: 2, kernelSize: 1, bias: false }),
      [1, 1, 1, 3],
      3,
    ],
  ] as const)('BNP-1: changes the gradients of one layer: %s', (_name, create, shape, ratio) => {
    manualSeed(1);
    const layer: nn.Conv2d | nn.Linear = create();
    const input = noise(shape, 1).add(0.7);
    using preconditioning = optim.batchNormPreconditioning(layer as nn.Module, { keep: 0.5 });
    backward(layer, input);
    const [weight, bias] = [
      layer.weight.grad!.dataSync() as Float32Array,
      layer.bias?.grad?.dataSync() as Float32Array,
    ];
    preconditioning.apply();
    const batch = statistics(input.dataSync(), shape.at(-1)!);
    const mean = batch.mean.map((value) => 0.5 * value);
    const variance = batch.variance.map((value, channel) => 0.5 + 0.5 * (value + 0.5 * batch.mean[channel]! ** 2));
    const outputs = layer.weight.shape.at(-1)!;
    const groups = layer instanceof nn.Conv2d ? layer.groups : 1;
    const result = expected(weight, bias, mean, variance, { outputs, groups, scale: Math.max(ratio, 1) });
    expectClose(layer.weight.grad!.dataSync(), result.weight, 3e-6);
    if (layer.bias !== undefined) expectClose(layer.bias.grad!.dataSync(), result.bias, 3e-5);
  });

  it('BNP-2: makes the step of batch norm with frozen statistics', () => {
    // W' = W diag(σ̃), b' = b + W μ; a step of size 0.1 on (W', b'), and back.
    for (const dense of [true, false]) {
      manualSeed(2);
      const layer = dense
        ? new nn.Linear({ inFeatures: 6, outFeatures: 4 })
        : new nn.Conv2d({ inChannels: 3, outChannels: 4, kernelSize: 3 });
      const input = dense ? noise([20, 6], 3) : noise([4, 6, 6, 3], 3);
      const channels = input.shape.at(-1)!;
      using preconditioning = optim.batchNormPreconditioning(layer as nn.Module, { keep: 0, rows: 'off' });
      backward(layer, input);
      const [weight, bias] = [layer.weight.dataSync(), layer.bias!.dataSync()];
      const [weightGradient, biasGradient] = [layer.weight.grad!.dataSync(), layer.bias!.grad!.dataSync()];
      preconditioning.apply();
      new optim.SGD(layer.parameters(), { learningRate: 0.1 }).step();
      const { mean, variance } = statistics(input.dataSync(), channels);
      const largest = Math.max(...variance);
      const deviation = variance.map((v) => Math.sqrt(v + 1e-2 * largest + 1e-4));
      const moved: number[] = [];
      const shifted = [...bias];
      for (const [at, value] of weight.entries()) {
        const [channel, output] = [Math.floor(at / 4) % channels, at % 4];
        // The normalized input is (h - μ) / σ̃, so the gradient of W' is (gW - μ gb) / σ̃.
        const inner = value * deviation[channel]!;
        const gradient = (weightGradient[at]! - mean[channel]! * biasGradient[output]!) / deviation[channel]!;
        const next = (inner - 0.1 * gradient) / deviation[channel]!;
        moved.push(next);
        shifted[output]! += (value - next) * mean[channel]!;
      }
      for (const [output, gradient] of biasGradient.entries()) shifted[output]! -= 0.1 * gradient;
      expectClose(layer.weight.dataSync(), moved, 1e-5);
      expectClose(layer.bias!.dataSync(), shifted, 1e-5);
    }
  });

  it('BNP-8: holds the variance of all data at any batch size', () => {
    // σ² = 4, ρ = 0.99.
    manualSeed(4);
    for (const batch of [1, 2, 6, 60]) {
      const statistics = { pooled: new nn.InputStatistics(16), naive: new nn.InputStatistics(16) };
      for (let step = 0; step < 1500; step++) {
        scope(() => {
          const input = randn([batch, 16]).mul(2).add(3);
          for (const [name, each] of Object.entries(statistics)) {
            each.forward(input);
            each.advance(0.99, name === 'pooled');
          }
        });
      }
      const average = (values: ArrayLike<number>) => Array.from(values).reduce((sum, v) => sum + v / values.length, 0);
      expect(Math.abs(average(statistics.pooled.variance.dataSync()) / 4 - 1)).toBeLessThan(0.05);
      expect(average(statistics.naive.variance.dataSync()) / 4).toBeCloseTo((batch - 1) / batch, 1);
    }
  });

  it('merges the batches of an accumulated gradient', () => {
    const inputs = [noise([3, 5], 1), noise([1, 5], 2).add(9), noise([4, 5], 3)];
    const merged = new nn.InputStatistics(5);
    for (const input of inputs) merged.forward(input);
    expect(merged.advance(0, false)).toEqual({ rows: 8, samples: 8 });
    const together = statistics(
      inputs.flatMap((input) => [...input.dataSync()]),
      5,
    );
    expectClose(merged.mean.dataSync(), together.mean, 1e-6);
    expectClose(merged.variance.dataSync(), together.variance, 1e-6);
    // Nothing was seen since: nothing moves, and a batch that is not finite moves nothing either.
    const before = [...merged.variance.dataSync()];
    merged.advance(0, true);
    merged.forward(tensor([Number.NaN, 1, 2, 3, 4], { shape: [1, 5] }));
    merged.advance(0, true);
    expect([...merged.variance.dataSync()]).toEqual(before);
  });

  it('BNP-10: leaves the function of the network alone, in training and outside', () => {
    const build = (norm: nn.Normalization) => {
      manualSeed(6);
      return models.resnetCifar({ depth: 8, width: 4, norm });
    };
    const [plain, watched] = [build(nn.normalizations.none()), build(nn.normalizations.bnp())];
    const images = noise([3, 8, 8, 3], 1);
    for (const mode of [true, false]) {
      const outputs = [plain, watched].map((model) => [...model.train(mode).call(images).dataSync()]);
      expect(outputs[1]).toEqual(outputs[0]);
    }
    const alone = watched.call(tensor(images.dataSync().slice(0, 192) as Float32Array, { shape: [1, 8, 8, 3] }));
    expect([...alone.dataSync()]).toEqual([...watched.call(images).dataSync()].slice(0, 10));
  });

  it('BNP-6: lowers the condition number of badly scaled least squares', () => {
    // Scales from 0.1 to 10, offsets of three deviations; 500 steps at a common rate.
    const error = (preconditioned: boolean) => {
      manualSeed(7);
      const [rows, features] = [200, 10];
      const scales = tensor(Float32Array.from({ length: features }, (_, i) => 10 ** (-1 + (2 * i) / 9)));
      const x = randn([rows, features]).add(3).mul(scales);
      const target = x.matmul(randn([features, 1]).div(scales.reshape([features, 1])));
      const layer = new nn.Linear({ inFeatures: features, outFeatures: 1, weightInitializer: nn.init.zeros });
      using preconditioning = optim.batchNormPreconditioning(layer as nn.Module, { keep: 0 });
      const optimizer = new optim.SGD(layer.parameters(), { learningRate: preconditioned ? 0.3 : 3e-4 });
      let last = 0;
      for (let step = 0; step < 500; step++) {
        last = scope(() => {
          const loss = new nn.MSELoss().call(layer.call(x), target);
          loss.backward();
          return loss.itemSync();
        });
        if (preconditioned) preconditioning.apply();
        optimizer.step();
        optimizer.zeroGrad();
      }
      return last;
    };
    const [plain, better] = [error(false), error(true)];
    expect(better).toBeLessThan(1e-2 * plain);
  });

  it('saves and loads its state, with the model or by itself', () => {
    manualSeed(8);
    const build = () =>
      models.mlp({ inputs: 5, hidden: [7], classes: 3, norm: nn.normalizations.bnp({ groupNorm: true }) });
    const [model, twin] = [build(), build()];
    const step = (each: nn.Module, seed: number) => {
      backward(each, noise([4, 5], seed));
      nn.gradientTransformOf(each as nn.AnyModule)!.apply(each.parameters());
      new optim.SGD(each.parameters(), { learningRate: 0.1 }).step();
      each.zeroGrad();
    };
    step(model, 1);
    twin.loadStateDict(model.stateDict());
    expect([...model.stateDict().keys()]).toContain('layers.0.inputStatistics.variance');
    for (const each of [model, twin]) step(each, 2);
    for (const [name, value] of model.stateDict())
      expect([...twin.stateDict().get(name)!.dataSync()]).toEqual([...value.dataSync()]);

    const plain = [0, 1].map(() => models.mlp({ inputs: 5, hidden: [7], classes: 3, norm: 'none' }));
    const [first, second] = plain.map((each) => optim.batchNormPreconditioning(each));
    backward(plain[0]!, noise([4, 5], 1));
    first!.apply();
    second!.loadStateDict(first!.stateDict());
    expect([...second!.stateDict().keys()]).toEqual([
      'layers.0.mean',
      'layers.0.variance',
      'classifier.mean',
      'classifier.variance',
    ]);
    expect([...second!.stateDict().get('layers.0.mean')!.dataSync()]).toEqual([
      ...first!.stateDict().get('layers.0.mean')!.dataSync(),
    ]);
    expect(() => second!.loadStateDict(new Map([['layers.0.mean', zeros([5])]]))).toThrow('missing');
  });

  it('does not watch evaluation, and keeps no tensors', () => {
    const model = models.mlp({ inputs: 5, hidden: [7], classes: 3, norm: 'none' });
    const live = memory().liveTensors;
    const preconditioning = optim.batchNormPreconditioning(model);
    scope(() => void model.eval().call(noise([4, 5], 1)));
    scope(() => void noGrad(() => model.train().call(noise([4, 5], 1))));
    preconditioning.apply();
    expect([...preconditioning.stateDict().get('classifier.variance')!.dataSync()]).toEqual(Array(7).fill(1));
    preconditioning.dispose();
    scope(() => void model.call(noise([4, 5], 1)));
    expect(memory().liveTensors).toBe(live);
  });

  it('has the same bits on any number of threads', () => {
    const before = getThreads();
    const results = [1, 2, 3].map((threads) => {
      setThreads(threads);
      const each = new nn.InputStatistics(33);
      each.forward(noise([4, 40, 40, 33], 1));
      each.advance(0.9, true);
      return [...each.mean.dataSync(), ...each.variance.dataSync()];
    });
    setThreads(before);
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  it('refuses what it cannot do', () => {
    const standardized = models.resnetCifar({ depth: 8, width: 4, norm: 'weight-standardized-group' });
    expect(() => optim.batchNormPreconditioning(standardized)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED' }),
    );
    expect(() => optim.batchNormPreconditioning(new nn.ReLU())).toThrow('no convolution');
    const model = new nn.Linear({ inFeatures: 2, outFeatures: 2 });
    expect(() => optim.batchNormPreconditioning(model, { keep: 2 })).toThrow('keep');
    expect(() => optim.batchNormPreconditioning(model, { rows: 'all' as 'off' })).toThrow('rows');
    expect(() => optim.batchNormPreconditioning(model, { q: 1 } as never)).toThrow('there is no option q');
  });
});
