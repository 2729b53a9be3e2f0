import * as models from '../../src/models';
import * as nn from '../../src/nn';
import { stateOf } from '../../src/nn/statistics-chain';
import { manualSeed, memory, noGrad, randn, relu, scope, type Tensor, tensor } from '../../src/tensor';
import { noise } from './support';

const modes = ['learned', 'tied-norm', 'tied-raw'] as const;

function resnet(options: nn.KalmanNormalizationOptions, version: 1 | 2, shortcut: 'A' | 'projection' = 'A'): nn.Module {
  const norm = nn.normalizations.kalman(options);
  return models.resnetCifar({ depth: 14, width: 4, version, block: 'basic', shortcut, norm, classes: 3 });
}

const labels = () => tensor([0, 2, 1, 0], { dtype: 'int32' });

function train(model: nn.Module, images: Tensor): void {
  scope(() => new nn.CrossEntropyLoss().call(model.call(images), labels()).backward());
}

/** What a norm normalizes, of an input or of a pair with a shortcut. */
const branchOf = (input: unknown): Tensor => (Array.isArray(input) ? input[0] : input) as Tensor;

describe('a chain of statistics', () => {
  it.each(modes)('reaches every norm but the first, with gradients, in the mode %s', (mode) => {
    for (const version of [1, 2] as const) {
      for (const shortcut of ['A', 'projection'] as const) {
        manualSeed(1);
        const model = resnet({ mode, groupSize: 2, learnPriorWeight: true, priorWeight: 0.3 }, version, shortcut);
        const seen: boolean[] = [];
        for (const module of model.modules()) {
          if (module instanceof nn.BatchKalmanNorm) {
            module.onCall((_, input) => seen.push(stateOf(branchOf(input)) !== undefined));
          }
        }
        train(model, noise([4, 8, 8, 3], 1));
        expect(seen).toEqual([
          false,
          ...Array.from({ length: version === 1 && shortcut === 'projection' ? 14 : 12 }, () => true),
        ]);
        for (const [name, parameter] of model.namedParameters()) {
          const gradient = [...(parameter.grad?.dataSync() ?? [Number.NaN])];
          expect([name, gradient.every(Number.isFinite)]).toEqual([name, true]);
          // At first A is 0, so nothing reaches statistics that go through a second A.
          const reached = !name.includes('shortcut');
          if (reached && /transition|noise|Logit/.test(name))
            expect([name, gradient.some((g) => g !== 0)]).toEqual([name, true]);
        }
        model.dispose();
      }
    }
  });

  it('adds the statistics of branch and shortcut, with zeros for new channels', async () => {
    manualSeed(2);
    const model = resnet({ mode: 'tied-raw', groupSize: 2, guarded: false }, 2);
    const sums: [Float32Array, Float32Array, Float32Array][] = [];
    for (const module of model.modules()) {
      if (!(module instanceof nn.ResidualSum)) continue;
      let entered: Float32Array | undefined;
      const enter = module.enter.bind(module);
      module.enter = (input) => {
        entered = stateOf(input)!.state.dataSync() as Float32Array;
        return enter(input);
      };
      module.onCall((_, input, output) => {
        const [branch] = input as nn.ResidualPair;
        const values = [stateOf(branch)!, stateOf(output as Tensor)!].map(({ state }) => state.dataSync());
        sums.push([values[0] as Float32Array, entered!, values[1] as Float32Array]);
      });
    }
    model.call(noise([4, 8, 8, 3], 1));
    expect(sums).toHaveLength(6);
    for (const [branch, shortcut, sum] of sums) {
      const [wide, narrow] = [sum.length / 4, shortcut.length / 4];
      for (const [at, value] of sum.entries()) {
        const channel = at % wide;
        const other = channel < narrow ? shortcut[Math.floor(at / wide) * narrow + channel]! : 0;
        expect(value).toBeCloseTo(branch[at]! + other, 4);
      }
    }
  });

  it('ends at max pooling and goes through average pooling', () => {
    manualSeed(1);
    const norm = new nn.BatchKalmanNorm({ channels: 3, groupSize: 2, activation: 'relu' });
    const normalized = norm.call(noise([4, 4, 4, 3], 1));
    expect(stateOf(normalized)?.rectified).toBe(true);
    const average = new nn.AvgPool2d({ kernelSize: 2 }).call(normalized);
    expect(stateOf(average)).toBe(stateOf(normalized));
    expect(stateOf(new nn.MaxPool2d({ kernelSize: 2 }).call(normalized))).toBeUndefined();
    const layer = new nn.KalmanConv2d({ inChannels: 3, outChannels: 5, kernelSize: 3, stride: 2, mode: 'tied-norm' });
    expect(
      stateOf(
        layer.call(
          average.pad([
            [0, 0],
            [1, 1],
            [1, 1],
            [0, 0],
          ]),
        ),
      ),
    ).toBeUndefined();
    expect(
      stateOf(new nn.KalmanConv2d({ inChannels: 3, outChannels: 5, kernelSize: 1 }).call(average))?.state.shape,
    ).toEqual([2, 2, 5]);
  });

  it('goes through concatenation where every branch has statistics', () => {
    const branch = (channels: number) => {
      const layer = new nn.BatchKalmanNorm({ channels, groupSize: 2, activation: 'relu' });
      return layer.call(noise([4, 3, 3, channels], channels));
    };
    const [first, second] = [branch(3), branch(5)];
    const state = stateOf(new nn.Concatenate().call([first, second]));
    expect(state).toMatchObject({ rectified: true });
    expect(state!.state.shape).toEqual([2, 2, 8]);
    const values = [...state!.state.dataSync()];
    expect(values.slice(0, 3)).toEqual([...stateOf(first)!.state.dataSync()].slice(0, 3));
    expect(values.slice(-5)).toEqual([...stateOf(second)!.state.dataSync()].slice(-5));
    expect(stateOf(new nn.Concatenate().call([first, noise([4, 3, 3, 1], 1)]))).toBeUndefined();
  });

  it('BKN-1: is exactly batch norm with the weight 0', () => {
    for (const version of [1, 2] as const) {
      const run = (norm: nn.Normalization) => {
        manualSeed(4);
        const model = models.resnetCifar({ depth: 14, width: 4, version, block: 'basic', norm });
        train(model, noise([4, 8, 8, 3], 1));
        const weights = model.namedParameters().filter(([name]) => !/transition|noise/.test(name));
        return weights.map(([, parameter]) => [...parameter.grad!.dataSync()]);
      };
      const kalman = { mode: 'tied-norm', priorWeight: 0, groupSize: 4 } as const;
      expect(run(nn.normalizations.kalman(kalman))).toEqual(run(nn.normalizations.batch()));
    }
  });

  it('BKN-4: steadies the statistics of two samples', () => {
    // At initialization: the spread of variances with q = 0.5 and of means with q = 0.9.
    const spreads = (priorWeight: number) => {
      manualSeed(5);
      const layers: nn.Module[] = [];
      for (let layer = 0; layer < 4; layer += 1) {
        const options = { inChannels: layer === 0 ? 3 : 16, outChannels: 16, kernelSize: 3, padding: 1, bias: false };
        layers.push(
          layer === 0 ? new nn.Conv2d(options) : new nn.KalmanConv2d({ ...options, mode: 'tied-norm' }),
          new nn.BatchKalmanNorm({ channels: 16, groupSize: 2, mode: 'tied-norm', priorWeight, activation: 'relu' }),
        );
      }
      const found: { mean: number; variance: number }[] = [];
      for (const norm of layers.filter((layer) => layer instanceof nn.BatchKalmanNorm)) {
        norm.onCall((_, input) => {
          const x = (input as Tensor).dataSync() as Float32Array;
          const state = stateOf(input as Tensor)?.state.dataSync() as Float32Array | undefined;
          found.push(spreadOf(x, state, priorWeight));
        });
      }
      // Images with a colour and a gain of their own.
      const images = randn([512, 8, 8, 3])
        .mul(0.5)
        .add(randn([512, 1, 1, 3]))
        .mul(randn([512, 1, 1, 1]).mul(0.5).exp());
      noGrad(() => scope(() => void new nn.Sequential(layers).call(images)));
      return found.slice(1);
    };
    const [plain, half, most] = [spreads(0), spreads(0.5), spreads(0.9)];
    for (const layer of [0, 1, 2]) {
      expect(half[layer]!.variance).toBeLessThan(0.5 * plain[layer]!.variance);
      expect(most[layer]!.mean).toBeLessThan(0.1 * plain[layer]!.mean);
    }
  });
});

