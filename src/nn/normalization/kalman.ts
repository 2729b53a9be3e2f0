import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { concatenate, ones, type Tensor, zeros } from '../../tensor';
import { kalmanRectify } from '../../tensor/operations/kalman';
import { pad } from '../../tensor/operations/layout';
import { type ActivationName, createActivation } from '../layers/activations';
import type { ResidualPair } from '../layers/affine';
import {
  BatchKalmanNorm,
  type BatchKalmanNormOptions,
  checkMode,
  checkPrediction,
  KalmanConv2d,
  KalmanLinear,
  type KalmanMode,
  type KalmanPrediction,
} from '../layers/kalman';
import { Module } from '../module';
import { attachState, type ChainState, StateHolder, stateOf } from '../statistics-chain';
import { fuseActivation } from './fusion';
import type { ActivationSite, Normalization } from './normalization';
import { ResidualSum } from './residual-sum';

/** Options of the method `kalman`; see {@link BatchKalmanNormOptions}. */
export interface KalmanNormalizationOptions
  extends Omit<BatchKalmanNormOptions, 'channels' | 'activation' | 'initialScale'> {
  /**
   * How convolutions of a tied mode predict: in `'closed-form'`, or by `'monte-carlo'`, from random maps as the released code does.
   * Default `'closed-form'`.
   */
  readonly prediction?: KalmanPrediction;
  /**
   * Whether the network's input is taken as standardized (mean 0 and variance 1 in every channel), so that the first norm has a
   * prediction, too. Default `false`: the first norm is batch normalization.
   */
  readonly inputPrior?: boolean;
}

/** Attaches the statistics of standardized values to the network's input. */
class StandardizedInput extends Module {
  readonly channels: number;
  readonly groupSize: number | undefined;
  readonly #holder = new StateHolder();

  constructor(channels: number, groupSize: number | undefined) {
    super();
    this.channels = channels;
    this.groupSize = groupSize;
  }

  protected override release(): void {
    this.#holder.dispose();
  }

  override forward(input: Tensor): Tensor {
    const batch = input.shape[0] ?? 0;
    const groups = Math.floor(batch / Math.min(this.groupSize ?? batch, batch));
    if (!this.training || !(groups >= 1)) return input;
    const shape = [1, groups, this.channels];
    return this.#holder.attach(input, concatenate([zeros(shape), ones(shape)], 0), false);
  }
}

/** An activation that notes whether the statistics in front of it still have to go through a ReLU. */
class ChainedActivation extends Module {
  readonly activation: Module;
  readonly #rectifies: boolean;
  readonly #holder = new StateHolder();

  constructor(name: ActivationName, channels: number) {
    super();
    this.activation = createActivation(name, channels);
    this.#rectifies = name === 'relu';
  }

  protected override release(): void {
    this.#holder.dispose();
  }

