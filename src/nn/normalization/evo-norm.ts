import { checkOptions, optionNames } from '../../options';
import { EvoNormB0, type EvoNormB0Options, EvoNormS0, type EvoNormS0Options } from '../layers/evo-norm';
import type { Module } from '../module';
import type { ActivationSite, Normalization } from './normalization';

/** Options of the method `evonorm-s0`; see {@link EvoNormS0Options}. */
export type EvoNormS0NormalizationOptions = Pick<EvoNormS0Options, 'epsilon' | 'groups'>;

/** Options of the method `evonorm-b0`; see {@link EvoNormB0Options}. */
export type EvoNormB0NormalizationOptions = Pick<EvoNormB0Options, 'epsilon' | 'momentum'>;

/**
 * The hooks of both: the layer stands for norm and activation, whatever activation the model asks for. Where a shortcut is added in
 * between, it follows the sum; there, and where the model asks for a norm alone, the norm's place has scale and shift only, as in the
 * authors' code.
 */
function evoNorm(
  create: (site: ActivationSite, nonlinearity: boolean) => Module,
): Pick<Normalization, 'bias' | 'preActivation' | 'activation'> {
  return {
    bias: false,
    preActivation(site) {
      if (site.sum || site.activation === 'none') return { layer: create(site, false) };
      return { layer: create(site, true), appliesActivation: true };
    },
    activation: (site) => create(site, true),
  };
}

const evoNormS0Options = optionNames<EvoNormS0NormalizationOptions>({ epsilon: true, groups: true });

/** EvoNorm-S0 (Liu et al. 2020) in place of every norm and activation. Layers that `groups` does not divide take `defaultGroups`. */
export function evoNormS0(options: EvoNormS0NormalizationOptions = {}): Normalization {
  checkOptions('normalization evonorm-s0', options, evoNormS0Options);
  const { groups, ...rest } = options;
  return {
    name: 'evonorm-s0',
    mixesSamples: false,
    ...evoNorm(({ channels }, nonlinearity) => {
      const own = groups !== undefined && channels % groups === 0 ? { groups } : {};
      return new EvoNormS0({ ...rest, ...own, channels, nonlinearity });
    }),
  };
}

const evoNormB0Options = optionNames<EvoNormB0NormalizationOptions>({ epsilon: true, momentum: true });

/** EvoNorm-B0 (Liu et al. 2020) in place of every norm and activation. */
export function evoNormB0(options: EvoNormB0NormalizationOptions = {}): Normalization {
  checkOptions('normalization evonorm-b0', options, evoNormB0Options);
  return {
    name: 'evonorm-b0',
    mixesSamples: true,
    ...evoNorm(({ channels }, nonlinearity) => new EvoNormB0({ ...options, channels, nonlinearity })),
  };
}