/** Variances over the groups of two of the posterior's mean (in units of the population's variance) and of its log variance. */
function spreadOf(x: Float32Array, prior: Float32Array | undefined, q: number): { mean: number; variance: number } {
  const [groups, channels] = [256, 16];
  const rows = x.length / groups / channels;
  const posterior = { mean: new Float64Array(groups * channels), variance: new Float64Array(groups * channels) };
  const all = { first: new Float64Array(channels), second: new Float64Array(channels) };
  for (let group = 0; group < groups; group++) {
    for (let channel = 0; channel < channels; channel++) {
      let [first, second] = [0, 0];
      for (let row = 0; row < rows; row++) {
        const value = x[(group * rows + row) * channels + channel]!;
        first += value / rows;
        second += value ** 2 / rows;
      }
      all.first[channel]! += first / groups;
      all.second[channel]! += second / groups;
      const at = group * channels + channel;
      const mean = prior === undefined ? first : prior[at]!;
      const variance = second - first ** 2;
      const predicted = prior === undefined ? variance : prior[groups * channels + at]!;
      posterior.mean[at] = q * mean + (1 - q) * first;
      posterior.variance[at] = q * predicted + (1 - q) * variance + q * (1 - q) * (first - mean) ** 2;
    }
  }
  const spread = { mean: 0, variance: 0 };
  for (let channel = 0; channel < channels; channel++) {
    const population = all.second[channel]! - all.first[channel]! ** 2;
    const column = (values: Float64Array) => [...values].filter((_, at) => at % channels === channel);
    spread.mean += varianceOf(column(posterior.mean)) / population / channels;
    spread.variance += varianceOf(column(posterior.variance).map(Math.log)) / channels;
  }
  return spread;
}

