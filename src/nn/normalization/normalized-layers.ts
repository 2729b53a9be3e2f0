import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { BinaryConv2d, type BinaryConv2dOptions, BinaryWeightConv2d, type BinaryWeightConv2dOptions } from '../binary';
import { Identity } from '../containers';
import type { Initializer } from '../init';
import { type ActivationName, createActivation, ReLU } from '../layers/activations';
import type { ResidualPair } from '../layers/affine';
import { Conv2d, type Conv2dOptions } from '../layers/conv2d';
import { Linear, type LinearOptions } from '../layers/linear';
import { GlobalAvgPool } from '../layers/pooling';
import type { Module } from '../module';
import { BuildContext } from './context';
import type { ActivationSite, Normalization, ResidualSite, WeightRole, WeightSite } from './normalization';
import { recordOrigin } from './origin';
import { ResidualSum, ResidualSumReLU } from './residual-sum';
import { type NormalizationName, resolveNormalization } from './table';
import { type ActivationParts, NormalizedActivation, NormalizedSum, PreparedWeight } from './units';

/** Options of {@link NormalizedLayers}. */
export interface NormalizedLayersOptions {
  /** The normalization method: a name of the table `normalizations`, or an object. */
  readonly norm: NormalizationName | Normalization;
  /** Activation of the model. Default `'relu'`. */
  readonly activation?: ActivationName;
  /** First value of the weights of convolutions and hidden linear layers. Default: that of the layers. */
  readonly weightInitializer?: Initializer;
}

/** Options of {@link NormalizedLayers.unit}. */
export interface UnitOptions {
  /** Channels, or features, of the value. */
  readonly channels: number;
  /** Whether the value is a map with more than one position for each channel. Default `true`. */
  readonly spatial?: boolean;
  /** Activation of this place; `'none'` for a normalization alone. Default: that of the model. */
  readonly activation?: ActivationName;
}

const unitOptions = optionNames<UnitOptions>({ channels: true, spatial: 'boolean', activation: true });
const residualOptions = optionNames<Omit<ResidualSite, 'context'>>({
  channels: true,
  stage: true,
  block: true,
  transition: 'boolean',
  binary: 'boolean',
  half: true,
});
const normalizedLayersOptions = optionNames<NormalizedLayersOptions>({
  norm: true,
  activation: true,
  weightInitializer: true,
});

/**
 * Builds the layers of one network with one normalization method: what every model asks for its pieces, so that a model is written
 * once and takes any method. Make a new one for each network.
 */
export class NormalizedLayers {
  /** The method. */
  readonly normalization: Normalization;
  /** What was built so far. */
  readonly context = new BuildContext();
  readonly #activation: ActivationName;
  readonly #weightInitializer: Initializer | undefined;

  constructor(options: NormalizedLayersOptions) {
    checkOptions('NormalizedLayers', options, normalizedLayersOptions);
    this.normalization = resolveNormalization(options.norm);
    this.#activation = options.activation ?? 'relu';
    this.#weightInitializer = options.weightInitializer;
  }

  /** A convolution with what the method puts in front of it. The method decides about the bias, unless `options` does. */
  conv2d(options: Conv2dOptions, role: WeightRole = 'body'): Module {
    const complete = { ...this.#weightDefaults(role), ...options };
    return this.#weight({ kind: 'conv2d', options: complete, role, context: this.context }, () => new Conv2d(complete));
  }

  /** A linear layer with what the method puts in front of it. A classifier keeps its bias and the layer's own initialization. */
  linear(options: LinearOptions, role: WeightRole = 'body'): Module {
    const complete = { ...this.#weightDefaults(role), ...options };
    return this.#weight({ kind: 'linear', options: complete, role, context: this.context }, () => new Linear(complete));
  }

  /** Global average pooling with what the method puts in front of it. Build it before the classifier that reads it. */
  globalPool(channels: number): Module {
    const before = this.normalization.beforePooling?.({ channels, context: this.context });
    const pool = new GlobalAvgPool();
    return before === undefined ? pool : new PreparedWeight(before, pool);
  }

  /**
   * A convolution of signs by signs.
   *
   * @throws EvenkeelError `UNSUPPORTED` for a method that puts layers of its own at the places of weights
   */
  binaryConv2d(options: BinaryConv2dOptions): BinaryConv2d {
    return this.#binary(new BinaryConv2d({ ...this.#binaryDefaults(), ...options }), 'body');
  }

  /** A convolution of real inputs by binary weights, for shortcuts. @throws EvenkeelError as {@link binaryConv2d} */
  binaryWeightConv2d(options: BinaryWeightConv2dOptions): BinaryWeightConv2d {
    return this.#binary(new BinaryWeightConv2d({ ...this.#binaryDefaults(), ...options }), 'shortcut');
  }

  /** Normalization, activation and what the method does after it. */
  unit(options: UnitOptions): Module {
    const site = this.#site(options, false);
    const { layer, ...parts } = this.#parts(site);
    if (layer?.addsShortcut === true) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `normalization ${this.normalization.name}: preActivation returned a layer that adds a shortcut, but the site has none (site.sum is false)`,
      );
    }
    const normalize = layer?.layer;
    const present = [normalize, parts.activate, parts.after].filter((part) => part !== undefined);
    if (present.length === 1 && present[0] !== undefined) return present[0];
    return present.length === 0 ? new Identity() : new NormalizedActivation({ normalize, ...parts });
  }

