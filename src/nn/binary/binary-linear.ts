import { checkOptions, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { binaryLinear } from '../../tensor/operations/binary';
import { linear } from '../../tensor/operations/matmul';
import { checkInteger, formatOptions } from '../check';
import { BinaryLayer, type BinaryLayerOptions, binaryLayerNames } from './binary-layer';

/** Options of {@link BinaryLinear}. */
export interface BinaryLinearOptions extends BinaryLayerOptions {
  /** Features of the input. */
  readonly inFeatures: number;
  /** Features of the output. */
  readonly outFeatures: number;
}

const binaryLinearOptions = optionNames<BinaryLinearOptions>({
  inFeatures: true,
  outFeatures: true,
  ...binaryLayerNames,
});

/**
 * Fully connected layer of signs by signs: `gain · mean|W| · (sign(input) · sign(W))` for each output, computed on packed bits, without
 * a bias. Input `[..., inFeatures]`, output `[..., outFeatures]`; the latent weight is `[inFeatures, outFeatures]`. See
 * {@link BinaryConv2d}.
 */
export class BinaryLinear extends BinaryLayer {
  /** Features of the input. */
  readonly inFeatures: number;
  /** Features of the output. */
  readonly outFeatures: number;

  constructor(options: BinaryLinearOptions) {
    checkOptions('BinaryLinear', options, binaryLinearOptions);
    const inFeatures = checkInteger('BinaryLinear', 'inFeatures', options.inFeatures, 1);
    const outFeatures = checkInteger('BinaryLinear', 'outFeatures', options.outFeatures, 1);
    super('BinaryLinear', [inFeatures, outFeatures], options);
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
  }

  override forward(input: Tensor): Tensor {
    if (this.binaryWeights) {
      const { weight, options } = this.binaryArguments();
      return binaryLinear(input, weight, options);
    }
    const { signs, weight } = this.floatArguments(input);
    return linear(signs, weight);
  }

  override multiplyAdds(_input: Tensor, output: Tensor): number {
    return output.size * this.inFeatures;
  }

  override describe(): string {
    return formatOptions({
      inFeatures: this.inFeatures,
      outFeatures: this.outFeatures,
      ...this.describeBinary(),
    });
  }
}
