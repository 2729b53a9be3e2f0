/** Whole training steps of ResNet-20 on 32×32 images: forward, backward, SGD with momentum and weight decay. */
import { models, nn, optim, randn, scope, synchronize, tensor } from '../src';
import { type Case, type CompareOptions, type Comparison, compare } from './compare';

const torchNames = { batch: 'batch', group: 'group', frn: 'filter-response' } as const;

function step(norm: keyof typeof torchNames, batch: number): Case {
  const model = models.create('resnet20', { norm, classes: 10 });
  const optimizer = new optim.SGD(optim.parameterGroups(model, { weightDecay: 1e-4 }), {
    learningRate: 1e-4,
    momentum: 0.9,
  });
  const loss = new nn.CrossEntropyLoss();
  const images = randn([batch, 32, 32, 3]);
  const labels = tensor(Int32Array.from({ length: batch }, (_, index) => index % 10));
  return {
    name: `ResNet-20 training step, ${norm}, batch ${batch}`,
    amount: batch,
    unit: 'images/s',
    torch: { work: 'resnet20', norm: torchNames[norm], batch },
    ours: async () => {
      scope(() => {
        model.zeroGrad();
        loss.call(model.call(images), labels).backward();
        optimizer.step();
      });
      await synchronize();
    },
    dispose: () => {
      for (const held of [model, images, labels]) held.dispose();
    },
  };
}

export function run(options: CompareOptions): Promise<Comparison[]> {
  const cases: Case[] = [];
  for (const norm of ['batch', 'group', 'frn'] as const)
    for (const batch of [2, 32, 128]) cases.push(step(norm, batch));
  return compare(cases, options);
}
