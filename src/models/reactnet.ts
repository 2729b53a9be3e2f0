import { BinaryNetwork, binaryStages } from './binary-network';
import { type BinaryNetworkOptions, checkBinaryOptions } from './binary-options';

/**
 * ReActNet of the form of ResNet-18 (Liu et al. 2020, the one "based on Bi-Real Net"): 16 blocks of one binary 3×3 convolution with RSign
 * in front and RPReLU behind the sum, in four stages of 64 (`width`) to 512 channels.
 *
 * On 224×224×3: 10,985,472 binary weights, 1.68 G binary and 138 M float multiply-adds. With the stem for CIFAR on 32×32×3: 547 M binary
 * and 8.1 M float.
 */
export function reactNet18(options: BinaryNetworkOptions = {}): BinaryNetwork {
  const { width = 64 } = checkBinaryOptions('reactNet18', options);
  return new BinaryNetwork(
    {
      stem: 'imagenet',
      stemKernel: 7,
      stemPool: true,
      stemChannels: width,
      headChannels: 8 * width,
      blocks: (binary) => binaryStages(binary, { width, stages: 4, perStage: 4, shifts: true }),
    },
    options,
  );
}

/**
 * A small ReActNet for CIFAR, of the form of ResNet-20: 18 blocks of one binary 3×3 convolution in three stages of 16 (`width`), 32 and 64
 * channels. 267,264 binary weights; 40 M binary multiply-adds on 32×32×3.
 */
export function reactNet20(options: BinaryNetworkOptions = {}): BinaryNetwork {
  const { width = 16 } = checkBinaryOptions('reactNet20', options);
  return new BinaryNetwork(
    {
      stem: 'cifar',
      stemKernel: 7,
      stemPool: true,
      stemChannels: width,
      headChannels: 4 * width,
      blocks: (binary) => binaryStages(binary, { width, stages: 3, perStage: 6, shifts: true }),
    },
    options,
  );
}
