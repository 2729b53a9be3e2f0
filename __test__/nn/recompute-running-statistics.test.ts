import { data, keep, memory, models, nn, scope, synchronize, type Tensor, tensor } from '../../src';
import { expectClose } from '../support/golden';
import { noise } from './support';

const values = (value: Tensor): number[] => [...value.dataSync()];

/** Mean and biased variance of each channel in float64. */
function statistics(parts: readonly Tensor[]): { mean: number[]; variance: number[]; count: number } {
  const channels = parts[0]!.shape.at(-1)!;
  const all = parts.flatMap(values);
  const count = all.length / channels;
  const mean = Array<number>(channels).fill(0);
  const variance = Array<number>(channels).fill(0);
  for (const [at, value] of all.entries()) mean[at % channels]! += value / count;
  for (const [at, value] of all.entries()) variance[at % channels]! += (value - mean[at % channels]!) ** 2 / count;
  return { mean, variance, count };
}

/** Batches of unequal size whose offset is far from 0 and differs from one to the next. */
const batches = (channels: number) =>
  [5, 1, 3].map((batch, index) => noise([batch, 2, 3, channels], index + 1).add(10 + 7 * index));

const layers: readonly (readonly [string, () => nn.Module, 'biased' | 'unbiased'])[] = [
  ['BatchNorm', () => new nn.BatchNorm({ channels: 7 }), 'unbiased'],
  ['GhostBatchNorm', () => new nn.GhostBatchNorm({ channels: 7, groupSize: 2 }), 'unbiased'],
  ['IndependentComponent', () => new nn.IndependentComponent({ channels: 7, dropRate: 0.5 }), 'unbiased'],
  ['SwitchableNorm', () => new nn.SwitchableNorm({ channels: 7 }), 'biased'],
  ['BatchKalmanNorm', () => new nn.BatchKalmanNorm({ channels: 7, groupSize: 1 }), 'biased'],
  ['OnlineNorm', () => new nn.OnlineNorm({ channels: 7 }), 'biased'],
  ['EvoNormB0', () => new nn.EvoNormB0({ channels: 7 }), 'biased'],
  ['BatchRenorm', () => new nn.BatchRenorm({ channels: 7, epsilon: 1e-3 }), 'biased'],
];

describe('recomputeRunningStatistics', () => {
  it.each(layers)('gives %s the statistics of all values', async (_name, create, convention) => {
    const layer = create();
    layer.eval();
    const given = batches(7);
    await nn.recomputeRunningStatistics(layer, given);
    const { mean, variance, count } = statistics(given);
    const expected = variance.map((value) => (convention === 'biased' ? value : (value * count) / (count - 1)));
    const buffers = new Map(layer.namedBuffers());
    const [runningMean, runningVariance, runningDeviation] = [
      buffers.get('runningMean'),
      buffers.get('runningVariance'),
      buffers.get('runningDeviation'),
    ];
    if (runningMean !== undefined) expectClose(values(runningMean), mean, 1e-6);
    if (runningVariance !== undefined) expectClose(values(runningVariance), expected, 1e-6);
    if (runningDeviation !== undefined) {
      expectClose(
        values(runningDeviation),
        expected.map((value) => Math.sqrt(value + 1e-3)),
        1e-6,
      );
      expect(values(buffers.get('steps')!)).toEqual([0]);
    }
    expect(layer.training).toBe(false);
    expect(given.every((batch) => !batch.isDisposed)).toBe(true);
  });

  it('gives the statistics of what multiplies the weights with bnp', async () => {
    const model = models.create('mlp', { norm: 'bnp', inputShape: [2, 3, 7], hidden: [5] });
    const given = batches(7);
    const inputs = new Map<string, Tensor[]>();
    const observed = model.namedModules().filter(([, module]) => module instanceof nn.ObservedLinear);
    for (const [name, module] of observed) {
      module.onCall((_, input) => {
        inputs.set(name, [...(inputs.get(name) ?? []), keep((input as Tensor).detach())]);
      });
    }
    await nn.recomputeRunningStatistics(model, given);
    expect(inputs.size).toBe(2);
    for (const [name, module] of observed) {
      const { mean, variance } = statistics(inputs.get(name)!);
      const own = (module as nn.ObservedLinear).inputStatistics;
      expectClose(values(own.mean), mean, 1e-6);
      expectClose(values(own.variance), variance, 1e-6);
    }
  });

  it('takes the batches of a loader, reaches every layer, and makes evaluation agree with a large batch', async () => {
    const { train } = data.digits();
    const loader = () => new data.DataLoader(train, { batchSize: 700 });
    const model = models.create('resnet-tiny', { norm: 'batch' });
    await nn.recomputeRunningStatistics(model, loader());
    for await (const { images, labels } of loader()) {
      const [evaluated, trained] = [false, true].map((mode) => scope(() => values(model.train(mode).call(images))));
      const difference = evaluated!.map((value, index) => value - trained![index]!);
      const size = (numbers: readonly number[]) => Math.hypot(...numbers);
      expect(size(difference) / size(trained!)).toBeLessThan(0.15);
      for (const each of [images, labels]) each.dispose();
      break;
    }
  });

  it('leaves modes, counters, gradients, random choices and memory as they were', async () => {
    const model = models.create('resnet-tiny', { norm: 'ic', inputShape: [8, 8, 1] });
    const frozen = model.modules().find((module) => module instanceof nn.IndependentComponent)!;
    frozen.training = false;
    const given = [noise([4, 8, 8, 1], 1)];
    const parameters = model.parameters().map(values);
    await nn.recomputeRunningStatistics(model, given);
    const first = model.buffers().map(values);
    await synchronize();
    const { liveTensors } = memory();
    await nn.recomputeRunningStatistics(model, given);
    await synchronize();
    // Fewer, where tensors of other tests were collected meanwhile.
    expect(memory().liveTensors).toBeLessThanOrEqual(liveTensors);
    // Nothing of it is random, though dropout is part of the method.
    expect(model.buffers().map(values)).toEqual(first);
    expect(model.parameters().map(values)).toEqual(parameters);
    expect(model.modules().filter((module) => !module.training)).toEqual([frozen]);
    expect(
      model.modules().flatMap((module) => (module instanceof nn.IndependentComponent ? [module.dropRate] : [])),
    ).not.toContain(0);
  });

  it('refuses models without running statistics, nothing to look at, and NaN', async () => {
    const attempt = (norm: nn.NormalizationName, given: Tensor[]) =>
      nn.recomputeRunningStatistics(models.create('mlp', { norm, inputShape: [2, 2, 1] }), given);
    await expect(attempt('group', [noise([4, 2, 2, 1], 1)])).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(attempt('batch', [])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const model = models.create('mlp', { norm: 'batch', inputShape: [2, 2, 1] }).eval();
    const before = model.buffers().map(values);
    const bad = noise([2, 2, 2, 1], 1).mul(tensor([1, Number.NaN, 1, 1], { shape: [2, 2, 1] }));
    await expect(nn.recomputeRunningStatistics(model, [noise([4, 2, 2, 1], 1), bad])).rejects.toMatchObject({
      code: 'NON_FINITE',
    });
    expect(model.buffers().map(values)).toEqual(before);
    expect(model.training).toBe(false);
  });
});
