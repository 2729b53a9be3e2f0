import { checkOptions, optionNames } from '../options';
import type { Tensor } from '../tensor';
import { checkMethods, checkRange } from './check';
import type { Loss } from './losses';

/** A network with a second classifier on an earlier layer, which helps its training and is not used afterwards. */
export interface AuxiliaryNetwork {
  /**
   * The second classifier's logits of the newest call in training mode: handed over once, to be disposed of by the caller. `undefined`
   * if there are none.
   */
  takeAuxiliaryLogits(): Tensor | undefined;
}

/** Options of {@link AuxiliaryLoss}. */
export interface AuxiliaryLossOptions {
  /** The network that makes the predictions. */
  readonly model: AuxiliaryNetwork;
  /** The loss of both classifiers. */
  readonly loss: Loss;
  /** Factor of the second classifier's loss, at least 0. Default 0.4, that of Inception. */
  readonly weight?: number;
}

/** Whether a network has a second classifier for its training. */
export function isAuxiliaryNetwork(model: object): model is AuxiliaryNetwork {
  return 'takeAuxiliaryLogits' in model && typeof model.takeAuxiliaryLogits === 'function';
}

const auxiliaryLossOptions = optionNames<AuxiliaryLossOptions>({ model: true, loss: true, weight: true });

/**
 * `loss(logits) + weight · loss(auxiliary logits)` for a network with a second classifier (Szegedy et al. 2015, section 5). In
 * evaluation mode there are no auxiliary logits, and it is `loss(logits)`. The `Trainer` puts it around its loss by itself.
 */
export class AuxiliaryLoss implements Loss {
  readonly model: AuxiliaryNetwork;
  readonly loss: Loss;
  readonly weight: number;

  constructor(options: AuxiliaryLossOptions) {
    checkOptions('AuxiliaryLoss', options, auxiliaryLossOptions);
    const { model, loss } = options;
    this.model = checkMethods(
      'AuxiliaryLoss',
      'model',
      model,
      ['takeAuxiliaryLogits'],
      'a network with a second classifier',
    );
    this.loss = checkMethods('AuxiliaryLoss', 'loss', loss, ['call'], 'a loss, such as new nn.CrossEntropyLoss()');
    this.weight = checkRange('AuxiliaryLoss', 'weight', options.weight ?? 0.4, 0, Number.MAX_VALUE);
  }

  call(predictions: Tensor, targets: Tensor): Tensor {
    const main = this.loss.call(predictions, targets);
    const logits = this.model.takeAuxiliaryLogits();
    if (logits === undefined) return main;
    try {
      return main.add(this.loss.call(logits, targets).mul(this.weight));
    } finally {
      logits.dispose();
    }
  }
}