  /** The addition at the end of a residual block. */
  residual(site: Omit<ResidualSite, 'context'>): ResidualSum {
    checkOptions('NormalizedLayers.residual', site, residualOptions);
    const sum = this.normalization.residual?.({ ...site, context: this.context }) ?? new ResidualSum();
    this.context.residualSums += 1;
    return sum;
  }

  /**
   * The end of a block of ResNet v1: `activation(norm(branch) + shortcut)`, in one pass where the method can.
   *
   * @param sum - The block's addition, from {@link NormalizedLayers.residual}.
   */
  sumUnit(options: UnitOptions, sum: ResidualSum): Module<ResidualPair> {
    const { layer, ...parts } = this.#parts(this.#site(options, true));
    if (layer?.addsShortcut === true) {
      const alone = this.normalization.residual === undefined || layer.replacesResidual === true;
      if (alone && parts.after === undefined) return layer.layer;
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `normalization ${this.normalization.name}: preActivation adds the shortcut itself, so it cannot be combined with the hooks residual ` +
          'and postActivation at this site; return a layer without addsShortcut, or say replacesResidual where it does what residual would',
      );
    }
    const normalize = layer?.layer;
    if (this.normalization.residual === undefined && parts.activate instanceof ReLU) {
      return new NormalizedSum({ ...parts, normalize, activate: undefined }, new ResidualSumReLU());
    }
    return new NormalizedSum({ ...parts, normalize }, sum);
  }

  #binaryDefaults(): NonNullable<Normalization['binaryWeight']> {
    const { name, binaryWeight, weight, beforeWeight } = this.normalization;
    if (beforeWeight === undefined && (weight === undefined || binaryWeight !== undefined)) return binaryWeight ?? {};
    throw new EvenkeelError(
      'UNSUPPORTED',
      `normalization ${name} changes weight layers or their inputs, which binary layers cannot take; use batch, bn-free, none, or ` +
        'another method that acts behind the weights',
    );
  }

  #binary<Layer extends Module>(layer: Layer, role: WeightRole): Layer {
    this.context.weightLayers += 1;
    recordOrigin(layer, { normalization: this.normalization, role });
    return layer;
  }

  #weight(site: WeightSite, create: () => Module): Module {
    const before = this.normalization.beforeWeight?.(site);
    const layer = this.normalization.weight?.(site) ?? create();
    this.context.weightLayers += 1;
    recordOrigin(layer, { normalization: this.normalization, role: site.role });
    return before === undefined ? layer : new PreparedWeight(before, layer);
  }

  #weightDefaults(role: WeightRole): { bias: boolean; weightInitializer?: Initializer } {
    if (role === 'classifier') return { bias: true };
    const bias = this.normalization.bias;
    return this.#weightInitializer === undefined ? { bias } : { bias, weightInitializer: this.#weightInitializer };
  }

  #site(options: UnitOptions, sum: boolean): ActivationSite {
    checkOptions(`NormalizedLayers.${sum ? 'sumUnit' : 'unit'}`, options, unitOptions);
    const { channels, spatial = true, activation = this.#activation } = options;
    return { channels, spatial, activation, sum, context: this.context };
  }

  #parts(
    site: ActivationSite,
  ): Omit<ActivationParts, 'normalize'> & { layer: ReturnType<NonNullable<Normalization['preActivation']>> } {
    const layer = this.normalization.preActivation?.(site);
    const applied = layer?.appliesActivation === true || site.activation === 'none';
    return {
      layer,
      activate: applied
        ? undefined
        : (this.normalization.activation?.(site) ?? createActivation(site.activation, site.channels)),
      after: this.normalization.postActivation?.(site),
    };
  }
}
