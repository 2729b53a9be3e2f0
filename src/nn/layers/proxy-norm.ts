import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { keep, noGrad, type Tensor, tensor } from '../../tensor';
import type { FusedActivation } from '../../tensor/operations/fused-activation';
import { proxyNorm, proxyStatistics } from '../../tensor/operations/proxy-norm';
import { checkInteger, checkRange, formatOptions } from '../check';
import { zeros } from '../init';
import { Parameter } from '../parameter';
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

const proxyNormOptions = optionNames<ProxyNormOptions>({
  channels: true,
  groups: true,
  activation: true,
  epsilon: true,
  proxyEpsilon: true,
  nodes: true,
});

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
  // Not state: the options give the nodes, and the parameters the statistics.
  readonly #nodes: Tensor;
  #statistics: Tensor | undefined;
  /** Versions of the parameters that the statistics were made from. */
  #versions: readonly number[] = [];

  constructor(options: ProxyNormOptions) {
    checkOptions('ProxyNorm', options, proxyNormOptions);
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
    this.#nodes = keep(tensor(normalMidQuantiles(checkInteger('ProxyNorm', 'nodes', options.nodes ?? 200, 2))));
    this.proxyGamma = new Parameter(zeros([this.channels]), { decay: true });
    this.proxyBeta = new Parameter(zeros([this.channels]), { decay: true });
  }

  override forward(input: Tensor): Tensor {
    const { groups, epsilon } = this;
    return proxyNorm(input, { ...this.#proxy(), statistics: this.#current(), groups, epsilon });
  }

  /** Mean and inverse standard deviation of the activated proxy, both `[channels]`. */
  proxyStatistics(): { readonly mean: Tensor; readonly scale: Tensor } {
    const { channels } = this;
    return noGrad(() => {
      const row = (index: number) =>
        this.#current()
          .slice({ starts: [index], ends: [index + 1] })
          .reshape([channels]);
      return { mean: row(0), scale: row(1) };
    });
  }

  #proxy() {
    const { gamma, beta, proxyGamma, proxyBeta, activation } = this;
    return {
      gamma: gamma as Parameter,
      beta: beta as Parameter,
      proxyGamma,
      proxyBeta,
      activation,
    };
  }

  /** The statistics, made anew where a parameter has changed since. */
  #current(): Tensor {
    const proxy = this.#proxy();
    const versions = [proxy.gamma, proxy.beta, this.proxyGamma, this.proxyBeta].map(({ storage }) => storage.version);
    if (this.#statistics === undefined || versions.some((version, index) => version !== this.#versions[index])) {
      this.#statistics?.dispose();
      this.#statistics = keep(proxyStatistics(proxy, this.#nodes, this.proxyEpsilon));
      this.#versions = versions;
    }
    return this.#statistics;
  }

  protected override release(): void {
    this.#nodes.dispose();
    this.#statistics?.dispose();
    this.#statistics = undefined;
  }

  override describe(): string {
    return formatOptions({ channels: this.channels, groups: this.groups, activation: this.activation });
  }
}
