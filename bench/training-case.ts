/** Whole training steps: forward, backward, SGD with momentum and weight decay. */
import { models, nn, optim, randn, scope, synchronize, type Tensor, tensor } from '../src';
import type { Case } from './compare';
import type { TorchRequest } from './peers/torch';

const torchNorms = { batch: 'batch', group: 'group', frn: 'filter-response' } as const;
type Norm = keyof typeof torchNorms;

interface Training {
  readonly name: string;
  readonly model: nn.Module<Tensor, Tensor>;
  readonly batch: number;
  readonly size: number;
  readonly torch: TorchRequest;
}

function trainingStep({ name, model, batch, size, torch }: Training): Case {
  const optimizer = new optim.SGD(optim.parameterGroups(model, { weightDecay: 1e-4 }), {
    learningRate: 1e-4,
    momentum: 0.9,
  });
  const loss = new nn.CrossEntropyLoss();
  const images = randn([batch, size, size, 3]);
  const labels = tensor(Int32Array.from({ length: batch }, (_, index) => index % 10));
  return {
    name: `${name}, batch ${batch}`,
    amount: batch,
    unit: 'images/s',
    torch,
    network: true,
    ours: async () => {
      scope(() => {
        optimizer.zeroGrad();
        loss.call(model.call(images), labels).backward();
        optimizer.step();
      });
      await synchronize();
    },
    dispose: () => {
      optimizer.dispose();
      for (const held of [model, images, labels]) held.dispose();
    },
  };
}

/** ResNet-20 on 32×32 images. */
export function resnet20(norm: Norm, batch: number): Case {
  const model = models.create('resnet20', { norm, classes: 10 });
  const torch = { work: 'resnet20', norm: torchNorms[norm], batch };
  return trainingStep({ name: `ResNet-20, ${norm}`, model, batch, size: 32, torch });
}

/** ResNet-18 on images of the size of ImageNet, eight at a time. */
export function resnet18(norm: Norm): Case {
  const model = models.create('resnet18', { norm, classes: 1000 });
  const torch = { work: 'resnet18', norm: torchNorms[norm], batch: 8 };
  return trainingStep({ name: `ResNet-18 at 224², ${norm}`, model, batch: 8, size: 224, torch });
}

/** Three small convolutions on one small image: nearly all of it is dispatch. */
export function tiny(): Case {
  const channels = [3, 8, 8, 8];
  const layers = channels
    .slice(1)
    .flatMap((outChannels, index) => [
      new nn.Conv2d({ inChannels: channels[index]!, outChannels, kernelSize: 3, padding: 1, bias: false }),
      new nn.BatchNorm({ channels: outChannels, activation: 'relu' }),
    ]);
  const head = [new nn.GlobalAvgPool(), new nn.Linear({ inFeatures: 8, outFeatures: 10 })];
  const model = new nn.Sequential([...layers, ...head]);
  return trainingStep({ name: 'three layers of 8 channels at 8²', model, batch: 1, size: 8, torch: { work: 'tiny' } });
}
