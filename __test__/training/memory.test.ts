// A file of its own: models that other tests left behind would be collected in the middle of the counting.
import { memory, synchronize } from '../../src/tensor';
import { smallLoaders, smallTrainer } from './support';

test('1,000 steps leave memory flat', async () => {
  const trainer = smallTrainer();
  const { training } = smallLoaders();
  const live: number[] = [];
  const resident: number[] = [];
  await trainer.fit(training, {
    epochs: 1000,
    maxSteps: 1000,
    callbacks: [
      {
        onStep({ step, batch }) {
          // The same batch of each epoch, so that the same batches are in flight.
          if (batch === 4) {
            live.push(memory().liveBytes);
          }
          if (step === 200 || step === 1000) {
            resident.push(process.memoryUsage().rss);
          }
        },
      },
    ],
  });
  expect(live.length).toBeGreaterThan(100);
  expect(new Set(live.slice(1)).size).toBe(1);
  const [early = 0, late = 0] = resident;
  expect(late - early).toBeLessThan(24 * 2 ** 20);
});

test('nothing of a run stays alive but the weights and the optimizer', async () => {
  const trainer = smallTrainer();
  const before = memory();
  const { training, validation } = smallLoaders();
  await trainer.fit(training, { epochs: 2, validation });
  await synchronize();
  expect(memory().liveTensors).toBe(before.liveTensors);
  expect(memory().liveBytes).toBe(before.liveBytes);
});