  override forward(input: Tensor): Tensor {
    const output = this.activation.call(input);
    const before = this.training ? stateOf(input) : undefined;
    if (before === undefined) return output;
    const state = before.prediction === undefined ? before.state : this.#holder.hold(before.state);
    return attachState(output, { state, rectified: before.rectified || this.#rectifies });
  }
}

/** The residual addition, also of means and variances: branch and shortcut are taken as independent. */
class ChainedSum extends ResidualSum {
  readonly #mode: KalmanMode;
  readonly #holder = new StateHolder();
  #entered: ChainState | undefined;

  constructor(mode: KalmanMode) {
    super();
    this.#mode = mode;
  }

  protected override release(): void {
    this.#holder.dispose();
  }

  override enter(input: Tensor): Tensor {
    this.#entered = this.training ? stateOf(input) : undefined;
    return input;
  }

  override forward([branch, shortcut]: ResidualPair): Tensor {
    const output = super.forward([branch, shortcut]);
    // A shortcut without weights (a strided, padded identity) passes the statistics of the block's input on.
    const [first, second] = [stateOf(branch), stateOf(shortcut) ?? this.#entered];
    this.#entered = undefined;
    if (!this.training || first === undefined || second === undefined) return output;
    const [own, other] = [this.#behindActivation(first), this.#behindActivation(second)];
    const missing = (own.shape[2] ?? 0) - (other.shape[2] ?? 0);
    if (missing < 0 || own.shape[1] !== other.shape[1]) return output;
    const padded =
      missing === 0
        ? other
        : pad(other, [
            [0, 0],
            [0, 0],
            [0, missing],
          ]);
    return this.#holder.attach(output, own.add(padded), false);
  }

  /** Statistics of the value itself; the released code leaves the ReLU out here, and a learned transition makes up for it. */
  #behindActivation({ state, rectified }: ChainState): Tensor {
    return rectified && this.#mode === 'tied-norm' ? kalmanRectify(state) : state;
  }
}

const kalmanOptions = optionNames<KalmanNormalizationOptions>({
  epsilon: true,
  affine: 'boolean',
  groupSize: true,
  mode: true,
  priorWeight: true,
  learnPriorWeight: 'boolean',
  guarded: 'boolean',
  momentum: true,
  firstGroupOnly: 'boolean',
  stopChainGradient: 'boolean',
  prediction: true,
  inputPrior: 'boolean',
});

/**
 * Batch Kalman normalization (Wang et al. 2018) in front of every activation: batch normalization over small groups of samples, whose
 * statistics are corrected by a prediction from the layer before. The statistics go through convolutions, linear layers, strides,
 * additions and average pooling; behind max pooling they start anew.
 *
 * The modes `'tied-norm'` and `'tied-raw'` know the statistics behind a ReLU only, and refuse other activations.
 */
export function kalman(options: KalmanNormalizationOptions = {}): Normalization {
  checkOptions('normalization kalman', options, kalmanOptions);
  const { prediction: asked, inputPrior = false, ...layer } = options;
  const mode = checkMode('normalization kalman', options.mode ?? 'learned');
  const prediction = checkPrediction('normalization kalman', mode, asked ?? 'closed-form');
  const checkActivation = ({ activation }: ActivationSite) => {
    if (mode !== 'learned' && activation !== 'relu' && activation !== 'none') {
      throw new EvenkeelError(
        'UNSUPPORTED',
        `normalization kalman: the mode ${mode} predicts statistics behind a ReLU in closed form and has no formula for ${activation}; use the ` +
          "mode 'learned', or relu",
      );
    }
  };
  return {
    name: 'kalman',
    mixesSamples: true,
    bias: false,
    beforeWeight(site) {
      if (!inputPrior || site.role !== 'stem') return undefined;
      const channels = site.kind === 'conv2d' ? site.options.inChannels : site.options.inFeatures;
      return new StandardizedInput(channels, options.groupSize);
    },
    weight(site) {
      // Data has no statistics to predict from unless it is said to be standardized, and logits are not normalized.
      if ((site.role === 'stem' && !inputPrior) || site.role === 'classifier') return undefined;
      return site.kind === 'conv2d'
        ? new KalmanConv2d({ ...site.options, mode, prediction })
        : new KalmanLinear({ ...site.options, mode });
    },
    preActivation(site) {
      checkActivation(site);
      // Behind the first layer nothing is known, so there is no weight to learn either.
      const first = site.context.weightLayers <= 1 && !inputPrior ? { priorWeight: 0, learnPriorWeight: false } : {};
      const { channels, activation } = site;
      if (site.sum && activation !== 'prelu') {
        const end = new BatchKalmanNorm({ ...layer, ...first, mode, channels, activation });
        return { layer: end, appliesActivation: true, addsShortcut: true, replacesResidual: true };
      }
      return fuseActivation(
        site,
        (fused) => new BatchKalmanNorm({ ...layer, ...first, mode, channels, activation: fused }),
      );
    },
    activation: ({ activation, channels }) => new ChainedActivation(activation, channels),
    residual: () => new ChainedSum(mode),
  };
}
