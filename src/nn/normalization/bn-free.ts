import { EvenkeelError } from '../../errors';
import { adaptiveGradientClipping } from '../../optim/adaptive-clipping';
import { checkOptions, optionNames, show } from '../../options';
import type { Tensor } from '../../tensor';
import { checkRange, formatOptions } from '../check';
import { type ActivationName, createActivation } from '../layers/activations';
import type { ResidualPair } from '../layers/affine';
import { ScaledStandardizedConv2d, ScaledStandardizedLinear } from '../layers/standardized';
import { type AnyModule, Module } from '../module';
import type { GradientTransform, Normalization, ResidualSite } from './normalization';
import { originOf } from './origin';
import { ResidualSum } from './residual-sum';

/** How β is kept; see {@link BnFreeOptions.beta}. */
export type BetaTable = 'nfnet' | 'reference' | 'none';

/** Options of the method `bn-free`. */
export interface BnFreeOptions {
  /** α, the factor of every residual branch; at least 0. Default 0.2, and 0.25 for branches of one binary layer. */
  readonly alpha?: number;
  /**
   * How β, the expected standard deviation at the start of a residual block, is kept: `'nfnet'` adds α² for every block and starts
   * again from 1 + α² behind a block that changes the shape (Brock, De and Smith 2021); `'reference'` is the table of the code of
   * "BNN − BN = ?" (Chen et al. 2021), where the first block of a stage adds nothing and a change starts again from 1; `'none'` leaves
   * β at 1; an array gives β of every residual sum in order. Default `'nfnet'`.
   */
  readonly beta?: BetaTable | readonly number[];
  /** Whether weights are standardized; without it there is no gain either. Default `true`. */
  readonly standardize?: boolean;
  /** Whether standardized layers have a learned factor for each output. Default `true`. */
  readonly gain?: boolean;
  /** Whether standardized layers have a bias. Default `true`. */
  readonly bias?: boolean;
  /**
   * λ of adaptive gradient clipping, the largest norm of a unit's gradient as a share of the norm of its weights; 0 turns it off.
   * Default 0.02.
   */
  readonly clipping?: number;
}

/**
 * `1 / √Var(f(z))` for standard normal z: what keeps the variance behind an activation at 1 (Brock, De and Smith 2021, section 3).
 * By quadrature; for ReLU it is √(2 / (1 − 1/π)).
 */
const varianceFactors: Readonly<Record<ActivationName, number>> = {
  none: 1,
  relu: 1.7128585502,
  leakyRelu: 1.7048316269,
  prelu: 1.5046096431,
  elu: 1.2708434179,
  silu: 1.7871872221,
  gelu: 1.7009262434,
  geluTanh: 1.7009165617,
  sigmoid: 4.801313372,
  tanh: 1.5925374197,
  hardTanh: 1.3920361406,
  softplus: 1.9191259801,
  hardSwish: 1.8138714738,
};

/** An activation times the factor that brings standard normal inputs back to variance 1. */
export class VariancePreservingActivation extends Module {
  /** The activation. */
  readonly activation: Module;
  /** What its result is multiplied with. */
  readonly factor: number;

  constructor(activation: ActivationName, channels: number) {
    super();
    this.activation = createActivation(activation, channels);
    this.factor = varianceFactors[activation];
  }

  override forward(input: Tensor): Tensor {
    const value = this.activation.call(input);
    return this.factor === 1 ? value : value.mul(this.factor);
  }
}

/** `α · branch + shortcut`, where the branch, and a shortcut with weights, start from `input / β`. */
export class ScaledResidualSum extends ResidualSum {
  /** Factor of the branch. */
  readonly alpha: number;
  /** Expected standard deviation of the block's input. */
  readonly beta: number;

  constructor(alpha: number, beta: number) {
    super();
    this.alpha = alpha;
    this.beta = beta;
  }

  override enter(input: Tensor): Tensor {
    return this.beta === 1 ? input : input.mul(1 / this.beta);
  }

  override forward([branch, shortcut]: ResidualPair): Tensor {
    return branch.mul(this.alpha).add(shortcut);
  }

  override describe(): string {
    return formatOptions({ alpha: this.alpha, beta: Math.round(this.beta * 1e4) / 1e4 });
  }
}

const bnFreeOptions = optionNames<BnFreeOptions>({
  alpha: true,
  beta: true,
  standardize: 'boolean',
  gain: 'boolean',
  bias: 'boolean',
  clipping: true,
});

