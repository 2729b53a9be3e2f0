import * as models from '../../src/models';
import * as nn from '../../src/nn';
import { noGrad, scope, type Tensor } from '../../src/tensor';
import { noise } from '../nn/support';

/**
 * Sketches of methods that act at the other places, to hold the interface and the models to their promise: a new method changes no
 * model. Each is written against the public interface alone.
 */

function run(model: nn.Module, input: Tensor): Tensor {
  return noGrad(() => model.call(input));
}

const images = () => noise([2, 8, 8, 3], 1);
const resnet = (norm: nn.Normalization, version: 1 | 2, shortcut: 'A' | 'projection' = 'A') =>
  models.resnetCifar({ depth: 8, width: 4, version, block: 'basic', shortcut, norm });

describe('a method in front of weight layers', () => {
  /** BatchNorm and dropout in front of every weight layer but the first and those on shortcuts. */
  const independent: nn.Normalization = {
    name: 'independent',
    mixesSamples: true,
    bias: true,
    beforeWeight({ role, kind, options }) {
      if (role === 'stem' || role === 'shortcut') return undefined;
      const channels = kind === 'conv2d' ? options.inChannels : options.inFeatures;
      return new nn.Sequential([new nn.BatchNorm({ channels }), new nn.Dropout({ rate: 0.05 })]);
    },
  };

  it('gives ReLU, norm, dropout, convolution in version 2', () => {
    const model = resnet(independent, 2, 'projection');
    const order: string[] = [];
    for (const [name, module] of model.namedModules()) {
      if (module.children().length === 0) module.onCall(() => order.push(`${name} ${module.constructor.name}`));
    }
    expect(run(model, images()).shape).toEqual([2, 10]);
    expect(order.slice(0, 2)).toEqual(['stem Conv2d', 'stemNorm ReLU']);
    const block = order.filter((line) => line.startsWith('blocks.1.')).map((line) => line.replace('blocks.1.', ''));
    expect(block).toEqual([
      'norm1 ReLU',
      'conv1.before.0 BatchNorm',
      'conv1.before.1 Dropout',
      'conv1.layer Conv2d',
      'norm2 ReLU',
      'conv2.before.0 BatchNorm',
      'conv2.before.1 Dropout',
      'conv2.layer Conv2d',
      'shortcut Conv2d',
      'sum ResidualSum',
    ]);
    expect(order.at(-3)).toBe('classifier.before.0 BatchNorm');
  });
});

describe('a method that scales residual branches by expected variance', () => {
  const alpha = 0.2;

  class ScaledSum extends nn.ResidualSum {
    readonly beta: number;

    constructor(expectedVariance: number) {
      super();
      this.beta = 1 / Math.sqrt(expectedVariance);
    }

    override enter(input: Tensor): Tensor {
      return input.mul(this.beta);
    }

    override forward([branch, shortcut]: nn.ResidualPair): Tensor {
      return branch.mul(alpha).add(shortcut);
    }
  }

  const scaled: nn.Normalization = {
    name: 'scaled',
    mixesSamples: false,
    bias: false,
    weight: ({ kind, options }) => (kind === 'conv2d' ? new nn.Conv2d({ ...options, bias: true }) : undefined),
    residual({ transition, context }) {
      const sum = new ScaledSum(context.expectedVariance);
      context.expectedVariance = (transition ? 1 : context.expectedVariance) + alpha ** 2;
      return sum;
    },
  };

  it.each([1, 2] as const)('follows the variance through version %s', (version) => {
    const model = models.resnetCifar({ depth: 14, width: 4, version, block: 'basic', norm: scaled });
    const betas = model.modules().flatMap((module) => (module instanceof ScaledSum ? [module.beta] : []));
    const expected = [1, 1.04, 1.08, 1.04, 1.08, 1.04].map((variance) => 1 / Math.sqrt(variance));
    expect(betas.map((beta) => beta.toFixed(6))).toEqual(expected.map((beta) => beta.toFixed(6)));
    expect(run(model, images()).shape).toEqual([2, 10]);
    expect(model.namedParameters().some(([name]) => name === 'stem.bias')).toBe(true);
  });
});

