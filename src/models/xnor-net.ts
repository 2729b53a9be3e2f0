import { BinaryNetwork, binaryStages } from './binary-network';
import { type BinaryNetworkOptions, checkBinaryOptions } from './binary-options';

/**
 * XNOR-Net of the form of ResNet-18 (Rastegari et al. 2016), as comparisons of BN-free networks train it (Ma et al. 2024): 16 blocks of one
 * binary 3×3 convolution, the straight-through gradient of the sign, the weight gradient of the paper's equation 11, binary weights on
 * shortcuts, and a PReLU behind the stem and in front of the pooling. Without the paper's scaling of activations, which its authors found
 * to be worth less than 1 %.
 */
export function xnorNet18(options: BinaryNetworkOptions = {}): BinaryNetwork {
  const { width = 64 } = checkBinaryOptions('xnorNet18', options);
  return new BinaryNetwork(
    {
      stem: 'imagenet',
      stemKernel: 7,
      stemPool: true,
      stemChannels: width,
      edgeActivations: true,
      headChannels: 8 * width,
      blocks: (binary) => binaryStages(binary, { width, stages: 4, perStage: 4, shifts: false }),
    },
    { activationGradient: 'steClip', weightGradient: 'scaleAndClip', downsample: 'binary-weight', ...options },
  );
}
