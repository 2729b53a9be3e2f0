import { EvenkeelError } from '../../errors';
import { type Tensor, tensor } from '../../tensor';
import type { FusedActivation } from '../../tensor/operations/fused-activation';
import { groupNorm } from '../../tensor/operations/normalization';
import { checkInteger, checkRange, formatOptions } from '../check';
import { zeros } from '../init';
import type { Module } from '../module';
import { Parameter } from '../parameter';
import { createActivation } from './activations';
import { NormalizationLayer, type NormalizationLayerOptions } from './affine';
import { normalMidQuantiles } from './normal-quantiles';

/** Options of {@link ProxyNorm}. */
export interface ProxyNormOptions extends Omit<NormalizationLayerOptions, 'affine' | 'initialScale'> {
  /** Groups of channels that share their statistics; 1 is layer normalization of a sample. Default 1. */
  readonly groups?: number;
  /** The activation between the norm and the proxy normalization. Default `'relu'`. */
  readonly activation?: FusedActivation;
  /** Added to the variance of the sample, under the root. Default 1e-3. */
  readonly epsilon?: number;
  /**
   * Added to the variance of the proxy, under the root. Large on purpose: it limits how much a nearly dead channel is amplified.
   * Default 0.03.
   */
  readonly proxyEpsilon?: number;
  /** Points at which the proxy's distribution is sampled. Default 200. */
  readonly nodes?: number;
}

/**
 * Proxy-normalized activation (Labatie et al., "Proxy-Normalizing Activations to Match Batch Normalization while Removing Batch
 * Dependence", NeurIPS 2021) after layer or group normalization.
 *
 * With y the normalized input, `z = activation(gamma y + beta)`, and the output is `(z - m) / sqrt(s² + proxyEpsilon)`, where m and s²
 * are the mean and the variance of `activation(gamma Y + beta)` for a Gaussian proxy `Y ~ N(proxyBeta, (1 + proxyGamma)²)`, taken at
 * fixed mid-quantiles. They depend on parameters only: no sample depends on another, and training equals evaluation. Gradients flow
 * through them into all four parameter vectors.
 *
 * Input `[batch, ..., channels]`, output of the same shape. `proxyGamma` and `proxyBeta` start at 0 and have weight decay, which keeps
 * the proxy near N(0, 1); `gamma` and `beta` have none.
 */
export class ProxyNorm extends NormalizationLayer {
  /** Offset of the proxy's standard deviation from 1, `[channels]`, with weight decay. */
  readonly proxyGamma: Parameter;
  /** Mean of the proxy, `[channels]`, with weight decay. */
  readonly proxyBeta: Parameter;
  /** Groups of channels that share their statistics. */
  readonly groups: number;
  /** Added to the variance of the proxy. */
  readonly proxyEpsilon: number;
  /** The activation, for the nodes of the proxy. */
  readonly activate: Module;
  readonly #nodes: Float32Array;

  constructor(options: ProxyNormOptions) {
    super('ProxyNorm', { epsilon: 1e-3, activation: 'relu', ...options, affine: true });
    this.groups = checkInteger('ProxyNorm', 'groups', options.groups ?? 1, 1);
    if (this.channels % this.groups !== 0) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `ProxyNorm: ${this.channels} channels do not split into ${this.groups} groups; groups must divide channels`,
      );
    }
    this.proxyEpsilon = checkRange(
      'ProxyNorm',
      'proxyEpsilon',
      options.proxyEpsilon ?? 0.03,
      0,
      Number.POSITIVE_INFINITY,
    );
    this.#nodes = normalMidQuantiles(checkInteger('ProxyNorm', 'nodes', options.nodes ?? 200, 2));
    this.activate = createActivation(this.activation, this.channels);
    this.proxyGamma = new Parameter(zeros([this.channels]), { decay: true });
    this.proxyBeta = new Parameter(zeros([this.channels]), { decay: true });
  }

  override forward(input: Tensor): Tensor {
    const { gamma, beta, groups, epsilon, activation } = this;
    const { mean, scale } = this.proxyStatistics();
    return groupNorm(input, { groups, gamma, beta, epsilon, activation }).sub(mean).mul(scale);
  }

  /** Mean and inverse standard deviation of the activated proxy, both `[channels]`; differentiable. */
  proxyStatistics(): { readonly mean: Tensor; readonly scale: Tensor } {
    const [gamma, beta] = [this.gamma as Parameter, this.beta as Parameter];
    const nodes = tensor(this.#nodes, { shape: [this.#nodes.length, 1] });
    const proxy = nodes.mul(this.proxyGamma.add(1)).add(this.proxyBeta);
    const activated = this.activate.call(proxy.mul(gamma).add(beta));
    const mean = activated.mean({ axes: 0 });
    const variance = activated.sub(mean).square().mean({ axes: 0 });
    return { mean, scale: variance.add(this.proxyEpsilon).sqrt().reciprocal() };
  }

  override describe(): string {
    return formatOptions({ channels: this.channels, groups: this.groups, activation: this.activation });
  }
}
