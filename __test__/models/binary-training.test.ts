import { EvenkeelError } from '../../src/errors';
import * as models from '../../src/models';
import * as nn from '../../src/nn';
import { binarize, concatenate, manualSeed, noGrad, ones, randn, scope, type Tensor, tensor } from '../../src/tensor';
import { noise } from '../nn/support';

const SIZE = 8;
const build = (norm: nn.NormalizationName | nn.Normalization, modelOptions: Record<string, unknown> = {}) => {
  manualSeed(3);
  return models.create('reactnet20', { inputShape: [SIZE, SIZE, 3], classes: 4, width: 3, norm, modelOptions });
};
const images = (count: number, seed: number) => noise([count, SIZE, SIZE, 3], seed);
const binaryLayers = (model: nn.Module): nn.BinaryLayer[] =>
  model.modules().flatMap((module) => {
    const layer: unknown = module;
    return layer instanceof nn.BinaryLayer ? [layer] : [];
  });
const logits = (model: nn.Module, input: Tensor) => noGrad(() => scope(() => model.call(input).dataSync()));

/** The gradients of the summed loss of a batch, by name. */
function gradients(model: nn.Module, batch: Tensor, labels: readonly number[]): Map<string, ArrayLike<number>> {
  model.zeroGrad();
  scope(() =>
    new nn.CrossEntropyLoss({ reduction: 'sum' })
      .call(model.call(batch), tensor([...labels], { dtype: 'int32' }))
      .backward(),
  );
  return new Map(model.namedParameters().map(([name, { grad }]) => [name, grad?.dataSync() ?? []]));
}

describe('step 1 and step 2', () => {
  it.each(['batch', 'bn-free', 'none'] as const)('share every name and shape, with %s', (norm) => {
    for (const downsample of ['float', 'binary-weight']) {
      const [float, binary] = [build(norm, { weights: 'float', downsample }), build(norm, { downsample })];
      const shapes = (model: nn.Module) => [...model.stateDict()].map(([name, { shape }]) => [name, ...shape]);
      expect(shapes(binary)).toEqual(shapes(float));
      expect(binary.loadStateDict(float.stateDict())).toEqual({ missing: [], unexpected: [] });
      expect(logits(binary, images(2, 1))).not.toEqual(logits(float, images(2, 1)));
      // Nothing but the weights' signs sets them apart.
      for (const layer of binaryLayers(float)) layer.binaryWeights = true;
      expect(logits(float, images(2, 1))).toEqual(logits(binary, images(2, 1)));
    }
  });

  it('are refused where names or shapes differ, and nothing is loaded', () => {
    const state = new Map(build('bn-free', { weights: 'float' }).stateDict());
    const weight = state.get('blocks.0.conv.weight')!;
    state.delete('blocks.0.conv.weight');
    state.set('blocks.0.conv.weights', weight);
    const model = build('bn-free');
    const before = [...logits(model, images(1, 2))];
    expect(() => model.loadStateDict(state)).toThrow(
      /missing: blocks\.0\.conv\.weight\n.*unexpected: blocks\.0\.conv\.weights/,
    );
    expect([...logits(model, images(1, 2))]).toEqual(before);
  });
});

describe('latent weights', () => {
  const shares = (model: nn.Module) =>
    binaryLayers(model).flatMap((layer) => {
      const signs = noGrad(() => layer.weightSigns().dataSync());
      const outputs = layer.weight.shape.at(-1)!;
      return Array.from({ length: outputs }, (_, output) => {
        const own = signs.filter((_, at) => at % outputs === output);
        return own.filter((sign) => sign > 0).length / own.length;
      });
    });

  it('that start above 0, as in the reference, have balanced signs with standardization only', () => {
    const reference = { latentInitialization: 'reference' };
    expect(new Set(shares(build('none', reference)))).toEqual(new Set([1]));
    const balanced = shares(build('bn-free', reference));
    expect(Math.min(...balanced)).toBeGreaterThan(0.2);
    expect(Math.max(...balanced)).toBeLessThan(0.8);
    expect(balanced.reduce((sum, share) => sum + share, 0) / balanced.length).toBeCloseTo(0.5, 1);
    // Float weights of step 1 are centred whatever is asked for.
    const float = build('none', { ...reference, weights: 'float' });
    expect(
      binaryLayers(float)[0]
        ?.weight.dataSync()
        .some((value) => value < 0),
    ).toBe(true);
  });
});

describe('a binary convolution with standardized weights', () => {
  /** The variance of its output for random signs, without borders. */
  function variance(weightInitializer: nn.Initializer): number {
    manualSeed(11);
    const options = { inChannels: 64, outChannels: 48, kernelSize: 3, activation: 'none', standardize: true } as const;
    const layer = new nn.BinaryConv2d({ ...options, weightInitializer });
    return noGrad(() =>
      scope(() => {
        const largest = layer.latentWeight().abs().max().itemSync();
        // Far inside ±1, so that the clip of the weight gradient never acts.
        expect(largest).toBeLessThan(0.3);
        const output = layer.call(binarize(randn([4, 12, 12, 64])));
        return output.sub(output.mean()).square().mean().itemSync();
      }),
    );
  }

  it.each([
    ['Gaussian weights', nn.normal(1), 2 / Math.PI],
    ['even weights', nn.init.uniform(-1, 1), 0.75],
    // ε is 3.5 % of the deviation.
    ['the reference initialization', nn.init.uniform(0, 1e-3), 0.7],
  ])('has a variance below 1: %s', (_, initializer, expected) => {
    expect(Math.abs(variance(initializer) - expected)).toBeLessThan(0.03);
  });
});

