import { checkFunction } from '../options';
import { noGrad, record } from './autograd';
import type { Tensor } from './tensor';

/** What a custom function's two passes share. */
export interface FunctionContext {
  /** In `forward`: keeps these tensors for the backward pass. */
  save(...tensors: readonly Tensor[]): void;
  /** In `backward`: what `forward` saved. */
  readonly saved: readonly Tensor[];
  /** In `backward`: for each input, whether its gradient is wanted. */
  readonly needs: readonly boolean[];
}

/** A differentiable function in two passes. */
export interface FunctionDefinition<Inputs extends readonly Tensor[]> {
  /** Names the function in errors. @defaultValue customFunction */
  readonly name?: string;
  /** Computes the output; nothing in here is recorded. It must not return one of its inputs. */
  forward(context: FunctionContext, ...inputs: Inputs): Tensor;
  /** Computes the gradient of each input from that of the output; undefined where there is none. */
  backward(context: FunctionContext, gradient: Tensor): readonly (Tensor | undefined)[];
}

/**
 * Makes a differentiable function of tensors from its two passes.
 *
 * ```ts
 * const square = customFunction({
 *   forward(context, x: Tensor) {
 *     context.save(x);
 *     return x.mul(x);
 *   },
 *   backward: ({ saved: [x] }, gradient) => [gradient.mul(x!).mul(2)],
 * });
 * ```
 *
 * @throws EvenkeelError INVALID_ARGUMENT where a pass is no function
 */
export function customFunction<Inputs extends readonly Tensor[]>(
  definition: FunctionDefinition<Inputs>,
): (...inputs: Inputs) => Tensor {
  const passes = Object(definition) as Readonly<Record<string, unknown>>;
  for (const pass of ['forward', 'backward']) checkFunction('customFunction', pass, passes[pass]);
  const name = definition.name ?? 'customFunction';
  return (...inputs) => {
    let saving: readonly Tensor[] = [];
    const output = noGrad(() =>
      definition.forward(
        {
          save: (...tensors) => {
            saving = tensors;
          },
          saved: [],
          needs: [],
        },
        ...inputs,
      ),
    );
    // An input that is returned as it is must not be hung into the graph a second time.
    const result = inputs.includes(output) ? output.detach() : output;
    return record(name, inputs, result, saving, (gradient, saved, needs) =>
      definition.backward({ save: () => undefined, saved, needs }, gradient),
    );
  };
}
