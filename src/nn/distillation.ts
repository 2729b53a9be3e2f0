import { checkOptions, optionNames } from '../options';
import { crossEntropy, keep, noGrad, softmax, type Tensor } from '../tensor';
import { checkMethods } from './check';
import { CrossEntropyLoss, type Loss } from './losses';
import type { Module } from './module';

/** Options of {@link DistillationLoss}. */
export interface DistillationLossOptions {
  /** The network that learns: its calls in training mode are watched. */
  readonly model: Module;
  /** The network it learns from: from the same images to logits of the same classes. It is put into evaluation mode and frozen. */
  readonly teacher: Module;
  /** The loss in evaluation mode, against the labels. Default: cross entropy. */
  readonly evaluation?: Loss;
}

const distillationLossOptions = optionNames<DistillationLossOptions>({ model: true, teacher: true, evaluation: true });

/**
 * The distributional loss of ReActNet (Liu et al. 2020, equation 4; Hinton et al. 2015 with temperature 1 and no labels): the cross
 * entropy between the teacher's class probabilities and the network's, `−(1/N) Σ softmax(t) · log softmax(z)`, whose gradient is
 * `(softmax(z) − softmax(t)) / N`. Labels are not used in training.
 *
 * The teacher sees the very images of each training batch, augmented as they are.
 */
export class DistillationLoss implements Loss {
  /** The network that is learned from. */
  readonly teacher: Module;
  readonly #evaluation: Loss;
  readonly #unwatch: () => void;
  #targets: Tensor | undefined;

  constructor(options: DistillationLossOptions) {
    checkOptions('DistillationLoss', options, distillationLossOptions);
    const { model, teacher, evaluation = new CrossEntropyLoss() } = options;
    checkMethods('DistillationLoss', 'model', model, ['onCall'], 'the Module that learns');
    checkMethods('DistillationLoss', 'teacher', teacher, ['call'], 'the Module to learn from');
    checkMethods('DistillationLoss', 'evaluation', evaluation, ['call'], 'a loss, such as new nn.CrossEntropyLoss()');
    this.teacher = teacher.eval().setRequiresGrad(false);
    this.#evaluation = evaluation;
    this.#unwatch = model.onCall((_, input) => {
      if (!model.training) return;
      this.#targets?.dispose();
      this.#targets = keep(noGrad(() => softmax(teacher.call(input as Tensor))));
    });
  }

  call(predictions: Tensor, targets: Tensor): Tensor {
    const distribution = this.#targets;
    if (distribution === undefined) return this.#evaluation.call(predictions, targets);
    this.#targets = undefined;
    try {
      return crossEntropy(predictions, distribution);
    } finally {
      distribution.dispose();
    }
  }

  /** Stops watching the network. The teacher is left as it is. */
  close(): void {
    this.#unwatch();
    this.#targets?.dispose();
    this.#targets = undefined;
  }
}
