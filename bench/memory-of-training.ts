/** `memory-of-training.ts NORM BATCH STEPS`: prints the bytes by which training ResNet-20 raises this process's peak of resident memory. */
import { readFileSync, writeFileSync } from 'node:fs';
import { models, nn, optim, randn, scope, synchronize, tensor } from '../src';

/** A field of /proc/self/status, in bytes. */
function status(field: 'VmRSS' | 'VmHWM'): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(match?.[1]) * 1024;
}

async function main([norm = 'batch', batchText, stepsText]: readonly string[]): Promise<void> {
  const batch = Number(batchText);
  // The library is loaded and its threads run before the count begins, as PyTorch's are.
  await synchronize();
  writeFileSync('/proc/self/clear_refs', '5');
  const before = status('VmRSS');
  const model = models.create('resnet20', { norm: norm as nn.NormalizationName, classes: 10 });
  const optimizer = new optim.SGD(model.parameters(), { learningRate: 1e-4, momentum: 0.9 });
  const loss = new nn.CrossEntropyLoss();
  const images = randn([batch, 32, 32, 3]);
  const labels = tensor(new Int32Array(batch));
  for (let step = 0; step < Number(stepsText); step++) {
    scope(() => {
      model.zeroGrad();
      loss.call(model.call(images), labels).backward();
      optimizer.step();
    });
    await synchronize();
  }
  console.log(status('VmHWM') - before);
}

void main(process.argv.slice(2));
