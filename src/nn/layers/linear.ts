import { checkOptions, type OptionNames, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { linear } from '../../tensor/operations/matmul';
import { checkInteger, formatOptions } from '../check';
import { defaultBias, defaultWeight, type Initializer } from '../init';
import { initialValue } from '../initial-value';
import { Module } from '../module';
import { Parameter } from '../parameter';

/** Options of {@link Linear}. */
export interface LinearOptions {
  /** Features of the input. */
  readonly inFeatures: number;
  /** Features of the output. */
  readonly outFeatures: number;
  /** Whether a learned number is added to each output feature. Default `true`. */
  readonly bias?: boolean;
  /** First value of the weight. Default: even over `±1 / √inFeatures`, as in PyTorch. */
  readonly weightInitializer?: Initializer;
  /** First value of the bias. Default: even over `±1 / √inFeatures`, as in PyTorch. */
  readonly biasInitializer?: Initializer;
}

/** For the layers that extend this one. */
export const linearNames: OptionNames<LinearOptions> = {
  inFeatures: true,
  outFeatures: true,
  bias: 'boolean',
  weightInitializer: true,
  biasInitializer: true,
};
const linearOptions = optionNames<LinearOptions>(linearNames);

/**
 * Fully connected layer: `input · weight + bias`.
 *
 * Input `[..., inFeatures]`, output `[..., outFeatures]`; the weight is `[inFeatures, outFeatures]`.
 */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;
  /** Features of the input. */
  readonly inFeatures: number;
  /** Features of the output. */
  readonly outFeatures: number;

  constructor(options: LinearOptions) {
    super();
    checkOptions('Linear', options, linearOptions);
    this.inFeatures = checkInteger('Linear', 'inFeatures', options.inFeatures, 1);
    this.outFeatures = checkInteger('Linear', 'outFeatures', options.outFeatures, 1);
    const shape = [this.inFeatures, this.outFeatures];
    this.weight = new Parameter(
      initialValue('Linear', 'weightInitializer', options.weightInitializer ?? defaultWeight, shape),
    );
    const { biasInitializer = defaultBias(shape) } = options;
    this.bias =
      (options.bias ?? true)
        ? new Parameter(initialValue('Linear', 'biasInitializer', biasInitializer, [this.outFeatures]), {
            decay: false,
          })
        : undefined;
  }

  override forward(input: Tensor): Tensor {
    return linear(input, this.weight, this.bias);
  }

  override multiplyAdds(_input: Tensor, output: Tensor): number {
    return output.size * this.inFeatures;
  }

  override describe(): string {
    return formatOptions({
      inFeatures: this.inFeatures,
      outFeatures: this.outFeatures,
      bias: this.bias === undefined ? false : undefined,
    });
  }
}
