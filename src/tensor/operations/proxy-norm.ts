import { EvenkeelError } from '../../errors';
import { formatShape } from '../shape';
import { allocate, run, type Tensor } from '../tensor';
import { checkOptions, optionNames } from './check';
import { activationWords, type FusedActivation } from './fused-activation';
import { checkChannels, geometryOf, recordNormalization } from './normalization';

/** The parameters of a proxy, each `[channels]`, and the activation. */
export interface ProxyOptions {
  /** Scale in front of the activation. */
  readonly gamma: Tensor;
  /** Offset in front of the activation. */
  readonly beta: Tensor;
  /** The proxy's standard deviation, less 1. */
  readonly proxyGamma: Tensor;
  /** The proxy's mean. */
  readonly proxyBeta: Tensor;
  /** The activation. */
  readonly activation: FusedActivation;
}

/** Options of {@link proxyNorm}. */
export interface ProxyNormOptions extends ProxyOptions {
  /** What {@link proxyStatistics} made from the same options. */
  readonly statistics: Tensor;
  /** Groups of neighbouring channels that share their statistics; must divide the channels. */
  readonly groups: number;
  /** Added to the variance of the sample, under the root. */
  readonly epsilon: number;
}

function parametersOf({ gamma, beta, proxyGamma, proxyBeta }: ProxyOptions): readonly Tensor[] {
  return [gamma, beta, proxyGamma, proxyBeta];
}

/** Rows of what {@link proxyStatistics} returns. */
const STATISTICS = 6;

const proxyOptions = optionNames<ProxyOptions>({
  gamma: true,
  beta: true,
  proxyGamma: true,
  proxyBeta: true,
  activation: true,
});

/**
 * Mean and inverse standard deviation of `activation(gamma · (node · (1 + proxyGamma) + proxyBeta) + beta)` over the nodes (quantiles of
 * the standard normal distribution, `[count]`), and four means more that the gradients need: `[6, channels]`. They depend on parameters
 * alone, so they hold until one changes. Not differentiable: {@link proxyNorm} gives the gradients.
 */
export function proxyStatistics(options: ProxyOptions, nodes: Tensor, epsilon: number): Tensor {
  checkOptions('proxyStatistics', options, proxyOptions);
  const activation = activationWords('proxyStatistics', options.activation);
  const statistics = allocate('proxyStatistics', [STATISTICS, options.gamma.size]);
  run('proxy_statistics', [statistics], ...parametersOf(options), nodes, epsilon, ...activation);
  return statistics;
}

const proxyNormOptions = optionNames<ProxyNormOptions>({
  gamma: true,
  beta: true,
  proxyGamma: true,
  proxyBeta: true,
  activation: true,
  statistics: true,
  groups: true,
  epsilon: true,
});

/**
 * Group normalization, scale and offset, activation, and the standardization by the proxy's mean and deviation, in one pass (Labatie et
 * al. 2021). Gradients reach the parameters also through the proxy's statistics.
 *
 * @throws EvenkeelError SHAPE_MISMATCH, DTYPE_MISMATCH, INVALID_ARGUMENT
 */
export function proxyNorm(input: Tensor, options: ProxyNormOptions): Tensor {
  checkOptions('proxyNorm', options, proxyNormOptions);
  const { batch, positions, channels } = geometryOf('proxyNorm', input, options);
  const { gamma, beta, proxyGamma, proxyBeta, statistics, groups, epsilon } = options;
  checkChannels('proxyNorm', 'proxyGamma', proxyGamma, channels, input.shape);
  checkChannels('proxyNorm', 'proxyBeta', proxyBeta, channels, input.shape);
  if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `proxyNorm: groups must be a whole number that divides the ${channels} channels of the input ${formatShape(input.shape)}, got ` +
        `${groups}`,
    );
  }
  const words = [batch, positions, channels, groups, ...activationWords('proxyNorm', options.activation)];
  const output = allocate('proxyNorm', input.shape);
  const saved = allocate('proxyNorm', [3, batch, groups]);
  run('proxy_norm', [output, saved], input, ...parametersOf(options), statistics, ...words, epsilon);
  recordNormalization('proxyNorm', [input, gamma, beta, proxyGamma, proxyBeta], output, {
    operation: 'proxy_norm_backward',
    saved: [saved],
    constants: [statistics],
    words,
  });
  saved.dispose();
  return output;
}
