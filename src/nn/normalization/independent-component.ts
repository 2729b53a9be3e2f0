import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import type { Tensor } from '../../tensor';
import { checkChoice } from '../check';
import { Identity } from '../containers';
import { type ActivationName, createActivation } from '../layers/activations';
import { Conv2d } from '../layers/conv2d';
import { IndependentComponent, type IndependentComponentOptions } from '../layers/independent-component';
import { Linear } from '../layers/linear';
import { Module } from '../module';
import type { BuildContext } from './context';
import type { Normalization, WeightSite } from './normalization';

/** Options of the method `ic`. */
export interface IndependentComponentMethodOptions
  extends Pick<IndependentComponentOptions, 'dropRate' | 'epsilon' | 'momentum' | 'affine'> {
  /**
   * The order inside a residual branch, and in every other chain of layers. `'relu-ic-conv'` is the paper's choice: the shortcut
   * carries sums of convolutions. In `'ic-conv-relu'` and `'conv-relu-ic'` every weight layer but the classifier and those on shortcuts
   * is followed by the activation, so none is left behind the additions. Default `'relu-ic-conv'`.
   */
  readonly order?: 'relu-ic-conv' | 'ic-conv-relu' | 'conv-relu-ic';
  /** Whether a projection on a shortcut gets an IC layer in front, too. Default `false`. */
  readonly onProjection?: boolean;
}

/** The activation that a model asks for, known from its first activation site on. */
interface Asked {
  activation: ActivationName;
}

/** Whether the layer of the next classifier is in front of the pooling that it reads. */
interface Head {
  isPrepared: boolean;
}

/** The activation that a model turns out to ask for: it is known only when the network is complete. */
export class AskedActivation extends Module {
  readonly #asked: Asked;
  #activate: Module | undefined;

  constructor(asked: Asked) {
    super();
    this.#asked = asked;
  }

  override forward(input: Tensor): Tensor {
    this.#activate ??= createActivation(this.#asked.activation, 1);
    return this.#activate.call(input);
  }

  override describe(): string {
    return this.#asked.activation;
  }
}

/** A weight layer with the activation behind it, and maybe an IC layer behind that. */
class ActivatedWeight extends Module {
  readonly layer: Module;
  readonly activate: Module;
  readonly after: Module | undefined;

  constructor(layer: Module, after: Module | undefined, asked: Asked) {
    super();
    this.layer = layer;
    this.activate = new AskedActivation(asked);
    this.after = after;
  }

  override forward(input: Tensor): Tensor {
    const activated = this.activate.call(this.layer.call(input));
    return this.after?.call(activated) ?? activated;
  }
}

const icOptions = optionNames<IndependentComponentMethodOptions>({
  dropRate: true,
  epsilon: true,
  momentum: true,
  affine: 'boolean',
  order: true,
  onProjection: 'boolean',
});

/**
 * Independent-Component layers (Chen et al. 2019): batch normalization and dropout in front of every weight layer but the first, instead
 * of batch normalization in front of the activations. The layer of a classifier behind a global pooling is in front of the pooling:
 * behind it, a channel has as few values as the batch has samples, and at batch size 2 nothing but their order would be left.
 */
export function ic(options: IndependentComponentMethodOptions = {}): Normalization {
  checkOptions('normalization ic', options, icOptions);
  const { order = 'relu-ic-conv', onProjection = false, ...layer } = options;
  checkChoice('normalization ic', 'order', order, ['relu-ic-conv', 'ic-conv-relu', 'conv-relu-ic']);
  const create = (channels: number) => new IndependentComponent({ ...layer, channels });
  const key = {};
  const headKey = {};
  const asked = (context: BuildContext) => context.note<Asked>(key, () => ({ activation: 'none' }));
  const head = (context: BuildContext) => context.note<Head>(headKey, () => ({ isPrepared: false }));
  const method: Normalization = {
    name: 'ic',
    mixesSamples: true,
    bias: true,
    beforePooling({ channels, context }) {
      if (order === 'conv-relu-ic') return undefined;
      head(context).isPrepared = true;
      return create(channels);
    },
    beforeWeight(site) {
      const { role, context } = site;
      if (role === 'classifier' && head(context).isPrepared) {
        head(context).isPrepared = false;
        return undefined;
      }
      if (role === 'stem' || (role === 'shortcut' && !onProjection) || order === 'conv-relu-ic') return undefined;
      return create(site.kind === 'conv2d' ? site.options.inChannels : site.options.inFeatures);
    },
  };
  if (order === 'relu-ic-conv') return method;
  return {
    ...method,
    weight(site) {
      if (site.role === 'classifier' || site.role === 'shortcut') return undefined;
      const after = order === 'conv-relu-ic' ? create(outputsOf(site)) : undefined;
      const plain = site.kind === 'conv2d' ? new Conv2d(site.options) : new Linear(site.options);
      return new ActivatedWeight(plain, after, asked(site.context));
    },
    activation({ activation, context }) {
      if (activation === 'prelu') {
        throw new EvenkeelError(
          'UNSUPPORTED',
          `normalization ic: the order ${order} puts activations behind weight layers that are built before the activation is known, so ` +
            'one with parameters (prelu) has no place; use relu-ic-conv, or another activation',
        );
      }
      asked(context).activation = activation;
      return new Identity();
    },
  };
}

function outputsOf(site: WeightSite): number {
  return site.kind === 'conv2d' ? site.options.outChannels : site.options.outFeatures;
}
