import type { OptionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { activationWords, type FusedActivation } from '../../tensor/operations/fused-activation';
import { checkFinite, checkInteger, checkRange } from '../check';
import { constant, ones, zeros } from '../init';
import { Module } from '../module';
import { Parameter } from '../parameter';

/** Options that all normalization layers share. */
export interface NormalizationLayerOptions {
  /** Channels of the input: the size of its last axis. */
  readonly channels: number;
  /** Added to the variance (or mean square) before the root. Default 1e-5. */
  readonly epsilon?: number;
  /** Whether each channel gets a learned scale `gamma` and shift `beta`. Default `true`. */
  readonly affine?: boolean;
  /** First value of `gamma`; 0 starts a residual branch at nothing. Default 1. */
  readonly initialScale?: number;
  /** Activation applied to the result in the same pass. Default `'none'`. */
  readonly activation?: FusedActivation;
}

/** A normalized value x and the shortcut s that is added to it before the activation. */
export type ResidualPair = readonly [branch: Tensor, shortcut: Tensor];

/** For the layers that extend this one. */
export const normalizationLayerNames: OptionNames<NormalizationLayerOptions> = {
  channels: true,
  epsilon: true,
  affine: 'boolean',
  initialScale: true,
  activation: true,
};

/** What all normalization layers share: scale, shift, epsilon and the fused activation. */
export abstract class NormalizationLayer<Input = Tensor> extends Module<Input, Tensor> {
  /** Learned scale `[channels]`, without weight decay. */
  readonly gamma: Parameter | undefined;
  /** Learned shift `[channels]`, without weight decay. */
  readonly beta: Parameter | undefined;
  /** Size of the last axis of the input. */
  readonly channels: number;
  /** Added to the variance (or mean square) before the root. */
  readonly epsilon: number;
  /** Activation applied to the result in the same pass. */
  readonly activation: FusedActivation;

  constructor(owner: string, options: NormalizationLayerOptions, shifted = true) {
    super();
    this.channels = checkInteger(owner, 'channels', options.channels, 1);
    this.epsilon = checkRange(owner, 'epsilon', options.epsilon ?? 1e-5, 0, Number.POSITIVE_INFINITY);
    this.activation = options.activation ?? 'none';
    activationWords(owner, this.activation);
    const affine = options.affine ?? true;
    const scale = checkFinite(owner, 'initialScale', options.initialScale ?? 1);
    const shape = [this.channels];
    this.gamma = affine ? new Parameter((scale === 1 ? ones : constant(scale))(shape), { decay: false }) : undefined;
    this.beta = affine && shifted ? new Parameter(zeros(shape), { decay: false }) : undefined;
  }
}
