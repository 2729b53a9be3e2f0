import { manualSeed, nn, noGrad, type Tensor, tensor } from '../../src';
import { EvenkeelError } from '../../src/errors';
import { expectClose, readGolden } from '../support/golden';
import { noise } from './support';

/** Limits that are at their largest from the first step on. */
const atOnce = { plainSteps: 0, scaleSteps: 0, shiftSteps: 0 };

const values = (value: Tensor): number[] => [...value.dataSync()];

describe('golden vectors', () => {
  it('match forward and in every gradient', async () => {
    const cases = await readGolden('batch_renorm');
    expect(cases.size).toBe(5);
    for (const { tensor: load, values: stored, exact } of cases.values()) {
      const input = load('x', true);
      const channels = input.shape.at(-1) ?? 0;
      const layer = new nn.BatchRenorm({ channels, maximumScale: 1.5, maximumShift: 0.6, ...atOnce });
      layer.gamma!.copyFrom(stored('gamma'));
      layer.beta!.copyFrom(stored('beta'));
      layer.runningMean.copyFrom(stored('running_mean'));
      layer.runningDeviation.copyFrom(stored('running_std'));
      const output = layer.call(input);
      expectClose(await output.data(), exact('y'), 2e-6);
      output.backward(load('dy'));
      expectClose(await input.grad!.data(), exact('d_x'), 1e-4);
      expectClose(await layer.gamma!.grad!.data(), exact('d_gamma'), 1e-4);
      expectClose(await layer.beta!.grad!.data(), exact('d_beta'), 1e-4);
    }
  });
});

describe('properties', () => {
  it.each([1, 7, 16, 65])('is batch normalization where nothing may be corrected, with %i channels', (channels) => {
    const input = noise([3, 2, 2, channels], 1);
    const layer = new nn.BatchRenorm({ channels, maximumScale: 1, maximumShift: 0, activation: 'silu', ...atOnce });
    const plain = new nn.BatchNorm({ channels, activation: 'silu' });
    expectClose(values(layer.call(input)), values(plain.call(input)), 1e-6);
  });

  it('is evaluation with the statistics before the batch where everything may be corrected', () => {
    const free = { maximumScale: Number.POSITIVE_INFINITY, maximumShift: Number.POSITIVE_INFINITY };
    const layer = new nn.BatchRenorm({ channels: 3, ...free, ...atOnce });
    layer.runningMean.copyFrom(new Float32Array([0.3, -1, 2]));
    layer.runningDeviation.copyFrom(new Float32Array([0.7, 2, 5]));
    const input = noise([4, 3, 3, 3], 2);
    const evaluated = values(layer.eval().call(input));
    expectClose(values(layer.train().call(input)), evaluated, 1e-5);
  });

  it('lets its limits grow with the steps, and saves how far it is', () => {
    const schedule = { plainSteps: 2, scaleSteps: 4, shiftSteps: 3, momentum: 0 };
    const layer = new nn.BatchRenorm({ channels: 1, maximumScale: 3, maximumShift: 5, affine: false, ...schedule });
    const input = tensor([90, 110], { shape: [2, 1] });
    // Far beyond all limits: values ±1 times r, plus d, after 0 to 5 steps.
    const limits = [];
    for (let step = 0; step < 6; step++) {
      const [low = 0, high = 0] = values(layer.call(input));
      limits.push([Math.round((high - low) * 500) / 1000, Math.round((high + low) * 500) / 1000]);
    }
    expect(limits).toEqual([
      [1, 0],
      [1, 0],
      [1, 0],
      [2, 5],
      [3, 5],
      [3, 5],
    ]);
    const other = new nn.BatchRenorm({ channels: 1, maximumScale: 3, maximumShift: 5, affine: false, ...schedule });
    other.loadStateDict(layer.stateDict());
    expect(values(other.call(input))).toEqual(values(layer.call(input)));
  });

  it('averages the mean and the standard deviation', () => {
    const layer = new nn.BatchRenorm({ channels: 1, momentum: 0.25, epsilon: 0 });
    layer.call(tensor([1, 5], { shape: [2, 1] }));
    expect(values(layer.runningMean)).toEqual([0.75]);
    expect(values(layer.runningDeviation)).toEqual([1.25]);
  });

  it('corrects towards the data and not towards the first running statistics, however short the schedule', () => {
    manualSeed(4);
    const momentumOf = (plainSteps?: number) =>
      new nn.BatchRenorm({ channels: 1, ...(plainSteps === undefined ? {} : { plainSteps }) }).momentum;
    expect([undefined, 5_000, 500, 100, 25, 15, 0].map(momentumOf)).toEqual([0.01, 0.01, 0.01, 0.05, 0.2, 0.2, 0.2]);
    const layer = new nn.BatchRenorm({ channels: 3, plainSteps: 15, scaleSteps: 40, shiftSteps: 30 });
    // Far from the mean 0 and the deviation 1 that the layer starts with.
    const outputs = Array.from({ length: 60 }, (_, step) =>
      values(layer.call(noise([16, 4, 4, 3], step).mul(0.1).add(4))),
    );
    const mean = (numbers: readonly number[]) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
    // With momentum 0.01 the means reach 3.9, and the deviations fall to 0.33.
    expect(Math.max(...outputs.map((output) => Math.abs(mean(output))))).toBeLessThan(0.8);
    const deviations = outputs.map((output) => Math.sqrt(mean(output.map((x) => x * x)) - mean(output) ** 2));
    expect(Math.min(...deviations)).toBeGreaterThan(0.7);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('keeps its statistics when a batch has %d', (bad) => {
    manualSeed(1);
    const layer = new nn.BatchRenorm({ channels: 2, ...atOnce });
    layer.call(noise([4, 2], 3));
    const before = [values(layer.runningMean), values(layer.runningDeviation)];
    expect(values(layer.call(tensor([1, 2, 3, bad], { shape: [2, 2] }))).some(Number.isNaN)).toBe(true);
    expect([values(layer.runningMean), values(layer.runningDeviation)]).toEqual(before);
  });

  it('takes a single sample with positions, and refuses a single value', () => {
    const layer = new nn.BatchRenorm({ channels: 3 });
    expect(values(layer.call(noise([1, 2, 2, 3], 4))).every(Number.isFinite)).toBe(true);
    const attempt = () => noGrad(() => layer.call(noise([1, 1, 1, 3], 4)));
    expect(attempt).toThrow(EvenkeelError);
    expect(attempt).toThrow(/one value for each channel/);
    expect(() => new nn.BatchRenorm({ channels: 3, maximumScale: 0.5 })).toThrow(/maximumScale/);
    expect(() => nn.normalizations['batch-renorm']({ momentun: 0.1 } as object)).toThrow(/momentun/);
  });
});
