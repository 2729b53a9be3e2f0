import { keep, type Tensor } from '../tensor';
import { type KalmanTransition, kalmanPredict, kalmanRectify } from '../tensor/operations/kalman';
import { concatenate } from '../tensor/operations/layout';

/** What is known about the statistics of a value. */
export interface ChainState {
  /** Means and variances `[2, groups, channels]`. Where there is a `prediction`, every reading computes them. */
  readonly state: Tensor;
  /** Whether a ReLU lies between these statistics and the value. */
  readonly rectified: boolean;
  /** What the state is computed from, for norms that do it in the same pass. */
  readonly prediction?: Prediction;
}

/** Statistics in front of a layer, and the layer they go through. */
export interface Prediction {
  /** Means and variances `[2, groups, inChannels]`. */
  readonly before: Tensor;
  readonly through: KalmanTransition;
}

/** The statistics behind a layer, which nobody has computed yet. */
export function predictedState(before: Tensor, through: KalmanTransition): ChainState {
  return {
    get state() {
      const { weight, rectified, bias, noise, channelGroups } = through;
      return kalmanPredict(rectified === true ? kalmanRectify(before) : before, weight, { bias, noise, channelGroups });
    },
    rectified: false,
    prediction: { before, through },
  };
}

/** The statistics that travel with values from one Kalman norm to the next. Kept beside the tensors: no other layer knows of them. */
const states = new WeakMap<Tensor, ChainState>();

/** The statistics that were attached to a value. */
export function stateOf(value: Tensor): ChainState | undefined {
  const found = states.get(value);
  return found === undefined || (found.prediction?.before ?? found.state).isDisposed ? undefined : found;
}

/** Attaches statistics that a layer keeps alive. */
export function attachState(value: Tensor, state: ChainState | undefined): Tensor {
  if (state !== undefined) states.set(value, state);
  return value;
}

/** For layers that leave the statistics of each channel as they are (average pooling keeps the means; its variances are taken as kept). */
export function carryState(input: Tensor, output: Tensor): Tensor {
  return attachState(output, stateOf(input));
}

/**
 * The statistics of the newest output of one layer. They have to outlive the layer's call, because the next layer reads them; the next
 * call of the same layer frees them.
 */
export class StateHolder {
  #state: Tensor | undefined;

  /** Attaches `state` to `value` and frees what was attached before. */
  attach(value: Tensor, state: Tensor, rectified: boolean): Tensor {
    return attachState(value, { state: this.hold(state), rectified });
  }

  /** Keeps `state` and frees what was kept before. */
  hold(state: Tensor): Tensor {
    const before = this.#state;
    this.#state = keep(state);
    if (before !== state) before?.dispose();
    return state;
  }

  /** Frees what is attached to the newest output. */
  dispose(): void {
    this.#state?.dispose();
    this.#state = undefined;
  }
}

/** The statistics of values side by side along the channels, where all are known and alike. */
export function concatenateStates(inputs: readonly Tensor[], output: Tensor, holder: StateHolder): Tensor {
  const found = inputs.map(stateOf);
  const present = found.filter((state) => state !== undefined);
  const first = present[0];
  if (first === undefined || present.length < inputs.length) return output;
  const known = present.map(({ state }) => state);
  const alike = present.every(
    ({ rectified }, index) => rectified === first.rectified && known[index]?.shape[1] === known[0]?.shape[1],
  );
  return alike ? holder.attach(output, concatenate(known, 2), first.rectified) : output;
}
