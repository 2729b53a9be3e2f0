import { EvenkeelError } from '../errors';
import { checkFunction, show } from '../options';
import { noGrad } from './autograd';
import { tensor } from './creation';
import { checkOptions, optionNames } from './operations/check';
import { scope } from './scope';
import type { Tensor } from './tensor';

/** Options of {@link gradcheck}. */
export interface GradcheckOptions {
  /** Step of the central differences. @defaultValue 1e-2 */
  readonly step?: number;
  /** Largest difference allowed, relative to the largest gradient of the input (or to 1 where that is smaller). @defaultValue 1e-2 */
  readonly tolerance?: number;
  /** Elements of each input that are checked, spread evenly; all by default. */
  readonly elements?: number;
}

const gradcheckOptions = optionNames<GradcheckOptions>({ step: true, tolerance: true, elements: true });

/** What {@link gradcheck} found. */
export interface GradcheckResult {
  readonly passed: boolean;
  /** The largest relative difference seen. */
  readonly worst: number;
  /** Where it was: which input, which element, and both gradients. */
  readonly at: {
    readonly input: number;
    readonly element: number;
    readonly numeric: number;
    readonly analytic: number;
  };
}

/** A fixed, irregular weight for each output element, so that no symmetry hides an error. */
function weightOf(index: number): number {
  return Math.sin(12.9898 * (index + 1)) * 1.5 + 0.1;
}

/**
 * Compares the gradients of a function with central finite differences.
 *
 * The function is reduced to a number by a fixed weighted sum of its output, in float64. Values are float32, so choose inputs
 * of order 1 and keep away from kinks.
 *
 * @param body the function; it must be differentiable at `inputs`, and give the same output for the same inputs
 * @param inputs float32 tensors; those that require a gradient are checked
 * @throws EvenkeelError INVALID_ARGUMENT where no input requires a gradient
 */
export async function gradcheck(
  body: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  options: GradcheckOptions = {},
): Promise<GradcheckResult> {
  checkFunction('gradcheck', 'body', body);
  checkOptions('gradcheck', options, gradcheckOptions);
  if (!Array.isArray(inputs)) {
    throw new EvenkeelError('INVALID_ARGUMENT', `gradcheck: inputs are ${show(inputs)}; give a list of tensors`);
  }
  const { step = 1e-2, tolerance = 1e-2 } = options;
  const checked = inputs.filter((input) => input.requiresGrad);
  if (checked.length === 0) {
    throw new EvenkeelError('INVALID_ARGUMENT', 'gradcheck: no input requires a gradient');
  }
  const objective = (): number => {
    const values = scope(() => noGrad(() => body(...inputs).dataSync()));
    let total = 0;
    for (const [index, value] of values.entries()) total += value * weightOf(index);
    return total;
  };
  for (const input of checked) {
    input.grad?.dispose();
    input.grad = undefined;
  }
  scope(() => {
    const output = body(...inputs);
    const weights = Float32Array.from({ length: output.size }, (_, index) => weightOf(index));
    output.backward(tensor(weights, { shape: output.shape }));
  });
  let result: GradcheckResult = {
    passed: true,
    worst: 0,
    at: { input: 0, element: 0, numeric: 0, analytic: 0 },
  };
  for (const input of checked) {
    const gradient = input.grad === undefined ? new Float32Array(input.size) : await input.grad.data();
    const original = (await input.data()) as Float32Array;
    let scale = 1;
    for (const value of gradient) scale = Math.max(scale, Math.abs(value));
    const stride = Math.max(1, Math.floor(input.size / (options.elements ?? input.size)));
    for (let element = 0; element < input.size; element += stride) {
      const changed = original.slice();
      const value = original[element] ?? 0;
      changed[element] = value + step;
      const above = changed[element] ?? 0;
      input.copyFrom(changed);
      const high = objective();
      changed[element] = value - step;
      const below = changed[element] ?? 0;
      input.copyFrom(changed);
      const low = objective();
      // The step that float32 really took, not the one asked for.
      const numeric = (high - low) / (above - below);
      const analytic = gradient[element] ?? 0;
      const difference = Math.abs(numeric - analytic) / scale;
      if (!(difference <= result.worst)) {
        const at = { input: inputs.indexOf(input), element, numeric, analytic };
        result = { passed: difference <= tolerance && result.passed, worst: difference, at };
      }
    }
    input.copyFrom(original);
    input.grad?.dispose();
    input.grad = undefined;
  }
  return result;
}
