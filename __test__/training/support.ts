import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as data from '../../src/data';
import * as nn from '../../src/nn';
import * as optim from '../../src/optim';
import { manualSeed, type Tensor } from '../../src/tensor';
import { Trainer, type TrainerOptions } from '../../src/training';

/** A folder that is removed after each test. */
export function temporaryFolder(): { path(...parts: string[]): string } {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'evenkeel-training-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  return { path: (...parts) => join(folder, ...parts) };
}

/** A small network with everything that makes resuming hard: running statistics, dropout, momentum. */
export function smallNetwork(seed = 1): nn.Module {
  manualSeed(seed);
  return new nn.Sequential([
    new nn.Conv2d({ inChannels: 1, outChannels: 4, kernelSize: 3, padding: 1 }),
    new nn.BatchNorm({ channels: 4 }),
    new nn.ReLU(),
    new nn.MaxPool2d({ kernelSize: 2 }),
    new nn.Dropout({ rate: 0.2 }),
    new nn.Flatten(),
    new nn.Linear({ inFeatures: 64, outFeatures: 10 }),
  ]);
}

export function smallTrainer(options: Partial<TrainerOptions> & { readonly weights?: number } = {}): Trainer {
  const { weights = 1, ...rest } = options;
  const model = options.model ?? smallNetwork(weights);
  const optimizer = new optim.SGD(model.parameters(), { learningRate: 0.05, momentum: 0.9, weightDecay: 1e-3 });
  const schedule = optim.schedules.cosine({ learningRate: 0.05, steps: 40 });
  return new Trainer({ model, optimizer, schedule, seed: 7, ...rest });
}

/** SHA-256 over the bits of every parameter, buffer and optimizer state. */
export async function hashOf(trainer: Trainer): Promise<string> {
  const hash = createHash('sha256');
  const tensors: [string, Tensor][] = [
    ...trainer.model.stateDict(),
    ...(trainer.optimizer.stateDict().tensors as ReadonlyMap<string, Tensor>),
  ];
  for (const [name, tensor] of tensors) {
    const values = await tensor.data();
    hash.update(name).update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest('hex');
}

/** The first digits, shuffled and augmented, and the next ones to validate on. */
export function smallLoaders({ batchSize = 16, images = 100 } = {}) {
  const { train, test } = data.digits();
  return {
    training: new data.DataLoader(data.take(train, images), {
      batchSize,
      shuffle: true,
      seed: 3,
      augment: { crop: 1 },
    }),
    validation: new data.DataLoader(data.take(test, 50), { batchSize: 20 }),
  };
}
