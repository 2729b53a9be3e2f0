import { readFile } from 'node:fs/promises';
import * as models from '../../src/models';
import * as nn from '../../src/nn';
import * as optim from '../../src/optim';
import { manualSeed } from '../../src/tensor';
import { RunDirectory, Trainer } from '../../src/training';
import { addFlips, BinaryMetrics, meanOfLayers } from '../../src/training/binary-metrics';
import { smallLoaders, temporaryFolder } from './support';

const options = { inChannels: 1, outChannels: 2, kernelSize: 1 } as const;
const values = (...numbers: number[]) => Float32Array.from(numbers);

describe('signs of binary weights', () => {
  test('are counted where a step changes them', async () => {
    const plain = new nn.BinaryLinear({ inFeatures: 4, outFeatures: 1 });
    const standardized = new nn.BinaryLinear({ inFeatures: 4, outFeatures: 1, standardize: true });
    const float = new nn.BinaryConv2d({ ...options, binaryWeights: false });
    const metrics = new BinaryMetrics(new nn.Sequential({ plain, standardized, float }));
    plain.weight.copyFrom(values(1, 2, 3, 4));
    standardized.weight.copyFrom(values(1, 2, 3, 4));
    const flips = await metrics.measure(() => {
      plain.weight.copyFrom(values(-1, 2, 0, -4));
      // Signs of the weights as such stay; those around the mean, -1 -1 +1 +1, all change.
      standardized.weight.copyFrom(values(4, 3, 2, 1));
    });
    expect(flips).toEqual([2, 4]);
    expect(await metrics.measure(() => {})).toEqual([0, 0]);
    const rows = await metrics.rows(addFlips({ samples: 1, flips }, [0, 0]));
    expect(rows).toEqual([
      { name: 'plain', weights: 4, flipRatio: 0.25, nearZero: 0.25 },
      { name: 'standardized', weights: 4, flipRatio: 0.5, nearZero: 0 },
    ]);
    expect(meanOfLayers(rows)).toEqual({ flipRatio: 0.375, nearZero: 0.125 });
    expect(meanOfLayers(await metrics.rows({ samples: 0, flips: [] }))).toEqual({ nearZero: 0.125 });
    expect(new BinaryMetrics(new nn.Sequential([float])).empty).toBe(true);
  });
});

describe('a training run of a binary network', () => {
  const { path } = temporaryFolder();

  test('logs and shows them, and flips nothing at a learning rate of 0', async () => {
    manualSeed(1);
    const model = models.create('reactnet20', { inputShape: [8, 8, 1], width: 2, norm: 'bn-free' });
    const { training, validation } = smallLoaders();
    const schedule = optim.schedules.linearByEpoch({ learningRate: 0.05, epochs: 3, stepsPerEpoch: training.length });
    const trainer = new Trainer({
      model,
      optimizer: new optim.Adam(model.parameters(), { learningRate: 0.1 }),
      schedule,
    });
    const { history } = await trainer.fit(training, { epochs: 3, validation, runDirectory: path('run') });
    const ratios = history.map(({ flipRatio }) => flipRatio);
    expect(ratios[0]).toBeGreaterThan(1e-3);
    expect(ratios[2]).toBe(0);
    for (const { nearZero } of history) expect(nearZero).toBeGreaterThan(0.01);
    const directory = new RunDirectory(path('run'));
    expect((await directory.readEpochs()).map(({ flipRatio }) => flipRatio)).toEqual(ratios);
    const events = (await directory.readEvents()).filter(({ type }) => type === 'binary');
    expect(events).toHaveLength(3);
    expect(events[0]?.['layers']).toHaveLength(18);
    const html = await readFile(directory.report, 'utf8');
    expect(html).toContain('Signs that flip in a step');
    expect(html).toContain('blocks.17.conv');
  });
});
