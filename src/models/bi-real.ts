import { BinaryNetwork, binaryStages } from './binary-network';
import { type BinaryNetworkOptions, checkBinaryOptions } from './binary-options';

/**
 * Bi-Real Net of 18 layers (Liu et al. 2018): 16 blocks of one binary 3×3 convolution with a shortcut of real values around each, and no
 * activation but the sign. Weights and multiply-adds as of {@link reactNet18}.
 */
export function biRealNet18(options: BinaryNetworkOptions = {}): BinaryNetwork {
  const { width = 64 } = checkBinaryOptions('biRealNet18', options);
  return new BinaryNetwork(
    {
      stem: 'imagenet',
      stemKernel: 7,
      stemPool: true,
      stemChannels: width,
      headChannels: 8 * width,
      blocks: (binary) => binaryStages(binary, { width, stages: 4, perStage: 4, shifts: false }),
    },
    options,
  );
}
