import type { BinaryLayerOptions } from '../binary';
import type { ActivationName } from '../layers/activations';
import type { ResidualPair } from '../layers/affine';
import type { Conv2dOptions } from '../layers/conv2d';
import type { LinearOptions } from '../layers/linear';
import type { AnyModule, Module, Parameter } from '../module';
import type { BuildContext } from './context';
import type { ResidualSum } from './residual-sum';

/** What a weight layer is for. */
export type WeightRole =
  /** The first layer: its input is data. */
  | 'stem'
  /** Any layer inside the network. */
  | 'body'
  /** A projection on a residual shortcut. */
  | 'shortcut'
  /** The last layer: its output are logits. */
  | 'classifier';

/** Where a weight layer stands, and the options that the model gives it. */
export type WeightSite = {
  /** What the layer is for. */
  readonly role: WeightRole;
  /** What was built before. */
  readonly context: BuildContext;
} & (
  | { readonly kind: 'conv2d'; readonly options: Conv2dOptions }
  | { readonly kind: 'linear'; readonly options: LinearOptions }
);

/** Where an activation stands: between two weight layers, or at the end of a residual block. */
export interface ActivationSite {
  /** Channels, or features, of the value. */
  readonly channels: number;
  /** Whether the value is a map with more than one position for each channel; `false` for features. */
  readonly spatial: boolean;
  /** The activation that the model asks for. */
  readonly activation: ActivationName;
  /**
   * Whether a shortcut is added between the normalization and the activation, as at the end of a block of ResNet v1:
   * `activation(norm(x) + shortcut)`.
   */
  readonly sum: boolean;
  /** What was built before. */
  readonly context: BuildContext;
}

/** Where a residual addition stands. */
export interface ResidualSite {
  /** Channels of the sum. */
  readonly channels: number;
  /** Number of the stage (blocks with the same map size), from 0. */
  readonly stage: number;
  /** Number of the block in its stage, from 0. */
  readonly block: number;
  /** Whether the block changes the shape, so that its shortcut is more than the identity. */
  readonly transition: boolean;
  /** Whether the block's branch is one binary layer. Default `false`. */
  readonly binary?: boolean;
  /** For blocks of two sums (ReActNet-A), which of the two this is; `transition` and `block` are those of the whole block. */
  readonly half?: 'first' | 'second';
  /** What was built before. */
  readonly context: BuildContext;
}

/** What a method puts in front of an activation, and how much of the surrounding work that layer does in the same pass. */
export type PreActivation =
  /** A layer that only normalizes, or that also applies the site's activation (its own one, for methods that have one). */
  | { readonly layer: Module; readonly appliesActivation?: boolean; readonly addsShortcut?: false }
  /** For sites with a sum: a layer that takes `[x, shortcut]` and returns `activation(norm(x) + shortcut)`. */
  | {
      readonly layer: Module<ResidualPair>;
      readonly appliesActivation: true;
      readonly addsShortcut: true;
      /** For methods with a hook `residual`: that the layer does what their sum would. */
      readonly replacesResidual?: boolean;
    };

/** Where the global average pooling in front of a classifier stands. */
export interface PoolingSite {
  /** Channels of the map. */
  readonly channels: number;
  /** What was built before. */
  readonly context: BuildContext;
}

/** Changes gradients between the backward pass and the optimizer's step. */
export interface GradientTransform {
  /**
   * Changes `parameter.grad` of the given parameters in place.
   *
   * @param gradientScale - What the optimizer will multiply the gradients with: 1 / batches where those of several were added up.
   * Default 1.
   */
  apply(parameters: readonly Parameter[], gradientScale?: number): void;
}

/**
 * A normalization method: what it puts at the places where a method can act on a network. Every hook is optional; a method is one
 * file that fills in the hooks it needs, and one line in the table `normalizations`.
 *
 * ```
 *              ┌─── weight ◄── 2 weight
 * input ─► 1 beforeWeight ─► conv / linear ─► 3 preActivation ─► activation ─► 4 postActivation ─► residual sum ◄── 4 residual
 *                                                                                          5 gradient (optimizer)
 * ```
 *
 * A method object holds options only and may build any number of networks. What it needs to know about the network under
 * construction (depth, position in the residual stages, expected variance) comes with the site; what it has to remember between two
 * sites goes into {@link BuildContext}. State that flows with the data at run time belongs to the layers the hooks return: all
 * weight layers, activations and sums of a model come from the same method, so they may know each other.
 */
export interface Normalization {
  /** The method's name in the table. */
  readonly name: string;
  /** Whether, in training, the output of one sample depends on the other samples of the batch. */
  readonly mixesSamples: boolean;
  /** Whether convolutions and hidden linear layers keep their bias; methods that shift afterwards make it redundant. */
  readonly bias: boolean;
  /** Place 1: a layer in front of a weight layer. */
  beforeWeight?(site: WeightSite): Module | undefined;
  /** Place 1 of a classifier behind a global pooling: a layer in front of that, where a sample has many values of each channel. */
  beforePooling?(site: PoolingSite): Module | undefined;
  /** Place 2: the weight layer itself, in place of `Conv2d` or `Linear`. */
  weight?(site: WeightSite): Module | undefined;
  /** Place 2 in binary layers, which stay the layers that they are: what is done to their latent weights. Default: nothing. */
  readonly binaryWeight?: Pick<BinaryLayerOptions, 'standardize' | 'gain'>;
  /** Place 3: the layer between a weight layer and its activation. */
  preActivation?(site: ActivationSite): PreActivation | undefined;
  /** The activation, in place of the one that the model asks for. */
  activation?(site: ActivationSite): Module | undefined;
  /** Place 4: the layer after an activation. */
  postActivation?(site: ActivationSite): Module | undefined;
  /** Place 4: how branch and shortcut of a residual block come together, in place of a plain addition. */
  residual?(site: ResidualSite): ResidualSum | undefined;
  /** Place 5: what happens to the gradients of a finished model before each step of the optimizer. */
  gradient?(model: AnyModule): GradientTransform | undefined;
}
