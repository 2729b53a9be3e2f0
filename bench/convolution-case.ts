import { nn, randn, scope, synchronize } from '../src';
import type { Case } from './compare';

/** A convolution of square images; padding is half the kernel. */
export interface ConvolutionShape {
  readonly batch: number;
  readonly size: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernel?: number;
  readonly stride?: number;
  readonly groups?: number;
  /** Whether the gradient of the input is wanted; a first layer's is not. */
  readonly inputGradient?: boolean;
}

/** Its forward pass and its gradients. */
export function convolution(shape: ConvolutionShape): Case {
  const { batch, size, inChannels, outChannels, kernel = 3, stride = 1, groups = 1, inputGradient = true } = shape;
  const padding = kernel >> 1;
  const layer = new nn.Conv2d({ inChannels, outChannels, kernelSize: kernel, stride, padding, groups, bias: false });
  const input = randn([batch, size, size, inChannels]);
  input.requiresGrad = inputGradient;
  const outSize = Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const gradient = randn([batch, outSize, outSize, outChannels]);
  const multiplyAdds = (batch * outSize ** 2 * outChannels * inChannels * kernel ** 2) / groups;
  const details = [stride > 1 ? ` stride ${stride}` : '', groups > 1 ? ` groups ${groups}` : ''].join('');
  return {
    name: `conv ${kernel}×${kernel} ${inChannels}→${outChannels} @${size}² N${batch}${details}`,
    unit: 'GFLOP/s',
    amount: 2 * multiplyAdds * (inputGradient ? 3 : 2),
    torch: {
      work: 'convolution',
      batch,
      height: size,
      width: size,
      inChannels,
      outChannels,
      kernel,
      stride,
      groups,
      inputGradient,
    },
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
