import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { GroupNorm } from '../layers/group-norm';
import { ProxyNorm, type ProxyNormOptions } from '../layers/proxy-norm';
import type { Normalization } from './normalization';

/** Options of the method `proxy`; see {@link ProxyNormOptions}. */
export type ProxyNormalizationOptions = Pick<ProxyNormOptions, 'groups' | 'epsilon' | 'proxyEpsilon' | 'nodes'>;

const proxyOptions = optionNames<ProxyNormalizationOptions>({
  groups: true,
  epsilon: true,
  proxyEpsilon: true,
  nodes: true,
});

/**
 * Proxy normalization (Labatie et al. 2021): layer normalization (or group normalization, with `groups`), affine, activation, and then
 * the normalization of the activation by the statistics of a Gaussian proxy.
 *
 * The activation at the end of a residual block of version 1 follows a sum and no norm, so there is no proxy for it: that place has the
 * norm alone. Version 2 suits the method better, because every activation follows a norm.
 */
export function proxy(options: ProxyNormalizationOptions = {}): Normalization {
  checkOptions('normalization proxy', options, proxyOptions);
  const { groups = 1, epsilon = 1e-3 } = options;
  return {
    name: 'proxy',
    mixesSamples: false,
    bias: false,
    preActivation({ channels, activation, sum }) {
      if (activation === 'prelu') {
        throw new EvenkeelError(
          'UNSUPPORTED',
          'normalization proxy: the proxy goes through the activation, and prelu has parameters of its own; use relu, silu or gelu',
        );
      }
      // Layers with fewer channels than groups get a group for each channel, as in the authors' code.
      const own = Math.min(groups, channels);
      if (sum) return { layer: new GroupNorm({ channels, groups: own, epsilon }) };
      return { layer: new ProxyNorm({ ...options, groups: own, channels, activation }), appliesActivation: true };
    },
  };
}
