import { keep, type Tensor } from '../tensor';
import { concatenate } from '../tensor/operations/layout';

/** What is known about the statistics of a value. */
export interface ChainState {
  /** Means and variances `[2, groups, channels]`. */
  readonly state: Tensor;
  /** Whether a ReLU lies between these statistics and the value. */
  readonly rectified: boolean;
}

/** The statistics that travel with values from one Kalman norm to the next. Kept beside the tensors: no other layer knows of them. */
const states = new WeakMap<Tensor, ChainState>();

/** The statistics that were attached to a value. */
export function stateOf(value: Tensor): ChainState | undefined {
  const found = states.get(value);
  return found === undefined || found.state.isDisposed ? undefined : found;
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
    const before = this.#state;
    this.#state = keep(state);
    if (before !== state) before?.dispose();
    return attachState(value, { state, rectified });
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
  const alike = present.every(
    ({ state, rectified }) => rectified === first.rectified && state.shape[1] === first.state.shape[1],
  );
  if (!alike) return output;
  return holder.attach(
    output,
    concatenate(
      present.map(({ state }) => state),
      2,
    ),
    first.rectified,
  );
}
