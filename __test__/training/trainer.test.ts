import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { mlp } from '../../src/models';
import * as nn from '../../src/nn';
import { crossEntropy, manualSeed, synchronize, type Tensor } from '../../src/tensor';
import { checkpoint, evaluate, type StepReport } from '../../src/training';
import { smallLoaders, smallNetwork, smallTrainer, temporaryFolder } from './support';

const folder = temporaryFolder();

test('a network learns, and its files say so', async () => {
  const trainer = smallTrainer();
  const { training, validation } = smallLoaders();
  const result = await trainer.fit(training, {
    epochs: 8,
    validation,
    runDirectory: folder.path('run'),
    config: { model: 'small' },
  });
  expect(result).toMatchObject({ reason: 'finished', epochs: 8, steps: 56 });
  const [first] = result.history;
  expect(result.history.at(-1)!.trainLoss).toBeLessThan(0.8 * first!.trainLoss);
  expect(result.best!.validationTop1).toBe(Math.max(...result.history.map((row) => row.validationTop1!)));
  expect(result.files).toHaveLength(6);
  expect(result.files.filter((file) => !existsSync(file))).toEqual([]);
  expect(JSON.parse(await readFile(folder.path('run', 'config.json'), 'utf8'))).toEqual({ model: 'small' });
  expect(await readFile(folder.path('run', 'report.html'), 'utf8')).toContain('Confusion matrix');
  const evaluation = await trainer.evaluate(validation);
  expect(evaluation.top1).toBe(result.history.at(-1)!.validationTop1);
  expect(evaluation.loss).toBe(result.history.at(-1)!.validationLoss);
  expect(trainer.model.training).toBe(true);
});

test('averaging the gradients of two half batches is the step of the whole batch', async () => {
  const train = async (batchSize: number, gradientAccumulation: number) => {
    manualSeed(5);
    // No batch statistics and no dropout: only then is the whole batch the sum of its halves.
    const model = new nn.Sequential([new nn.Flatten(), new nn.Linear({ inFeatures: 64, outFeatures: 10 })]);
    const trainer = smallTrainer({ model, gradientAccumulation, clipNorm: 0.5 });
    const { training } = smallLoaders({ batchSize, images: 96 });
    const result = await trainer.fit(training, { epochs: 2 });
    expect(result.steps).toBe(6);
    return (await model.parameters()[0]!.data()) as Float32Array;
  };
  const [whole, halves, wrong] = [await train(32, 1), await train(16, 2), await train(16, 1).catch(() => undefined)];
  expect(wrong).toBeUndefined();
  const difference = Math.max(...whole.map((value, index) => Math.abs(value - halves[index]!)));
  expect(difference).toBeLessThan(1e-6);
});

test('the transform of a normalization method is part of every step', async () => {
  for (const [norm, accumulated] of [
    ['bnp', 1],
    ['bn-free', 2],
  ] as const) {
    const train = async (transformed: boolean) => {
      manualSeed(6);
      const model = mlp({ inputs: 64, hidden: [16], norm });
      const trainer = smallTrainer({ model, gradientAccumulation: accumulated });
      expect(trainer.gradientTransform).toBeDefined();
      if (!transformed) Object.assign(trainer, { gradientTransform: undefined });
      const { training } = smallLoaders({ batchSize: 16, images: 96 });
      const { history } = await trainer.fit(training, { epochs: 2 });
      return history.at(-1)!.trainLoss;
    };
    const [plain, transformed] = [await train(false), await train(true)];
    expect(Number.isFinite(transformed)).toBe(true);
    expect(transformed).not.toBe(plain);
  }
});

test('patience ends a run that no longer gets better', async () => {
  const trainer = smallTrainer({ schedule: () => 0 });
  const { training, validation } = smallLoaders();
  const result = await trainer.fit(training, { epochs: 20, validation, patience: 2 });
  expect(result.reason).toBe('early stopping');
  expect(result.epochs).toBeLessThan(20);
  expect(result.files).toEqual([]);
});

test('callbacks see every step and epoch in order, and can stop the run', async () => {
  const seen: string[] = [];
  const reports: StepReport[] = [];
  const { training, validation } = smallLoaders();
  const result = await smallTrainer().fit(training, {
    epochs: 5,
    validation,
    callbacks: [
      {
        onStart: ({ resumedAtStep }) => void seen.push(`start ${resumedAtStep}`),
        async onStep(report, control) {
          await Promise.resolve();
          reports.push(report);
          seen.push(`step ${report.step}`);
          if (report.step === 9) {
            control.stop();
          }
        },
        onEpoch: ({ epoch }) => void seen.push(`epoch ${epoch}`),
        onEnd: ({ reason }) => void seen.push(reason),
      },
    ],
  });
  const steps = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, index) => `step ${from + index}`);
  expect(seen).toEqual(['start 0', ...steps(1, 7), 'epoch 1', 'step 8', 'step 9', 'stopped by a callback']);
  expect(result).toMatchObject({ reason: 'stopped by a callback', epochs: 1, steps: 9 });
  expect(reports.map(({ batch }) => batch)).toEqual([1, 2, 3, 4, 5, 6, 7, 1, 2]);
  expect(reports.every(({ loss, metrics }) => Number.isFinite(loss) && metrics.examples > 0)).toBe(true);
});

test('an error in a callback ends the run and reaches the caller', async () => {
  const failures: unknown[] = [];
  const { training } = smallLoaders();
  const fitting = smallTrainer().fit(training, {
    epochs: 1,
    callbacks: [
      {
        onStep() {
          throw new Error('from the callback');
        },
        onFailure: (error) => void failures.push(error),
      },
    ],
  });
  await expect(fitting).rejects.toThrow('from the callback');
  expect(failures).toHaveLength(1);
});