function varianceOf(values: readonly number[]): number {
  const mean = values.reduce((total, value) => total + value, 0) / values.length;
  return values.reduce((total, value) => total + (value - mean) ** 2, 0) / values.length;
}

describe('a model with Kalman norms', () => {
  it('continues where its state was saved, to the bit', () => {
    const options = { mode: 'learned', groupSize: 2 } as const;
    const build = () => resnet(options, 1);
    const step = (model: nn.Module, seed: number) => {
      train(model, noise([4, 8, 8, 3], seed));
      for (const parameter of model.parameters()) {
        const gradient = parameter.grad!.dataSync();
        parameter.copyFrom(Float32Array.from(parameter.dataSync(), (value, at) => value - 0.1 * gradient[at]!));
      }
      model.zeroGrad();
    };
    const model = build();
    step(model, 1);
    const resumed = build();
    resumed.loadStateDict(model.stateDict());
    for (const each of [model, resumed]) step(each, 2);
    const evaluate = (each: nn.Module) =>
      noGrad(() => [
        ...each
          .eval()
          .call(noise([4, 8, 8, 3], 3))
          .dataSync(),
      ]);
    expect(evaluate(resumed)).toEqual(evaluate(model));
  });

  it('evaluates a sample by itself, whatever the batch', () => {
    const model = resnet({ groupSize: 2 }, 2);
    train(model, noise([4, 8, 8, 3], 1));
    model.eval();
    const images = noise([4, 8, 8, 3], 2);
    const together = [...model.call(images).dataSync()];
    const first = tensor(images.dataSync().slice(0, 192) as Float32Array, { shape: [1, 8, 8, 3] });
    expect([...model.call(first).dataSync()]).toEqual(together.slice(0, 3));
  });

  it('frees what a step makes, and what an evaluation makes', () => {
    const model = resnet({ mode: 'tied-norm', groupSize: 2 }, 2);
    const images = noise([4, 8, 8, 3], 1);
    const step = () => {
      train(model, images);
      model.zeroGrad();
    };
    step();
    step();
    const before = memory().liveTensors;
    step();
    expect(memory().liveTensors).toBe(before);
  });

  it('refuses batches that do not split, unknown modes, and activations without a formula', () => {
    const model = resnet({ groupSize: 4 }, 1);
    expect(() => model.call(noise([6, 8, 8, 3], 1))).toThrow('does not split into groups of 4');
    expect(model.call(noise([3, 8, 8, 3], 1)).shape).toEqual([3, 3]);
    expect(() => nn.normalizations.kalman({ mode: 'tied' as 'learned' })).toThrow('mode');
    expect(() => new nn.BatchKalmanNorm({ channels: 2, groupSize: 0 })).toThrow('groupSize');
    expect(() => new nn.BatchKalmanNorm({ channels: 2, priorWeight: 0 })).toThrow('priorWeight');
    const norm = nn.normalizations.kalman({ mode: 'tied-norm' });
    expect(() => models.mlp({ inputs: 3, activation: 'gelu', norm })).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED' }),
    );
    expect(models.mlp({ inputs: 3, activation: 'gelu', norm: 'kalman' }).call(noise([4, 3], 1)).shape).toEqual([4, 10]);
  });

  it('does not predict outside training', () => {
    const layer = new nn.KalmanConv2d({ inChannels: 3, outChannels: 5, kernelSize: 1 }).eval();
    const norm = new nn.BatchKalmanNorm({ channels: 3 });
    expect(stateOf(layer.call(norm.call(noise([2, 2, 2, 3], 1))))).toBeUndefined();
    expect(stateOf(relu(norm.call(noise([2, 2, 2, 3], 1))))).toBeUndefined();
  });
});
