import { keep, noGrad, Tensor } from '../../tensor';
import type { AnyModule, Module } from '../module';
import { activates, kindOf, type LayerKind, tensorInput } from './layer-kind';
import { normalized } from './normalized';

/** What was seen of a layer in one forward pass. The tensors are kept: whoever takes the observation disposes of them. */
export interface Observation {
  readonly name: string;
  readonly module: AnyModule;
  readonly kind: LayerKind;
  /** Shape of the output without the batch axis. */
  readonly shape: readonly number[];
  /** The input of a layer with a weight. */
  readonly input?: Tensor;
  /** Output of a layer with a weight, or of a norm before scale, shift and activation. */
  readonly preActivation?: Tensor;
  /** The output, where an activation made it. */
  readonly activation?: Tensor;
}

/** Runs `body` and returns the first call of each layer of `model`, in the order of the calls. */
export function observe(model: Module<Tensor, Tensor>, samples: number, body: () => void): Observation[] {
  const seen = new Map<AnyModule, Observation>();
  const modules = model.namedModules();
  const norms = modules.filter(([, module]) => kindOf(module) === 'norm').map(([name]) => `${name}.`);
  const removers = modules.flatMap(([name, module]) => {
    const kind = kindOf(module);
    // What a norm calls inside (the activation of a proxy) does not see the batch.
    if (kind === undefined || norms.some((norm) => name.startsWith(norm))) return [];
    return module.onCall((_, input, output) => {
      const source = tensorInput(input);
      if (seen.has(module) || source === undefined || !(output instanceof Tensor)) return;
      if (output.rank < 2 || output.shape[0] !== samples) return;
      const retain = (tensor: Tensor): Tensor => keep(tensor.detach());
      const preActivation = noGrad(() => normalized(module, source)) ?? output;
      seen.set(module, {
        name,
        module,
        kind,
        shape: output.shape.slice(1),
        ...(kind === 'weight' ? { input: retain(source) } : {}),
        ...(kind === 'activation' ? {} : { preActivation: retain(preActivation) }),
        ...(activates(module) ? { activation: retain(output) } : {}),
      });
    });
  });
  try {
    body();
    return [...seen.values()];
  } catch (error) {
    for (const observation of seen.values()) release(observation);
    throw error;
  } finally {
    for (const remove of removers) remove();
  }
}

/** Frees the tensors of an observation. */
export function release({ input, preActivation, activation }: Observation): void {
  for (const tensor of [input, preActivation, activation]) tensor?.dispose();
}
