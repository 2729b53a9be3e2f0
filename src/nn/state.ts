import { EvenkeelError } from '../errors';
import { Tensor } from '../tensor';
import { checkMethods } from './check';
import type { StateDifference } from './module';

/** Values with a shape that are not (yet) a tensor, as a file reader delivers them. */
export interface StateArray {
  /** The shape the values fill, row-major. */
  readonly shape: readonly number[];
  /** The values; a plain array is taken as float32. */
  readonly values: Float32Array | Int32Array | Uint8Array | readonly number[];
}

/** One entry of a state: a tensor, or values with a shape. */
export type StateValue = Tensor | StateArray;

/** What a module can be loaded from: values by dotted name. */
export type StateSource = ReadonlyMap<string, StateValue>;

/** Compares a state with a model's own tensors and reports every problem at once. Writes nothing. */
export function checkState(
  owner: string,
  own: ReadonlyMap<string, Tensor>,
  state: StateSource,
  strict: boolean,
): StateDifference {
  checkMethods(
    'loadStateDict',
    'the state',
    state,
    ['has', 'get', 'keys'],
    'a Map from names to values, as stateDict() returns it',
  );
  const missing = [...own.keys()].filter((name) => !state.has(name));
  const unexpected = [...state.keys()].filter((name) => !own.has(name));
  const problems: string[] = [];
  let code: 'INVALID_ARGUMENT' | 'SHAPE_MISMATCH' | 'DTYPE_MISMATCH' = 'INVALID_ARGUMENT';
  for (const [name, tensor] of own) {
    const value = state.get(name);
    if (value === undefined) continue;
    const shape = value.shape;
    const count = value instanceof Tensor ? value.size : value.values.length;
    if (!sameShape(shape, tensor.shape) || count !== tensor.size) {
      code = 'SHAPE_MISMATCH';
      const values = count === product(shape) ? '' : ` with ${count} values`;
      problems.push(`${name}: given [${shape.join(', ')}]${values}, expected [${tensor.shape.join(', ')}]`);
    } else if (dtypeOf(value) !== tensor.dtype) {
      if (problems.length === 0) code = 'DTYPE_MISMATCH';
      problems.push(`${name}: given ${dtypeOf(value)}, expected ${tensor.dtype}`);
    }
  }
  if (strict) {
    if (missing.length > 0) problems.push(`missing: ${missing.join(', ')}`);
    if (unexpected.length > 0) problems.push(`unexpected: ${unexpected.join(', ')}`);
  }
  if (problems.length > 0) {
    const hint =
      strict && (missing.length > 0 || unexpected.length > 0)
        ? '\nBuild the model with the options it was saved with, or pass { strict: false } to load the names both sides have.'
        : '\nBuild the model with the options it was saved with.';
    throw new EvenkeelError(
      code,
      `loadStateDict: the state does not fit ${owner} (nothing was loaded):\n  ${problems.join('\n  ')}${hint}`,
    );
  }
  return { missing, unexpected };
}

/** Overwrites `tensor` with a value that {@link checkState} has accepted. */
export function writeState(tensor: Tensor, value: StateValue): void {
  if (value === tensor) return;
  if (value instanceof Tensor) tensor.copyFrom(value.dataSync());
  else tensor.copyFrom(ArrayBuffer.isView(value.values) ? value.values : Float32Array.from(value.values));
}

function dtypeOf(value: StateValue): string {
  if (value instanceof Tensor) return value.dtype;
  if (value.values instanceof Int32Array) return 'int32';
  if (value.values instanceof Uint8Array) return 'uint8';
  return 'float32';
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

function product(shape: readonly number[]): number {
  return shape.reduce((size, axis) => size * axis, 1);
}
