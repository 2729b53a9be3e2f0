import { EvenkeelError } from '../errors';
import {
  type ActivationName,
  Flatten,
  kaimingNormal,
  Module,
  type Normalization,
  type NormalizationName,
  NormalizedLayers,
} from '../nn';
import { checkInteger } from '../nn/check';
import { checkOptions, optionNames, show } from '../options';
import type { Tensor } from '../tensor';

/** Options of {@link mlp}. */
export interface MlpOptions {
  /** Features of one input; images are flattened. */
  readonly inputs: number;
  /** Features of each hidden layer. Default `[128, 128]`. */
  readonly hidden?: readonly number[];
  /** Number of classes. Default 10. */
  readonly classes?: number;
  /** Normalization method, by name or as an object. Default `'batch'`. */
  readonly norm?: NormalizationName | Normalization;
  /** Activation of the hidden layers. Default `'relu'`. */
  readonly activation?: ActivationName;
}

const mlpOptions = optionNames<MlpOptions>({ inputs: true, hidden: true, classes: true, norm: true, activation: true });

/** A multi-layer perceptron; see {@link mlp}. */
export class Mlp extends Module {
  readonly flatten = new Flatten();
  readonly layers: readonly Module[];
  readonly norms: readonly Module[];
  /** The last layer. Another one may take its place. */
  classifier: Module;

  constructor(options: MlpOptions) {
    super();
    checkOptions('mlp', options, mlpOptions);
    const { hidden = [128, 128], classes = 10, norm = 'batch', activation = 'relu' } = options;
    checkInteger('mlp', 'inputs', options.inputs, 1);
    checkInteger('mlp', 'classes', classes, 1);
    const build = new NormalizedLayers({ norm, activation, weightInitializer: kaimingNormal() });
    if (!Array.isArray(hidden)) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `mlp: hidden is ${show(hidden)}; give a list of sizes, such as [128, 128]`,
      );
    }
    const layers: Module[] = [];
    const norms: Module[] = [];
    let features = options.inputs;
    for (const [index, outFeatures] of (hidden as readonly number[]).entries()) {
      checkInteger('mlp', `hidden[${index}]`, outFeatures, 1);
      layers.push(build.linear({ inFeatures: features, outFeatures }, index === 0 ? 'stem' : 'body'));
      norms.push(build.unit({ channels: outFeatures, spatial: false }));
      features = outFeatures;
    }
    this.layers = layers;
    this.norms = norms;
    this.classifier = build.linear({ inFeatures: features, outFeatures: classes }, 'classifier');
  }

  override forward(input: Tensor): Tensor {
    let value = this.flatten.call(input);
    for (const [index, layer] of this.layers.entries()) {
      value = layer.call(value);
      value = this.norms[index]?.call(value) ?? value;
    }
    return this.classifier.call(value);
  }
}

/**
 * A multi-layer perceptron: linear layers, each with normalization and activation, and a linear classifier. Weights start as He
 * normal. Input `[batch, ...]` with `inputs` values for each sample, output logits `[batch, classes]`.
 */
export function mlp(options: MlpOptions): Mlp {
  return new Mlp(options);
}
