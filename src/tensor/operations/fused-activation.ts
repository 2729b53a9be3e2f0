import { EvenkeelError } from '../../errors';

/**
 * An activation that an operation applies in the same pass over memory. `leakyRelu` has slope 0.01, `elu` alpha 1, `gelu` is exact,
 * `hardTanh` limits to -1 and 1.
 */
export type FusedActivation =
  | 'none'
  | 'relu'
  | 'leakyRelu'
  | 'elu'
  | 'silu'
  | 'gelu'
  | 'geluTanh'
  | 'sigmoid'
  | 'tanh'
  | 'hardTanh'
  | 'softplus'
  | 'hardSwish';

/** Number and parameters of each, as `Activation::from_code` in crate evenkeel-kernels reads them. */
const words: Readonly<Record<FusedActivation, readonly [code: number, first: number, second: number]>> = {
  none: [0, 0, 0],
  relu: [1, 0, 0],
  leakyRelu: [2, 0.01, 0],
  elu: [3, 1, 0],
  silu: [4, 0, 0],
  gelu: [5, 0, 0],
  geluTanh: [6, 0, 0],
  sigmoid: [7, 0, 0],
  tanh: [8, 0, 0],
  hardTanh: [9, -1, 1],
  softplus: [10, 0, 0],
  hardSwish: [11, 0, 0],
};

/**
 * The arguments that stand for an activation in a command.
 *
 * @throws EvenkeelError INVALID_ARGUMENT for an unknown name
 */
export function activationWords(operation: string, activation: FusedActivation): readonly [number, number, number] {
  if (!Object.hasOwn(words, activation)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${operation}: unknown activation '${String(activation)}'; expected one of ${Object.keys(words).join(', ')}`,
    );
  }
  return words[activation];
}
