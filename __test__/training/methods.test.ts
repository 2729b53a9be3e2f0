import * as models from '../../src/models';
import * as nn from '../../src/nn';
import { manualSeed, memory, randn, scope, tensor } from '../../src/tensor';
import { hashOf, smallLoaders, smallTrainer, temporaryFolder } from './support';

const folder = temporaryFolder();
const STEPS = 4;

const builders: Readonly<Record<string, (norm: nn.NormalizationName | nn.Normalization) => nn.Module>> = {
  mlp: (norm) => models.create('mlp', { inputShape: [8, 8, 1], hidden: [9, 5], norm }),
  lenet: (norm) => models.lenet({ inputShape: [8, 8, 1], norm }),
  'resnet v1': (norm) => models.resnetCifar({ depth: 8, width: 4, inChannels: 1, norm }),
  'resnet v2': (norm) => models.resnetCifar({ depth: 8, width: 4, version: 2, block: 'basic', inChannels: 1, norm }),
};

/** Methods with other options than their defaults, which have state or random numbers of their own. */
const variants: readonly (readonly [string, () => nn.Normalization])[] = [
  [
    'kalman by random maps',
    () => nn.normalizations.kalman({ mode: 'tied-raw', prediction: 'monte-carlo', groupSize: 2 }),
  ],
  [
    'kalman from standardized inputs',
    () => nn.normalizations.kalman({ mode: 'tied-norm', inputPrior: true, groupSize: 4 }),
  ],
  ['ic behind ReLU', () => nn.normalizations.ic({ order: 'conv-relu-ic', dropRate: 0.2 })],
  ['bnp with group norm', () => nn.normalizations.bnp({ groupNorm: true, rows: 'batch' })],
  ['bn-free by the reference table', () => nn.normalizations['bn-free']({ beta: 'reference', clipping: 0.01 })],
  ['frn with slopes', () => nn.normalizations.frn({ affineThreshold: true, learnedEpsilon: 'all' })],
  [
    'batch-renorm within its schedule',
    () => nn.normalizations['batch-renorm']({ plainSteps: 1, scaleSteps: 5, shiftSteps: 4 }),
  ],
  ['online with clamped values', () => nn.normalizations.online({ guard: 'clamp', keep: 0.9 })],
];
const norms = Object.keys(nn.normalizations).map((name) => [name, () => name as nn.NormalizationName] as const);

test.each([...norms, ...variants])('a network is freed whole with dispose(), with %s', (_name, norm) => {
  // Tensors of other tests may be collected meanwhile, but none may be added.
  const before = memory().liveTensors;
  const model = builders['resnet v1']!(norm());
  scope(() => {
    const loss = new nn.CrossEntropyLoss().call(
      model.call(randn([4, 8, 8, 1])),
      tensor([1, 2, 3, 4], { dtype: 'int32' }),
    );
    loss.backward();
    nn.gradientTransformOf(model)?.apply(model.parameters());
  });
  model.dispose();
  expect(memory().liveTensors).toBeLessThanOrEqual(before);
});

describe.each(Object.entries(builders))('%s', (model, build) => {
  const applicable = variants.filter(([name]) => model.startsWith('resnet') || !/maps|bn-free/.test(name));

  test.each([...norms, ...applicable])(
    'trains, saves, and goes on from its file bit for bit, with %s',
    async (_name, norm) => {
      const train = async (run: string, weights: number, maxSteps: number, resume: boolean) => {
        manualSeed(weights);
        const trainer = smallTrainer({ model: build(norm()) });
        const { training } = smallLoaders({ batchSize: 8, images: 24 });
        const runDirectory = folder.path(run);
        const result = await trainer.fit(training, { epochs: 2, maxSteps, resume, runDirectory, handleSignals: false });
        expect(result.steps).toBe(maxSteps);
        return trainer;
      };
      const whole = await hashOf(await train('whole', 1, STEPS, false));
      await train('parts', 1, 2, false);
      // Other weights at the start: everything must come from the checkpoint.
      expect(await hashOf(await train('parts', 99, STEPS, true))).toBe(whole);
    },
  );
});
