import { checkOptions, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { sigmoid } from '../../tensor/operations/activation';
import { globalAvgPool } from '../../tensor/operations/pooling';
import { checkInteger, formatOptions } from '../check';
import { Module } from '../module';
import { type ActivationName, createActivation } from './activations';
import { Linear } from './linear';

/** Options of {@link SqueezeExcitation}. */
export interface SqueezeExcitationOptions {
  /** Channels of the input and the output. */
  readonly channels: number;
  /** Features between the two linear layers. Default: a sixteenth of the channels, at least 1. */
  readonly hidden?: number;
  /** Activation between the two linear layers. Default `'relu'`. */
  readonly activation?: ActivationName;
}

const squeezeExcitationOptions = optionNames<SqueezeExcitationOptions>({
  channels: true,
  hidden: true,
  activation: true,
});

/**
 * Multiplies each channel with a number between 0 and 1 that depends on the means of all channels (Hu, Shen and Sun 2018):
 * `x · sigmoid(W₂ · activation(W₁ · mean(x) + b₁) + b₂)`. `[batch, height, width, channels]` to the same shape.
 */
export class SqueezeExcitation extends Module {
  readonly reduce: Linear;
  readonly activate: Module;
  readonly expand: Linear;

  constructor(options: SqueezeExcitationOptions) {
    super();
    checkOptions('SqueezeExcitation', options, squeezeExcitationOptions);
    const channels = checkInteger('SqueezeExcitation', 'channels', options.channels, 1);
    const usual = Math.max(1, Math.floor(channels / 16));
    const hidden = checkInteger('SqueezeExcitation', 'hidden', options.hidden ?? usual, 1);
    this.reduce = new Linear({ inFeatures: channels, outFeatures: hidden });
    this.activate = createActivation(options.activation ?? 'relu', hidden);
    this.expand = new Linear({ inFeatures: hidden, outFeatures: channels });
  }

  override forward(input: Tensor): Tensor {
    const hidden = this.activate.call(this.reduce.call(globalAvgPool(input)));
    const gate = sigmoid(this.expand.call(hidden));
    return input.mul(gate.reshape([gate.shape[0] ?? 0, 1, 1, gate.shape[1] ?? 0]));
  }

  override describe(): string {
    return formatOptions({ channels: this.reduce.inFeatures, hidden: this.reduce.outFeatures });
  }
}
