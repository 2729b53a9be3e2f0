import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames, show } from '../../options';
import type { Tensor } from '../../tensor';
import {
  elu,
  gelu,
  hardSwish,
  hardTanh,
  leakyRelu,
  prelu,
  relu,
  sigmoid,
  silu,
  softplus,
  tanh,
} from '../../tensor/operations/activation';
import type { FusedActivation } from '../../tensor/operations/fused-activation';
import { checkChoice, checkFinite, checkInteger, formatOptions } from '../check';
import { Identity } from '../containers';
import { constant } from '../init';
import { Module } from '../module';
import { Parameter } from '../parameter';

/** `max(x, 0)`. */
export class ReLU extends Module {
  override forward(input: Tensor): Tensor {
    return relu(input);
  }
}

/** Options of {@link LeakyReLU}. */
export interface LeakyReLUOptions {
  /** Slope for negative inputs. Default 0.01. */
  readonly slope?: number;
}

const leakyReLUOptions = optionNames<LeakyReLUOptions>({ slope: true });

/** `x` where it is positive, `slope · x` elsewhere. */
export class LeakyReLU extends Module {
  /** Slope for negative inputs. */
  readonly slope: number;

  constructor(options: LeakyReLUOptions = {}) {
    super();
    checkOptions('LeakyReLU', options, leakyReLUOptions);
    this.slope = checkFinite('LeakyReLU', 'slope', options.slope ?? 0.01);
  }

  override forward(input: Tensor): Tensor {
    return leakyRelu(input, this.slope);
  }

  override describe(): string {
    return formatOptions({ slope: this.slope });
  }
}

/** Options of {@link PReLU}. */
export interface PReLUOptions {
  /** Channels of the input, each with its own slope; 1 shares one slope. Default 1. */
  readonly channels?: number;
  /** First value of every slope. Default 0.25. */
  readonly slope?: number;
}

const pReLUOptions = optionNames<PReLUOptions>({ channels: true, slope: true });

/** `x` where it is positive, `slope · x` elsewhere, with a learned slope for each channel (He et al. 2015, equation 1). */
export class PReLU extends Module {
  /** `[channels]`; without weight decay. */
  readonly slope: Parameter;

  constructor(options: PReLUOptions = {}) {
    super();
    checkOptions('PReLU', options, pReLUOptions);
    const channels = checkInteger('PReLU', 'channels', options.channels ?? 1, 1);
    const slope = checkFinite('PReLU', 'slope', options.slope ?? 0.25);
    this.slope = new Parameter(constant(slope)([channels]), { decay: false });
  }

  override forward(input: Tensor): Tensor {
    return prelu(input, this.slope);
  }

  override describe(): string {
    return formatOptions({ channels: this.slope.size });
  }
}

/** `x · sigmoid(x)`, also called Swish. */
export class SiLU extends Module {
  override forward(input: Tensor): Tensor {
    return silu(input);
  }
}

/** Options of {@link ELU}. */
export interface ELUOptions {
  /** The negative of the limit at minus infinity. Default 1. */
  readonly alpha?: number;
}

const eluOptions = optionNames<ELUOptions>({ alpha: true });

/** `x` where it is positive, `alpha · (exp(x) − 1)` elsewhere (Clevert et al. 2016). */
export class ELU extends Module {
  /** The negative of the limit at minus infinity. */
  readonly alpha: number;

  constructor(options: ELUOptions = {}) {
    super();
    checkOptions('ELU', options, eluOptions);
    this.alpha = checkFinite('ELU', 'alpha', options.alpha ?? 1);
  }

  override forward(input: Tensor): Tensor {
    return elu(input, this.alpha);
  }

  override describe(): string {
    return formatOptions({ alpha: this.alpha });
  }
}

/** Options of {@link GELU}. */
export interface GELUOptions {
  /** `'tanh'` for the approximation through the hyperbolic tangent. Default `'none'`: exact, through the error function. */
  readonly approximate?: 'none' | 'tanh';
}

