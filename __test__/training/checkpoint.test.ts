import { readdir, readFile, writeFile } from 'node:fs/promises';
import * as nn from '../../src/nn';
import { writeSafetensors } from '../../src/serialization/safetensors';
import { tensor } from '../../src/tensor';
import { checkpoint } from '../../src/training';
import { hashOf, smallLoaders, smallNetwork, smallTrainer, temporaryFolder } from './support';

const folder = temporaryFolder();

/** A trainer that has done a few steps, so that moments and running statistics are not zero. */
async function trained() {
  const trainer = smallTrainer();
  const { training } = smallLoaders();
  await trainer.fit(training, { epochs: 1, maxSteps: 3 });
  return { trainer, training };
}

test('weights, buffers, moments and small values come back bit for bit', async () => {
  const path = folder.path('a.safetensors');
  const { trainer, training } = await trained();
  const { model, optimizer } = trainer;
  const state = training.state();
  await checkpoint.save(path, {
    model,
    optimizer,
    loader: training,
    config: { depth: 20 },
    training: { third: 1 / 3 },
    extra: ['x'],
  });
  const other = smallTrainer({ weights: 2 });
  const loaders = smallLoaders();
  const info = await checkpoint.load(path, { ...pick(other), loader: loaders.training });
  expect(info).toMatchObject({ config: { depth: 20 }, training: { third: 1 / 3 }, extra: ['x'], hasOptimizer: true });
  expect(await hashOf(other)).toBe(await hashOf(trainer));
  expect(loaders.training.state()).toEqual(state);
});

test('a checkpoint is the moment of the call, not of the write', async () => {
  const path = folder.path('a.safetensors');
  const { trainer } = await trained();
  const before = await hashOf(trainer);
  const saving = checkpoint.save(path, pick(trainer));
  for (const parameter of trainer.model.parameters()) {
    parameter.copyFrom(new Float32Array(parameter.size));
  }
  await saving;
  const other = smallTrainer({ weights: 2 });
  await checkpoint.load(path, pick(other));
  expect(await hashOf(other)).toBe(before);
});

test('a state that does not fit loads nothing', async () => {
  const path = folder.path('a.safetensors');
  const { trainer } = await trained();
  await checkpoint.save(path, pick(trainer));

  const narrow = new nn.Sequential([new nn.Flatten(), new nn.Linear({ inFeatures: 64, outFeatures: 10 })]);
  await expect(checkpoint.load(path, { model: narrow })).rejects.toMatchObject({ name: 'EvenkeelError' });

  // The model fits, the optimizer does not: the model must stay what it was, too.
  const model = smallNetwork(3);
  const frozen = smallTrainer({ model: narrow });
  const before = await hashOf(smallTrainer({ model }));
  await expect(checkpoint.load(path, { model, optimizer: frozen.optimizer })).rejects.toMatchObject({
    name: 'EvenkeelError',
  });
  expect(await hashOf(smallTrainer({ model }))).toBe(before);
});

test('a checkpoint without an optimizer says so', async () => {
  const path = folder.path('a.safetensors');
  const { trainer } = await trained();
  await checkpoint.save(path, { model: trainer.model });
  await expect(checkpoint.load(path, pick(trainer))).rejects.toThrow(/holds no optimizer state/);
  await checkpoint.load(path, { model: trainer.model });
});

test('damaged, foreign and future files are refused with the right code', async () => {
  const path = folder.path('a.safetensors');
  const { trainer } = await trained();
  const before = await hashOf(trainer);
  await checkpoint.save(path, pick(trainer));
  const whole = await readFile(path);
  for (const position of [0, 3, 9, 40, whole.length >> 1, whole.length - 1]) {
    const damaged = Buffer.from(whole);
    damaged[position]! ^= 0x10;
    await writeFile(path, damaged);
    await expect(checkpoint.load(path, pick(trainer))).rejects.toMatchObject({ code: 'CORRUPT_FILE' });
  }
  await writeFile(path, whole.subarray(0, whole.length - 4));
  await expect(checkpoint.load(path, pick(trainer))).rejects.toMatchObject({ code: 'CORRUPT_FILE' });

  await writeSafetensors(path, [{ name: 'w', shape: [1], values: new Float32Array(1) }], { format: 'pt' });
  await expect(checkpoint.load(path)).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringMatching(/no checkpoint/),
  });
  await writeSafetensors(path, [], { 'evenkeel.format': '999' });
  await expect(checkpoint.load(path)).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringMatching(/Update/),
  });
  await writeSafetensors(path, [], { 'evenkeel.format': '1', 'evenkeel.config': '{' });
  await expect(checkpoint.load(path)).rejects.toMatchObject({ code: 'CORRUPT_FILE' });
  await expect(checkpoint.load(folder.path('none'))).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
  expect(await hashOf(trainer)).toBe(before);
});

test('every single byte of a checkpoint, flipped, is noticed', async () => {
  const path = folder.path('small.safetensors');
  const weight = tensor([1, 2, 3]);
  const model = {
    stateDict: () => new Map([['weight', weight]]),
    loadStateDict: () => ({ missing: [], unexpected: [] }),
  };
  await checkpoint.save(path, { model, config: { depth: 20 }, training: { step: 12 } });
  const whole = await readFile(path);
  const unnoticed: number[] = [];
  for (let position = 0; position < whole.length; position += 1) {
    const damaged = Buffer.from(whole);
    damaged[position]! ^= 0x01;
    await writeFile(path, damaged);
    const outcome = await checkpoint.read(path).then(
      () => 'read',
      (error) => error.code,
    );
    if (outcome !== 'CORRUPT_FILE' && outcome !== 'UNSUPPORTED') {
      unnoticed.push(position);
    }
  }
  expect(whole.length).toBeGreaterThan(300);
  expect(unnoticed).toEqual([]);
});

test('values that JSON cannot carry are refused, and the old file stays', async () => {
  const path = folder.path('a.safetensors');
  await writeFile(path, 'old');
  const { trainer } = await trained();
  await expect(checkpoint.save(path, { model: trainer.model, extra: { loss: Number.NaN } })).rejects.toThrow(
    /NaN under "loss"/,
  );
  expect(await readFile(path, 'utf8')).toBe('old');
  expect(await readdir(folder.path())).toEqual(['a.safetensors']);
});

function pick({ model, optimizer }: ReturnType<typeof smallTrainer>) {
  return { model, optimizer };
}
