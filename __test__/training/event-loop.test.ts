import { Worker } from 'node:worker_threads';
import * as models from '../../src/models';
import { getThreads } from '../../src/tensor';
import { smallLoaders, smallTrainer } from './support';

const MILLISECONDS = 1500;

/** Which part of its ticks a 10 ms timer makes while `work` goes on. */
async function ticksWhile(work: () => Promise<void>): Promise<number> {
  let ticks = 0;
  const start = performance.now();
  const timer = setInterval(() => {
    ticks += 1;
  }, 10);
  await work();
  clearInterval(timer);
  return ticks / ((performance.now() - start) / 10);
}

/** What this machine gives at the moment: the event loop idles while as many threads as training uses are busy. */
async function control(): Promise<number> {
  const workers = Array.from({ length: getThreads() }, () => new Worker('for (;;) {}', { eval: true }));
  const ratio = await ticksWhile(() => new Promise((resolve) => setTimeout(resolve, MILLISECONDS)));
  await Promise.all(workers.map((worker) => worker.terminate()));
  return ratio;
}

async function training(): Promise<number> {
  const trainer = smallTrainer({ model: models.create('resnet-tiny', { norm: 'frn' }) });
  const loaders = smallLoaders({ batchSize: 64, images: 1024 });
  const start = performance.now();
  return ticksWhile(async () => {
    await trainer.fit(loaders.training, {
      epochs: 1_000_000,
      callbacks: [{ onStep: (_, run) => void (performance.now() - start > MILLISECONDS && run.stop()) }],
    });
  });
}

test('a 10 ms timer makes 80 % of its ticks while a network trains', async () => {
  // Other programs may take the processors away for a while: three attempts, each against what is to be had.
  const attempts: string[] = [];
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const possible = Math.min(1, await control());
    const reached = await training();
    attempts.push(`${reached.toFixed(2)} of ${possible.toFixed(2)}`);
    if (reached >= 0.8 * possible) {
      return;
    }
  }
  throw new Error(`ticks made while training, of those made beside busy threads: ${attempts.join('; ')}`);
}, 60_000);