describe('a network without batch norm', () => {
  it('has as gradient of a batch the sum of those of its samples, and trains on one', () => {
    const model = build('bn-free');
    const batch = images(3, 4);
    const whole = gradients(model, batch, [0, 1, 3]);
    const single = [0, 1, 3].map((label, at) =>
      gradients(model, batch.slice({ starts: [at], ends: [at + 1] }), [label]),
    );
    for (const [name, values] of whole) {
      const largest = Math.max(...Array.from(values, Math.abs));
      expect([name, Number.isFinite(largest)]).toEqual([name, true]);
      for (let index = 0; index < values.length; index += 1) {
        const sum = single.reduce((total, one) => total + (one.get(name)?.[index] ?? Number.NaN), 0);
        expect(Math.abs(sum - values[index]!)).toBeLessThanOrEqual(1e-5 * Math.max(largest, 1e-3));
      }
    }
  });

  it('clips gradients by the units of the released code', () => {
    const model = build('bn-free', { downsample: 'binary-weight' });
    for (const parameter of model.parameters()) parameter.grad = ones(parameter.shape).mul(1e6);
    nn.gradientTransformOf(model)?.apply(model.parameters());
    const norm = (values: Iterable<number>) => Math.hypot(...values);
    for (const [name, parameter] of model.namedParameters()) {
      const [values, gradient] = [Array.from(parameter.dataSync()), Array.from(parameter.grad!.dataSync())];
      if (name.startsWith('classifier')) {
        expect(new Set(gradient)).toEqual(new Set([1e6]));
      } else if (name.endsWith('gain')) {
        // Each by itself: all are 1.
        for (const value of gradient) expect(value).toBeCloseTo(0.02, 6);
      } else if (parameter.rank === 1) {
        // Shifts and slopes as a whole; shifts are 0 and count with 0.001.
        const limit = 0.02 * Math.max(norm(values), 1e-3);
        expect(norm(gradient) / limit).toBeCloseTo(1, 5);
      } else {
        const outputs = parameter.shape.at(-1)!;
        for (let output = 0; output < outputs; output += 1) {
          const own = (list: readonly number[]) => list.filter((_, at) => at % outputs === output);
          expect(norm(own(gradient)) / (0.02 * norm(own(values)))).toBeCloseTo(1, 5);
        }
      }
    }
    expect(nn.gradientTransformOf(build('batch'))).toBeUndefined();
    expect(nn.gradientTransformOf(build(nn.normalizations['bn-free']({ clipping: 0 })))).toBeUndefined();
  });
});

describe('methods', () => {
  it('that act behind the weights all work, and the others are refused', () => {
    const refused: string[] = [];
    for (const norm of Object.keys(nn.normalizations) as nn.NormalizationName[]) {
      try {
        expect(gradients(build(norm), images(2, 8), [0, 1]).get('blocks.0.conv.weight')?.length).toBe(81);
      } catch (error) {
        if (!(error instanceof EvenkeelError)) throw error;
        expect(error.code).toBe('UNSUPPORTED');
        refused.push(norm);
      }
    }
    expect(refused).toEqual(['ic', 'kalman', 'bnp']);
  });
});

describe('a binary block', () => {
  it.each(['zero', 'plus', 'minus'])('is its formula, with padding %s', (padding) => {
    const model = build('bn-free', { padding, downsample: 'binary-weight' }) as models.BinaryNetwork;
    noGrad(() =>
      scope(() => {
        for (const block of model.blocks.slice(5, 8)) {
          const { conv, alpha, beta } = block;
          const input = noise([2, 4, 4, conv.inChannels], 6);
          const entered = input.div(beta);
          const passed = block.shortcut?.call(entered) ?? input;
          const sum = conv.call(entered).mul(alpha).add(passed);
          const expected = block.activation!.call(sum).dataSync();
          const result = block.call(input).dataSync();
          for (const [at, value] of expected.entries()) expect(result[at]).toBeCloseTo(value, 5);
          expect([alpha, conv.paddingValue, beta > 1]).toEqual([0.25, padding, true]);
        }
        expect(model.blocks.slice(5, 8).map(({ shortcut }) => shortcut?.constructor.name)).toEqual([
          undefined,
          'DownsampleShortcut',
          undefined,
        ]);
      }),
    );
  });

  it('passes its input on twice as it is where ReActNet-A doubles the channels', () => {
    manualSeed(5);
    const model = models.reactNetA({ width: 2, stem: 'cifar', norm: 'bn-free' });
    noGrad(() =>
      scope(() => {
        const block = model.blocks[3]!;
        expect([block.conv.inChannels, block.conv.outChannels, block.conv.kernelSize]).toEqual([4, 8, [1, 1]]);
        const input = noise([2, 4, 4, 4], 9);
        const branch = block.conv.call(input.div(block.beta)).mul(0.25);
        const expected = block.activation!.call(branch.add(concatenate([input, input], -1))).dataSync();
        const result = block.call(input).dataSync();
        for (const [at, value] of expected.entries()) expect(result[at]).toBeCloseTo(value, 5);
      }),
    );
  });

  it('adds the shortcut behind batch norm', () => {
    const model = build('batch').eval() as models.BinaryNetwork;
    const block = model.blocks[6]!;
    noGrad(() =>
      scope(() => {
        const input = noise([2, 5, 5, block.conv.inChannels], 7);
        const branch = block.norm!.call(block.conv.call(input));
        const expected = block.activation!.call(branch.add(block.shortcut!.call(input))).dataSync();
        const result = block.call(input).dataSync();
        for (const [at, value] of expected.entries()) expect(result[at]).toBeCloseTo(value, 5);
      }),
    );
  });
});
