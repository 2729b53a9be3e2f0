import { readFile, writeFile } from 'node:fs/promises';
import { type FitResult, RunDirectory, type Trainer, type TrainingCallback } from '../../src/training';
import { hashOf, smallLoaders, smallTrainer, temporaryFolder } from './support';

const folder = temporaryFolder();
const EPOCHS = 3;
/** 100 images in batches of 16: the last one is smaller. */
const BATCHES = 7;

interface Run {
  readonly trainer: Trainer;
  readonly result: FitResult;
  readonly hash: string;
}

/** Trains in one go, or to `maxSteps`. Every call builds model, optimizer and loaders anew, as a new process would. */
async function train(
  run: string,
  options: {
    maxSteps?: number;
    resume?: boolean;
    accumulate?: number;
    weights?: number;
    signal?: AbortSignal;
    callback?: TrainingCallback;
  } = {},
): Promise<Run> {
  const { maxSteps, resume = false, accumulate = 1, weights = 1, signal, callback } = options;
  const trainer = smallTrainer({ gradientAccumulation: accumulate, clipNorm: 1, weights });
  const { training, validation } = smallLoaders();
  const result = await trainer.fit(training, {
    epochs: EPOCHS,
    validation,
    runDirectory: folder.path(run),
    resume,
    handleSignals: false,
    callbacks: callback === undefined ? [] : [callback],
    ...(maxSteps === undefined ? {} : { maxSteps }),
    ...(signal === undefined ? {} : { signal }),
  });
  return { trainer, result, hash: await hashOf(trainer) };
}

test('two runs with the same seeds give the same bits, and another seed gives others', async () => {
  const first = await train('first');
  const second = await train('second');
  const other = await train('other', { weights: 2 });
  expect(second.hash).toBe(first.hash);
  expect(other.hash).not.toBe(first.hash);
});

test.each([1, 3, BATCHES - 1, BATCHES, BATCHES + 1, 2 * BATCHES, 2 * BATCHES + 4])(
  'a run stopped after step %i and resumed ends with the bits of one that never stopped',
  async (maxSteps) => {
    const whole = await train('whole');
    await train('parts', { maxSteps });
    // Other weights at the start: everything must come from the checkpoint.
    const resumed = await train('parts', { resume: true, weights: 99 });
    expect(resumed.hash).toBe(whole.hash);
    await expectSameLogs('parts', 'whole');
  },
);

test('a run stopped after every single step ends with the same bits, with gradient accumulation', async () => {
  const whole = await train('whole', { accumulate: 3 });
  for (let step = 1; step <= EPOCHS * Math.ceil(BATCHES / 3); step += 1) {
    await train('parts', { maxSteps: step, resume: true, accumulate: 3, weights: step });
  }
  const resumed = await train('parts', { resume: true, accumulate: 3 });
  expect(resumed.hash).toBe(whole.hash);
  await expectSameLogs('parts', 'whole');
});

test('a run interrupted in its validation validates again and ends with the same bits', async () => {
  const whole = await train('whole');
  const abort = new AbortController();
  const part = await train('parts', {
    signal: abort.signal,
    callback: { onValidationBatch: () => abort.abort() },
  });
  expect(part.result).toMatchObject({ reason: 'interrupted', epochs: 0, steps: BATCHES, history: [] });
  const resumed = await train('parts', { resume: true, weights: 99 });
  expect(resumed.hash).toBe(whole.hash);
  await expectSameLogs('parts', 'whole');
});

test('what a crash logged after the last checkpoint is cut, and the rest is the same run', async () => {
  const whole = await train('whole');
  await train('parts', { maxSteps: BATCHES });
  const checkpoint = await readFile(folder.path('parts', 'last.safetensors'));
  await train('parts', { maxSteps: 2 * BATCHES + 2, resume: true });
  // As if the process had died before it could save anything after the first epoch.
  await writeFile(folder.path('parts', 'last.safetensors'), checkpoint);
  const resumed = await train('parts', { resume: true });
  expect(resumed.hash).toBe(whole.hash);
  await expectSameLogs('parts', 'whole');
});

test('resuming with another set-up is refused and changes nothing', async () => {
  await train('run', { maxSteps: 3 });
  const before = await readFile(folder.path('run', 'last.safetensors'));
  await expect(train('run', { resume: true, accumulate: 2 })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining('gradient accumulation'),
  });
  expect(await readFile(folder.path('run', 'last.safetensors'))).toEqual(before);
});

/** The logs of two runs tell the same story, apart from times. */
async function expectSameLogs(run: string, other: string): Promise<void> {
  const read = async (name: string) => {
    const directory = new RunDirectory(folder.path(name));
    const rows = (await directory.readEpochs()).map(
      ({ imagesPerSecond: _, seconds: __, peakBytes: ___, ...row }) => row,
    );
    const steps = (await directory.readEvents())
      .filter(({ type }) => type === 'step')
      .map(({ step, loss, learningRate }) => ({ step, loss, learningRate }));
    return { rows, steps };
  };
  expect(await read(run)).toEqual(await read(other));
}
