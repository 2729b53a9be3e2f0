import { EvenkeelError } from '../errors';
import {
  type ActivationName,
  type BinaryLayerOptions,
  Identity,
  init,
  type Module,
  type Normalization,
  type NormalizationName,
  NormalizedLayers,
} from '../nn';
import { checkInteger } from '../nn/check';
import { checkOptions, optionNames, show } from '../options';
import type { ActivationGradient, PaddingValue, WeightGradient } from '../tensor';
import type { DownsampleKind } from './binary-shortcuts';

/** Options that all binary networks share. */
export interface BinaryNetworkOptions {
  /** Channels of the first stage; the others are in proportion. Default: the published number. */
  readonly width?: number;
  /** Number of classes. Default 1000 with the stem for ImageNet, 10 with that for CIFAR. */
  readonly classes?: number;
  /** Channels of the images. Default 3. */
  readonly inChannels?: number;
  /**
   * The first convolution: `'imagenet'` for 224×224, with a large step; `'cifar'` for small images, with step 1 and no pooling. Default:
   * the data the network was published for.
   */
  readonly stem?: 'imagenet' | 'cifar';
  /**
   * Normalization: `'batch'` behind every convolution; `'bn-free'`, scaled weight standardization with gains, residual scaling α and β, and
   * adaptive gradient clipping (Chen et al. 2021, "BNN − BN = ?"); `'none'`; or another method that acts behind weights. Single
   * ingredients are options of the method: `normalizations['bn-free']({ standardize: false })`, `{ alpha: 1, beta: 'none' }`,
   * `{ clipping: 0 }`. Default `'batch'`.
   */
  readonly norm?: NormalizationName | Normalization;
  /** Binary weights, or float weights for the first of two steps of training; the parameters are the same. Default `'binary'`. */
  readonly weights?: 'binary' | 'float';
  /** The 1×1 convolutions on shortcuts. Default: `'float'`, as published, for all but XNOR-Net. */
  readonly downsample?: DownsampleKind;
  /** What 3×3 convolutions of signs see around the map: nothing that counts, +1 or −1. Default `'zero'`, as papers train. */
  readonly padding?: PaddingValue;
  /** What stands in for the gradient of the sign of activations. Default `'approxSign'`; XNOR-Net `'steClip'`. */
  readonly activationGradient?: ActivationGradient;
  /** The bound of `steClip`, the β of `swishSign` or the δ of `sigmoidMask`. */
  readonly activationGradientParameter?: number;
  /** How the gradient passes from a scaled sign to its latent weight. Default `'clip'`; XNOR-Net `'scaleAndClip'`. */
  readonly weightGradient?: WeightGradient;
  /**
   * First latent weights: `'centred'`, even over ±1/√fanIn; `'reference'`, even over 0 to 0.001 as in the code of Chen et al., where
   * the weights of a first step replace them: from scratch, and without standardization, all signs are the same. Float weights are
   * always centred. Default `'centred'`.
   */
  readonly latentInitialization?: 'centred' | 'reference';
}

const binaryNetworkOptions = optionNames<BinaryNetworkOptions>({
  width: true,
  classes: true,
  inChannels: true,
  stem: true,
  norm: true,
  weights: true,
  downsample: true,
  padding: true,
  activationGradient: true,
  activationGradientParameter: true,
  weightGradient: true,
  latentInitialization: true,
});

/** What all binary layers of a network have in common. */
export type LatentOptions = Pick<BinaryLayerOptions, 'binaryWeights' | 'weightInitializer' | 'weightGradient'>;

/** What the blocks of a network have in common. */
export interface BinaryBuild {
  /** Makes the layers with the network's method. */
  readonly build: NormalizedLayers;
  /** Options of every layer with latent weights. */
  readonly latent: LatentOptions;
  /** Options of the signs of activations. */
  readonly signs: Pick<BinaryLayerOptions, 'activationGradient' | 'activationGradientParameter'>;
  /** What lies around maps. */
  readonly padding: PaddingValue;
  /** The convolution on shortcuts. */
  readonly downsample: DownsampleKind;
}

const choices: Readonly<Partial<Record<keyof BinaryNetworkOptions, readonly string[]>>> = {
  stem: ['imagenet', 'cifar'],
  weights: ['binary', 'float'],
  downsample: ['float', 'binary-weight'],
  padding: ['zero', 'plus', 'minus'],
  weightGradient: ['clip', 'scaleAndClip', 'identity'],
  latentInitialization: ['centred', 'reference'],
};

/** Checks the options of a binary network. @throws EvenkeelError `INVALID_ARGUMENT` */
export function checkBinaryOptions(owner: string, options: BinaryNetworkOptions): BinaryNetworkOptions {
  checkOptions(owner, options, binaryNetworkOptions);
  for (const [name, allowed] of Object.entries(choices)) {
    const value = options[name as keyof BinaryNetworkOptions];
    if (value !== undefined && !allowed.includes(String(value))) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `${owner}: ${name} is ${show(value)}; give '${allowed.join("' or '")}'`,
      );
    }
  }
  for (const name of ['width', 'classes', 'inChannels'] as const) {
    if (options[name] !== undefined) checkInteger(owner, name, options[name], 1);
  }
  return options;
}

/** What the blocks of a network with these options have in common. */
export function binaryBuild(options: BinaryNetworkOptions): BinaryBuild {
  const { weights = 'binary', latentInitialization, activationGradientParameter: parameter } = options;
  const { activationGradient = 'approxSign', weightGradient = 'clip' } = options;
  const reference = weights === 'binary' && latentInitialization === 'reference';
  return {
    build: new NormalizedLayers({ norm: options.norm ?? 'batch', activation: 'none' }),
    latent: {
      binaryWeights: weights === 'binary',
      weightGradient,
      ...(reference ? { weightInitializer: init.uniform(0, 1e-3) } : {}),
    },
    signs: {
      activationGradient,
      ...(parameter === undefined ? {} : { activationGradientParameter: parameter }),
    },
    padding: options.padding ?? 'zero',
    downsample: options.downsample ?? 'float',
  };
}

/** The method's normalization without an activation; `undefined` if it has none. */
export function normBehind(build: NormalizedLayers, channels: number): Module | undefined {
  const activation: ActivationName = 'none';
  const norm = build.unit({ channels, activation });
  return norm instanceof Identity ? undefined : norm;
}