describe('a method whose state flows with the data', () => {
  /** Counts the weight layers behind every value, as a stand-in for predicted statistics. */
  class Chain {
    readonly #depths = new WeakMap<Tensor, number>();
    readonly seen: (number | undefined)[] = [];

    get(value: Tensor): number | undefined {
      return this.#depths.get(value);
    }

    put(value: Tensor, depth: number | undefined): Tensor {
      if (depth !== undefined) this.#depths.set(value, depth);
      return value;
    }
  }

  class ChainedConv extends nn.Conv2d {
    readonly #chain: Chain;

    constructor(options: nn.Conv2dOptions, chain: Chain) {
      super(options);
      this.#chain = chain;
    }

    override forward(input: Tensor): Tensor {
      return this.#chain.put(super.forward(input), (this.#chain.get(input) ?? 0) + 1);
    }
  }

  class ChainedNorm extends nn.Module {
    readonly #chain: Chain;

    constructor(chain: Chain) {
      super();
      this.#chain = chain;
    }

    override forward(input: Tensor): Tensor {
      const depth = this.#chain.get(input);
      this.#chain.seen.push(depth);
      return this.#chain.put(input.mul(1), depth);
    }
  }

  class ChainedSum extends nn.ResidualSum {
    readonly #chain: Chain;
    #entered: number | undefined;

    constructor(chain: Chain) {
      super();
      this.#chain = chain;
    }

    override enter(input: Tensor): Tensor {
      this.#entered = this.#chain.get(input);
      return input;
    }

    override forward([branch, shortcut]: nn.ResidualPair): Tensor {
      // A shortcut without weights passes the state of the block's input on.
      const other = this.#chain.get(shortcut) ?? this.#entered ?? 0;
      return this.#chain.put(super.forward([branch, shortcut]), (this.#chain.get(branch) ?? 0) + other);
    }
  }

  function chained(chain: Chain): nn.Normalization {
    return {
      name: 'chained',
      mixesSamples: true,
      bias: false,
      weight: ({ kind, options }) => (kind === 'conv2d' ? new ChainedConv(options, chain) : undefined),
      preActivation: ({ sum }) => (sum ? undefined : { layer: new ChainedNorm(chain), appliesActivation: true }),
      residual: () => new ChainedSum(chain),
    };
  }

  it('reaches every norm of version 2, through strides, both shortcuts and additions', () => {
    for (const shortcut of ['A', 'projection'] as const) {
      const chain = new Chain();
      scope(() => void run(resnet(chained(chain), 2, shortcut), images()));
      // The stem; in each block the branch's two norms; the end. A block adds its branch's two layers to what its input had; a
      // projection adds one.
      const extra = shortcut === 'A' ? 0 : 1;
      const first = 1 + (1 + 2);
      const second = first + (first + 2) + extra;
      const third = second + (second + 2) + extra;
      expect(chain.seen).toEqual([1, 2, first, first + 1, second, second + 1, third]);
    }
  });
});

describe('a method that changes gradients', () => {
  it('sees the input of every weight layer and can change the gradients of a finished model', () => {
    const inputs = new Map<string, readonly number[]>();
    const preconditioned: nn.Normalization = {
      name: 'preconditioned',
      mixesSamples: false,
      bias: true,
      gradient(model) {
        const weights = model
          .namedModules()
          .filter(([, module]) => module instanceof nn.Conv2d || module instanceof nn.Linear);
        for (const [name, module] of weights) {
          module.onCall((_, input) => inputs.set(name, (input as Tensor).shape));
        }
        return { apply: () => undefined };
      },
    };
    const model = models.mlp({ inputs: 4, hidden: [3], classes: 2, norm: preconditioned });
    expect(preconditioned.gradient?.(model as nn.AnyModule)).toBeDefined();
    run(model, noise([5, 4], 1));
    expect([...inputs]).toEqual([
      ['layers.0', [5, 4]],
      ['classifier', [5, 3]],
    ]);
  });
});
