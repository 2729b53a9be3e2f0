/** Single layers, forward and backward. */
import { nn, randn, scope, synchronize } from '../src';
import { type Case, type CompareOptions, type Comparison, compare } from './compare';
import { type ConvolutionShape, convolution } from './convolution-case';

const norms = {
  batch: (channels: number) => new nn.BatchNorm({ channels, activation: 'relu' }),
  group: (channels: number) => new nn.GroupNorm({ channels, groups: Math.min(32, channels >> 1), activation: 'relu' }),
  layer: (channels: number) => new nn.LayerNorm({ channels, activation: 'relu' }),
  'filter-response': (channels: number) => new nn.FilterResponseNorm({ channels }),
} as const;

function norm(name: keyof typeof norms, shape: readonly [number, number, number, number]): Case {
  const layer = norms[name](shape[3]);
  const input = randn(shape);
  input.requiresGrad = true;
  const gradient = randn(shape);
  return {
    name: `${name} norm + activation (${shape.join(', ')})`,
    unit: 'GB/s',
    // The least that must move out of cache: x read twice and y written, then x and dy read twice and dx written.
    amount: 8 * 4 * shape.reduce((product, length) => product * length, 1),
    torch: { work: 'norm', norm: name, shape },
    ours: async () => {
      scope(() => {
        layer.zeroGrad();
        input.grad?.dispose();
        input.grad = undefined;
        layer.call(input).backward(gradient);
      });
      await synchronize();
    },
    dispose: () => {
      for (const held of [layer, input, gradient]) held.dispose();
    },
  };
}

const convolutions: readonly ConvolutionShape[] = [
  { batch: 64, size: 32, inChannels: 16, outChannels: 16 },
  { batch: 64, size: 16, inChannels: 32, outChannels: 32 },
  { batch: 64, size: 8, inChannels: 64, outChannels: 64 },
  { batch: 8, size: 56, inChannels: 64, outChannels: 64 },
  { batch: 8, size: 28, inChannels: 128, outChannels: 128 },
  { batch: 8, size: 14, inChannels: 256, outChannels: 256 },
  { batch: 8, size: 7, inChannels: 512, outChannels: 512 },
  { batch: 8, size: 56, inChannels: 64, outChannels: 256, kernel: 1 },
  { batch: 8, size: 56, inChannels: 256, outChannels: 64, kernel: 1 },
  { batch: 64, size: 32, inChannels: 16, outChannels: 32, stride: 2 },
  { batch: 8, size: 56, inChannels: 64, outChannels: 128, stride: 2 },
  { batch: 8, size: 32, inChannels: 128, outChannels: 128, groups: 128 },
  { batch: 64, size: 32, inChannels: 3, outChannels: 16, inputGradient: false },
  { batch: 8, size: 224, inChannels: 3, outChannels: 64, kernel: 7, stride: 2, inputGradient: false },
];

const activations = [
  [64, 32, 32, 64],
  [8, 56, 56, 256],
  [2, 56, 56, 64],
] as const;

function* cases(): Generator<Case> {
  for (const shape of convolutions) yield convolution(shape);
  for (const shape of activations) {
    for (const name of ['batch', 'group', 'layer', 'filter-response'] as const) yield norm(name, shape);
  }
}

export function run(options: CompareOptions): Promise<Comparison[]> {
  return compare(cases(), options);
}