const geluOptions = optionNames<GELUOptions>({ approximate: true });

/** `x · Φ(x)` with the Gaussian distribution function Φ (Hendrycks and Gimpel 2016). */
export class GELU extends Module {
  /** Whether Φ is approximated. */
  readonly approximate: 'none' | 'tanh';

  constructor(options: GELUOptions = {}) {
    super();
    checkOptions('GELU', options, geluOptions);
    this.approximate = checkChoice('GELU', 'approximate', options.approximate ?? 'none', ['none', 'tanh']);
  }

  override forward(input: Tensor): Tensor {
    return this.approximate === 'tanh' ? gelu(input, { approximate: 'tanh' }) : gelu(input);
  }

  override describe(): string {
    return formatOptions({ approximate: this.approximate === 'none' ? undefined : this.approximate });
  }
}

/** `ln(1 + exp(x))`. */
export class Softplus extends Module {
  override forward(input: Tensor): Tensor {
    return softplus(input);
  }
}

/** `x · min(max(x + 3, 0), 6) / 6` (Howard et al. 2019). */
export class HardSwish extends Module {
  override forward(input: Tensor): Tensor {
    return hardSwish(input);
  }
}

/** `1 / (1 + exp(−x))`. */
export class Sigmoid extends Module {
  override forward(input: Tensor): Tensor {
    return sigmoid(input);
  }
}

/** Hyperbolic tangent. */
export class Tanh extends Module {
  override forward(input: Tensor): Tensor {
    return tanh(input);
  }
}

/** Options of {@link HardTanh}. */
export interface HardTanhOptions {
  /** Lower limit of the output. Default −1. */
  readonly low?: number;
  /** Upper limit of the output. Default 1. */
  readonly high?: number;
}

const hardTanhOptions = optionNames<HardTanhOptions>({ low: true, high: true });

/** `x`, limited to `[low, high]`. */
export class HardTanh extends Module {
  /** Lower limit of the output. */
  readonly low: number;
  /** Upper limit of the output. */
  readonly high: number;

  constructor(options: HardTanhOptions = {}) {
    super();
    checkOptions('HardTanh', options, hardTanhOptions);
    const { low = -1, high = 1 } = options;
    if (typeof low !== 'number' || typeof high !== 'number' || !(low < high)) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `HardTanh: low is ${show(low)} and high is ${show(high)}; give numbers, low less than high`,
      );
    }
    this.low = low;
    this.high = high;
  }

  override forward(input: Tensor): Tensor {
    return hardTanh(input, this.low, this.high);
  }

  override describe(): string {
    return formatOptions({ low: this.low, high: this.high });
  }
}

/** Activations that a model can be asked for by name: those that norms can fuse, and PReLU, which has parameters. */
export type ActivationName = FusedActivation | 'prelu';

const factories: Readonly<Record<ActivationName, (channels: number) => Module>> = {
  none: () => new Identity(),
  relu: () => new ReLU(),
  leakyRelu: () => new LeakyReLU(),
  prelu: (channels) => new PReLU({ channels }),
  elu: () => new ELU(),
  silu: () => new SiLU(),
  gelu: () => new GELU(),
  geluTanh: () => new GELU({ approximate: 'tanh' }),
  sigmoid: () => new Sigmoid(),
  tanh: () => new Tanh(),
  hardTanh: () => new HardTanh(),
  softplus: () => new Softplus(),
  hardSwish: () => new HardSwish(),
};

/**
 * Makes the layer of an activation with its default options.
 *
 * @param name - One of {@link ActivationName}.
 * @param channels - Channels of the input, for activations with a parameter for each.
 * @throws EvenkeelError `INVALID_ARGUMENT` for an unknown name.
 */
export function createActivation(name: ActivationName, channels: number): Module {
  if (!Object.hasOwn(factories, name)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `there is no activation '${String(name)}'; the names are ${Object.keys(factories).join(', ')}`,
    );
  }
  return factories[name](channels);
}