/**
 * Residual networks without normalization (Brock, De and Smith 2021; Brock et al. 2021; for binary networks Chen et al. 2021): weights
 * with scaled standardization, activations that keep the variance, residual branches scaled by their expected variance, and adaptive
 * gradient clipping of everything but the classifier ({@link gradientTransformOf}). Works at any batch size, and no sample depends on
 * another.
 */
export function bnFree(options: BnFreeOptions = {}): Normalization {
  checkOptions('normalization bn-free', options, bnFreeOptions);
  const { alpha, beta = 'nfnet', standardize = true, gain = standardize, bias = true, clipping = 0.02 } = options;
  if (alpha !== undefined) checkRange('normalization bn-free', 'alpha', alpha, 0, Number.MAX_VALUE);
  checkRange('normalization bn-free', 'clipping', clipping, 0, Number.MAX_VALUE);
  checkBeta(beta);
  return {
    name: 'bn-free',
    mixesSamples: false,
    bias,
    binaryWeight: { standardize, gain: standardize && gain },
    weight(site) {
      if (site.role === 'classifier' || !standardize) return undefined;
      return site.kind === 'conv2d'
        ? new ScaledStandardizedConv2d({ ...site.options, gain })
        : new ScaledStandardizedLinear({ ...site.options, gain });
    },
    activation: ({ activation, channels }) => new VariancePreservingActivation(activation, channels),
    residual(site) {
      const { context, binary = false } = site;
      const own = alpha ?? (binary ? 0.25 : 0.2);
      if (typeof beta !== 'string') return new ScaledResidualSum(own, betaAt(beta, context.residualSums));
      const sum = new ScaledResidualSum(own, beta === 'none' ? 1 : Math.sqrt(context.expectedVariance));
      context.expectedVariance = varianceBehind(site, own, beta);
      return sum;
    },
    gradient: (model) => (clipping === 0 ? undefined : clipEverythingButClassifier(model, clipping)),
  };
}

function checkBeta(beta: BetaTable | readonly number[]): void {
  if (Array.isArray(beta)) {
    for (const value of beta) checkRange('normalization bn-free', 'beta', value, Number.MIN_VALUE, Number.MAX_VALUE);
  } else if (!['nfnet', 'reference', 'none'].includes(beta as BetaTable)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `normalization bn-free: beta is ${show(beta)}; give 'nfnet', 'reference', 'none' or an array of numbers`,
    );
  }
}

function betaAt(table: readonly number[], index: number): number {
  const beta = table[index];
  if (beta !== undefined) return beta;
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `normalization bn-free: the network has more than ${table.length} residual sums; give beta a number for each`,
  );
}

/**
 * The expected variance behind a residual sum, by one of the two tables. Where a block has two sums, only the first of a transition has
 * a shortcut that changes the shape; the reference code starts again behind the second nevertheless, and every sum adds α².
 */
function varianceBehind(site: ResidualSite, alpha: number, table: BetaTable): number {
  const { half, transition, block, context } = site;
  const before = context.expectedVariance;
  if (half === undefined) {
    const reset = transition ? 1 : before;
    return table === 'reference' && block === 0 ? reset : reset + alpha ** 2;
  }
  if (table === 'reference') return transition && half === 'second' ? 1 : before + alpha ** 2;
  return (transition && half === 'first' ? 1 : before) + alpha ** 2;
}

function clipEverythingButClassifier(model: AnyModule, clipping: number): GradientTransform {
  // By name also what was put in the place of the model's own classifier.
  const classifiers = model
    .namedModules()
    .filter(([name, module]) => name === 'classifier' || originOf(module)?.role === 'classifier');
  const spared = new Set(classifiers.flatMap(([, module]) => module.parameters()));
  const gains = new Set(
    model.namedParameters().flatMap(([name, parameter]) => (/(^|\.)gain$/.test(name) ? [parameter] : [])),
  );
  return {
    apply(parameters, gradientScale = 1) {
      adaptiveGradientClipping(
        parameters.filter((parameter) => !spared.has(parameter)),
        {
          clipping: clipping / gradientScale,
          unitOf: (parameter) =>
            gains.has(parameter as never) ? 'element' : parameter.rank >= 2 ? 'output' : 'tensor',
        },
      );
    },
  };
}
