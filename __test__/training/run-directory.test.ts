import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EpochRow, RunDirectory } from '../../src/training/run-directory';

let folder: string;
let directory: RunDirectory;

const row = (epoch: number): EpochRow => ({
  epoch,
  step: epoch * 10,
  learningRate: 0.1 / 3,
  trainLoss: 1 / epoch,
  trainTop1: 0.5,
  imagesPerSecond: 100,
  seconds: 1.5,
});

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'evenkeel-run-'));
  directory = new RunDirectory(join(folder, 'deep', 'run'));
  await directory.begin({ model: 'resnet20' });
});

afterEach(() => rm(folder, { recursive: true, force: true }));

test('a new run has its configuration and empty logs', async () => {
  expect((await readdir(directory.path)).sort()).toEqual(['config.json', 'events.jsonl', 'metrics.csv']);
  expect(JSON.parse(await readFile(directory.config, 'utf8'))).toEqual({ model: 'resnet20' });
  expect(await directory.readEpochs()).toEqual([]);
  expect(await directory.hasCheckpoint()).toBe(false);
});

test('rows come back exactly, with and without validation', async () => {
  const full = { ...row(2), trainTop5: 1, validationLoss: 0.1, validationTop1: 0.9, validationTop5: 0.99 };
  await directory.appendEpoch(row(1));
  await directory.appendEpoch(full);
  expect(await directory.readEpochs()).toEqual([row(1), full]);
  const [heading] = (await readFile(directory.metrics, 'utf8')).split('\n');
  expect(heading).toBe(
    'epoch,step,learning_rate,train_loss,train_top1,train_top5,validation_loss,validation_top1,validation_top5,images_per_second,seconds,peak_bytes,flip_ratio,near_zero',
  );
});

test('resuming cuts rows after the checkpoint, and what a crash tore', async () => {
  for (const epoch of [1, 2, 3]) {
    await directory.appendEpoch(row(epoch));
    await directory.appendEvent({ type: 'epoch', step: epoch * 10 });
  }
  await appendFile(directory.metrics, '4,40,0.0');
  await appendFile(directory.events, '{"type":"epo');
  await directory.truncateAfter(20);
  expect(await directory.readEpochs()).toEqual([row(1), row(2)]);
  expect((await directory.readEvents()).map(({ step }) => step)).toEqual([10, 20]);
  await directory.appendEpoch(row(3));
  expect(await directory.readEpochs()).toHaveLength(3);
  expect(await readFile(directory.events, 'utf8')).toMatch(/^(\{.*\}\n){2}$/);
});

test('lines of another kind are dropped, not trusted', async () => {
  await writeFile(directory.events, 'no json\n[1]\n{"type":"step","step":1}\n');
  await writeFile(directory.metrics, 'heading\nrubbish,x\n');
  expect(await directory.readEvents()).toEqual([{ type: 'step', step: 1 }]);
  expect(await directory.readEpochs()).toEqual([]);
});

test('a folder that cannot be made is an IO error', async () => {
  const blocked = new RunDirectory(join(directory.config, 'run'));
  await expect(blocked.begin({})).rejects.toMatchObject({ code: 'IO' });
});