describe('a loss that cannot be trained with ends the run', () => {
  const trainWith = (call: nn.Loss['call']) =>
    smallTrainer({ loss: { call } }).fit(smallLoaders().training, { epochs: 1 });

  test.each([
    ['one value for each sample', 'none', /^fit: the loss returned a tensor of shape \[16\]; it must be one number/],
    ['a number', 'number', /^fit: the loss returned a number; it must return a tensor/],
  ])('%s', async (_what, kind, message) => {
    const call: nn.Loss['call'] = (logits, labels) =>
      kind === 'none' ? crossEntropy(logits, labels, { reduction: 'none' }) : (3 as never);
    await expect(trainWith(call)).rejects.toThrow(message);
    const evaluated = evaluate(smallNetwork(), smallLoaders().validation, { loss: { call } });
    await expect(evaluated).rejects.toThrow(/^evaluate: the loss returned/);
  });

  test('a loss that fails twice is reported once, and the process lives on', async () => {
    const unhandled: unknown[] = [];
    const listener = (error: unknown) => void unhandled.push(error);
    process.on('unhandledRejection', listener);
    // Labels out of range fail when they are read; what is detached fails in the backward pass, before that.
    const wrong = (logits: Tensor, labels: Tensor) =>
      crossEntropy(logits.detach(), labels.cast('float32').add(99).cast('int32'));
    await expect(trainWith(wrong)).rejects.toThrow('backward: this tensor depends on nothing that requires a gradient');
    await synchronize();
    await new Promise((resolve) => setTimeout(resolve, 20));
    process.off('unhandledRejection', listener);
    expect(unhandled).toEqual([]);
  });
});

test('weights that overflow never replace a good checkpoint', async () => {
  const trainer = smallTrainer();
  const { training } = smallLoaders();
  const fitting = trainer.fit(training, {
    epochs: 1,
    runDirectory: folder.path('run'),
    checkpointEvery: 1,
    callbacks: [
      {
        // As an update does whose gradient overflowed while the loss was still finite.
        onStep({ step }) {
          const [weight] = trainer.model.parameters();
          if (step === 3) {
            weight!.copyFrom(new Float32Array(weight!.size).fill(Number.POSITIVE_INFINITY));
          }
        },
      },
    ],
  });
  await expect(fitting).rejects.toMatchObject({
    code: 'NON_FINITE',
    message: expect.stringContaining('stays what it was'),
  });
  const { info, model } = await checkpoint.read(folder.path('run', 'last.safetensors'));
  expect(info.training).toMatchObject({ step: 2 });
  for (const { values } of model.values()) {
    expect([...values].every(Number.isFinite)).toBe(true);
  }
});

describe('a NaN or an infinity stops the run and names where it came from', () => {
  async function failure(trainer: ReturnType<typeof smallTrainer>, loaders = smallLoaders()): Promise<Error> {
    return trainer
      .fit(loaders.training, { epochs: 3, runDirectory: folder.path('run') })
      .then(() => Promise.reject(new Error('training went on')))
      .catch((error: Error) => error);
  }

  test('from a weight that is not finite', async () => {
    const model = smallNetwork();
    const [, weight] = model.namedParameters().find(([name]) => name === '6.weight')!;
    weight.copyFrom(new Float32Array(weight.size).fill(Number.NaN));
    const error = await failure(smallTrainer({ model }));
    expect(error).toMatchObject({ code: 'NON_FINITE' });
    expect(error.message).toMatch(
      /became NaN in step 1 \(epoch 1, batch 1 of 7\).*layer 6 \(Linear\), whose weight is not/,
    );
    expect(await readFile(folder.path('run', 'events.jsonl'), 'utf8')).toContain('"type":"error"');
    expect(existsSync(folder.path('run', 'last.safetensors'))).toBe(false);
  });

  test('from a layer that overflows', async () => {
    class Square extends nn.Module {
      override forward(input: Parameters<nn.ReLU['forward']>[0]) {
        const large = input.mul(input).mul(1e30);
        return large.mul(large);
      }
    }
    const model = new nn.Sequential([
      new nn.Flatten(),
      new nn.Linear({ inFeatures: 64, outFeatures: 10 }),
      new Square(),
    ]);
    const error = await failure(smallTrainer({ model }));
    expect(error.message).toMatch(/in the output of layer 2 \(Square\), from finite inputs and weights/);
  });

  test('from a learning rate that is too high, naming the layer that broke first', async () => {
    const model = smallNetwork();
    const error = await failure(smallTrainer({ model, schedule: () => 1e38 }));
    expect(error).toMatchObject({ code: 'NON_FINITE' });
    expect(error.message).toMatch(/layer \d \((Conv2d|BatchNorm|Linear)\)/);
    expect(error.message).toMatch(/lower learning rate/);
  });
});

test.each([
  ['epochs', { epochs: 0 }],
  ['epochs', { epochs: 1.5 }],
  ['maxSteps', { epochs: 1, maxSteps: 0 }],
  ['patience', { epochs: 1, patience: -1 }],
  ['patience needs a validation', { epochs: 1, patience: 1 }],
  ['checkpointEvery', { epochs: 1, checkpointEvery: 0 }],
])('fit refuses wrong %s', async (name, options) => {
  const { training } = smallLoaders();
  await expect(smallTrainer().fit(training, options)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining(name),
  });
});

test.each([{ gradientAccumulation: 0 }, { seed: -1 }, { seed: 0.5 }, { clipNorm: 0 }, { clipNorm: Number.NaN }])(
  'Trainer refuses %j',
  (options) => {
    expect(() => smallTrainer(options)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  },
);
