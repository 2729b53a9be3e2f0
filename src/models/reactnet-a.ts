import { BinaryBlock } from './binary-block';
import { BinaryNetwork } from './binary-network';
import { type BinaryBuild, type BinaryNetworkOptions, checkBinaryOptions } from './binary-options';
import { inProportion } from './convolution-unit';

/** Output channels of the stem and of each block (Liu et al. 2020, as MobileNet). */
const published: readonly number[] = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024];

/**
 * The 13 blocks of two sums each: a binary 3×3 convolution that keeps the channels and makes the step, then a binary 1×1 convolution
 * that may double them. Its filters are those of the paper's two convolutions side by side.
 */
function createBlocks(binary: BinaryBuild, channels: readonly number[]): BinaryBlock[] {
  let stage = -1;
  let block = 0;
  return channels.slice(1).flatMap((outChannels, index) => {
    const inChannels = channels[index] ?? 0;
    // The step is made wherever the channels double, but for the first block.
    const transition = published[index] !== published[index + 1] && index > 0;
    const stride = transition ? 2 : 1;
    block = transition || index === 0 ? 0 : block + 1;
    stage += block === 0 ? 1 : 0;
    const site = { binary, stage, block, transition, shortcut: 'plain' } as const;
    return [
      new BinaryBlock({ ...site, half: 'first', inChannels, outChannels: inChannels, kernelSize: 3, stride }),
      new BinaryBlock({ ...site, half: 'second', inChannels, outChannels, kernelSize: 1 }),
    ];
  });
}

/**
 * ReActNet-A (Liu et al. 2020): the form of MobileNet, with full binary 3×3 convolutions in place of depthwise ones, and shortcuts without
 * weights. `blocks` holds two {@link BinaryBlock}s for each of the 13 published ones.
 *
 * On 224×224×3: 28.25 M binary weights, 4.82 G binary and 11.9 M float multiply-adds. The stem for CIFAR has step 1 (393 M binary
 * multiply-adds on 32×32×3, a last map of 2×2).
 */
export function reactNetA(options: BinaryNetworkOptions = {}): BinaryNetwork {
  const { width = 32 } = checkBinaryOptions('reactNetA', options);
  const channels = published.map((count) => inProportion(count, width, 32));
  return new BinaryNetwork(
    {
      stem: 'imagenet',
      stemKernel: 3,
      stemPool: false,
      stemChannels: width,
      headChannels: channels.at(-1) ?? width,
      blocks: (binary) => createBlocks(binary, channels),
    },
    options,
  );
}
