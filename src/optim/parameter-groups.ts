import { EvenkeelError } from '../errors';
import { checkOptions, optionNames, show } from '../options';
import type { Tensor } from '../tensor';

/** A module, as far as its parameters go. */
export interface HasParameters {
  parameters(): readonly (Tensor & { readonly decay: boolean })[];
}

/** A group of {@link parameterGroups}. */
export interface DecayGroup {
  readonly parameters: readonly Tensor[];
  readonly weightDecay: number;
}

/** Options of {@link parameterGroups}. */
export interface ParameterGroupsOptions {
  /** Weight decay of the parameters that take it. */
  readonly weightDecay: number;
}

const parameterGroupsOptions = optionNames<ParameterGroupsOptions>({ weightDecay: true });

/**
 * A module's parameters in two groups: those that weight decay is for, and those with `decay: false` (biases, and the scales,
 * shifts and thresholds of normalization), which get none. Empty groups are left out.
 *
 * A plain list of parameters is treated the same way; groups are for settings beyond that.
 */
export function parameterGroups(module: HasParameters, options: ParameterGroupsOptions): DecayGroup[] {
  checkOptions('parameterGroups', options, parameterGroupsOptions);
  if (typeof (Object(module) as Partial<HasParameters>).parameters !== 'function') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `parameterGroups: module is ${show(module)}; give a Module, not its parameters`,
    );
  }
  const parameters = module.parameters();
  return [
    { parameters: parameters.filter(({ decay }) => decay), weightDecay: options.weightDecay },
    { parameters: parameters.filter(({ decay }) => !decay), weightDecay: 0 },
  ].filter((group) => group.parameters.length > 0);
}
