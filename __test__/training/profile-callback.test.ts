import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { data, models, optim, profileSteps, Trainer } from '../../src';

it('measures steps of a run and writes tables and a trace', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'evenkeel-profile-'));
  try {
    const model = models.create('resnet-tiny', { norm: 'frn' });
    const trainer = new Trainer({ model, optimizer: new optim.SGD(model.parameters(), { learningRate: 0.01 }) });
    const loader = new data.DataLoader(data.take(data.digits().train, 64), { batchSize: 8, seed: 1 });
    let shown = '';
    const show = (text: string): void => {
      shown += text;
    };
    const profiling = profileSteps({ model, directory, skip: 2, steps: 3, show });
    await trainer.fit(loader, { epochs: 1, callbacks: [profiling] });
    expect(shown).toContain('conv2d_forward');
    expect(shown).toContain('stem (backward)');
    expect(await readFile(join(directory, 'profile.txt'), 'utf8')).toContain('conv2d_forward');
    const trace = JSON.parse(await readFile(join(directory, 'trace.json'), 'utf8')) as {
      traceEvents: { name: string }[];
    };
    const updates = trace.traceEvents.filter(({ name }) => name === 'sgd_step');
    expect(updates.length).toBe(3);
    // A run that ends while it is measured shows what there was.
    shown = '';
    await trainer.fit(loader, {
      epochs: 1,
      callbacks: [profileSteps({ model, directory, skip: 6, steps: 100, show })],
    });
    expect(shown).toContain('conv2d_forward');
  } finally {
    await rm(directory, { recursive: true });
  }
});
