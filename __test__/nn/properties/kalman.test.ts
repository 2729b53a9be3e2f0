/**
 * Testable properties of Batch Kalman Normalization (Wang et al. 2018) by their numbers. BKN-1 to BKN-3 are in ../../tensor/kalman.test.ts,
 * BKN-1 (in a network), BKN-4 and BKN-5 in ../kalman.test.ts and ../kalman-options.test.ts. Accuracy needs long training.
 */
import { manualSeed, nn, noGrad, optim, randint, randn, scope, type Tensor, tensor } from '../../../src';

const CLASSES = 10;
const STEPS = 500;

/** Ten smooth templates; images have a gain, a colour and noise of their own, so that the statistics of two samples are rough. */
function task(): (count: number) => { readonly images: Tensor; readonly labels: Tensor } {
  const rough = randn([CLASSES, 10, 10, 3]);
  const smooth = new nn.AvgPool2d({ kernelSize: 3, stride: 1 }).call(rough).mul(2.4).dataSync();
  return (count) => {
    const labels = randint([count], { high: CLASSES });
    const classes = labels.dataSync();
    const templates = Float32Array.from(
      { length: count * 192 },
      (_, at) => smooth[classes[Math.floor(at / 192)]! * 192 + (at % 192)]!,
    );
    const images = tensor(templates, { shape: [count, 8, 8, 3] })
      .mul(randn([count, 1, 1, 1]).mul(0.5).exp())
      .add(randn([count, 1, 1, 3]).mul(0.8))
      .add(randn([count, 8, 8, 3]).mul(0.9));
    return { images, labels };
  };
}

function network(norm: nn.Normalization): nn.Module {
  const build = new nn.NormalizedLayers({ norm });
  let inChannels = 3;
  const units = [12, 12, 16, 16].flatMap((outChannels, index) => {
    const options = { inChannels, outChannels, kernelSize: 3, padding: 1, stride: index === 2 ? 2 : 1 };
    inChannels = outChannels;
    return [build.conv2d(options, index === 0 ? 'stem' : 'body'), build.unit({ channels: outChannels })];
  });
  const classifier = build.linear({ inFeatures: 16, outFeatures: CLASSES }, 'classifier');
  return new nn.Sequential([...units, new nn.GlobalAvgPool(), classifier]);
}

/** Loss over the last 50 steps, and the error on other images after 100. */
function train(options: nn.KalmanNormalizationOptions): { readonly loss: number; readonly error: number } {
  manualSeed(31);
  const draw = task();
  const validation = draw(500);
  const model = network(nn.normalizations.kalman(options));
  const optimizer = new optim.SGD(model.parameters(), { learningRate: 0.05, momentum: 0.9 });
  const objective = new nn.CrossEntropyLoss();
  let [total, error] = [0, 1];
  for (let step = 0; step < STEPS; step++) {
    if (step === 0.7 * STEPS) optimizer.learningRate = 0.005;
    scope(() => {
      const { images, labels } = draw(32);
      const loss = objective.call(model.call(images), labels);
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      if (step >= STEPS - 50) total += loss.itemSync() / 50;
    });
    if (step !== 99) continue;
    const guesses = noGrad(() => scope(() => model.eval().call(validation.images).argmax().dataSync()));
    const truth = validation.labels.dataSync();
    error = Array.from(guesses).filter((guess, at) => guess !== truth[at]).length / 500;
    model.train();
  }
  model.dispose();
  return { loss: total, error };
}

describe('BKN-6: with the statistics of two samples', () => {
  const known = new Map<string, ReturnType<typeof train>>();
  const trained = (name: string, options: nn.KalmanNormalizationOptions) => {
    const found = known.get(name) ?? train({ groupSize: 2, ...options });
    known.set(name, found);
    return found;
  };
  const batchNorm = () => trained('batch norm', { mode: 'tied-norm', priorWeight: 0 });

  it.each<[string, nn.KalmanNormalizationOptions]>([
    ['tied-norm', { mode: 'tied-norm', priorWeight: 0.9 }],
    ['learned', { mode: 'learned' }],
    ['tied-raw', { mode: 'tied-raw', priorWeight: 0.9 }],
  ])('the mode %s reaches half the training loss of batch normalization', (name, options) => {
    expect(trained(name, options).loss).toBeLessThan(0.5 * batchNorm().loss);
  });

  it('the mode tied-norm is ahead in evaluation after 100 steps', () => {
    const { error } = trained('tied-norm', { mode: 'tied-norm', priorWeight: 0.9 });
    expect(error).toBeLessThan(0.6 * batchNorm().error);
  });
});
