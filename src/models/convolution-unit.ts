import type { ActivationName, Conv2dOptions, Module, NormalizedLayers, WeightRole } from '../nn';
import { Sequential } from '../nn';

/** Options of {@link convolutionUnit}: those of the convolution, and what follows it. */
export interface ConvolutionUnitOptions extends Conv2dOptions {
  /** What the convolution is for. Default `'body'`. */
  readonly role?: WeightRole;
  /** Activation; `'none'` for a normalization alone. Default: that of the model. */
  readonly activation?: ActivationName;
  /** Whether the output is a map with more than one position. Default `true`. */
  readonly spatial?: boolean;
}

/** A convolution (`conv`) with normalization and activation behind it (`norm`). */
export function convolutionUnit(build: NormalizedLayers, options: ConvolutionUnitOptions): Module {
  const { role = 'body', activation, spatial = true, ...conv } = options;
  const site = { channels: conv.outChannels, spatial };
  return new Sequential({
    conv: build.conv2d(conv, role),
    norm: build.unit(activation === undefined ? site : { ...site, activation }),
  });
}

/** `channels` of the published network in one whose first layer has `width` channels instead of `published`; at least 1. */
export function inProportion(channels: number, width: number, published: number): number {
  return Math.max(1, Math.round((channels * width) / published));
}
