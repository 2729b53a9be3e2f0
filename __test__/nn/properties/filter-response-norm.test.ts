/** The testable properties of Filter Response Normalization (Singh and Krishnan 2020) by their numbers; F13 to F16 need long training. */
import { gradcheck, manualSeed, models, nn, optim, randn, scope, type Tensor, tensor } from '../../../src';
import { noise } from '../support';

const values = (value: Tensor): number[] => [...value.dataSync()];
const leaf = (value: Tensor): Tensor => tensor(value.dataSync(), { shape: value.shape, requiresGrad: true });
const largest = (numbers: readonly number[]) => numbers.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const difference = (first: Tensor, second: Tensor) => scope(() => largest(values(first.sub(second))));

/** The norm without scale, shift and threshold. */
const plain = (channels: number, options: object = {}) =>
  new nn.FilterResponseNorm({ channels, affine: false, threshold: false, ...options });

/** A layer whose parameters are all away from their first values. */
function irregularLayer(channels: number, options: object = {}): nn.FilterResponseNorm {
  const layer = new nn.FilterResponseNorm({ channels, ...options });
  layer.gamma!.copyFrom(noise([channels], 11).add(0.3).dataSync());
  layer.beta!.copyFrom(noise([channels], 12).dataSync());
  (layer.tau ?? layer.unit!.tau).copyFrom(noise([channels], 13).mul(0.3).dataSync());
  layer.unit?.alpha?.copyFrom(noise([channels], 14).mul(0.2).dataSync());
  return layer;
}

const kinds = [{}, { learnedEpsilon: true }, { affineThreshold: true }] as const;

describe.each(kinds)('with %j', (options) => {
  it.each([
    [5, 3, 7],
    [1, 1, 17],
  ])(
    'F1, F2: output and input gradient of a sample do not depend on the others, bit for bit, on %i × %i maps',
    (...map) => {
      const layer = irregularLayer(map[2], options);
      const [sample, other, garbage] = [noise([1, ...map], 1), noise([1, ...map], 2), noise([1, ...map], 3).mul(1e30)];
      const gradient = noise([1, ...map], 4);
      const run = (batch: readonly Tensor[], at: number) => {
        const size = map[0] * map[1] * map[2];
        const join = (parts: readonly Tensor[]) =>
          tensor(parts.flatMap(values), { shape: [parts.length, ...map], requiresGrad: true });
        const input = join(batch);
        const output = layer.call(input);
        output.backward(join(batch.map(() => gradient)));
        return [output, input.grad!].map((each) => values(each).slice(at * size, (at + 1) * size));
      };
      const alone = run([sample], 0);
      expect(run([other, sample, other], 1)).toEqual(alone);
      expect(run([sample, garbage, garbage.mul(Number.NaN)], 0)).toEqual(alone);
    },
  );

  it('F5: training is evaluation, and there is no state but parameters', () => {
    const layer = irregularLayer(5, options);
    const input = noise([3, 4, 4, 5], 1);
    expect(values(layer.eval().call(input))).toEqual(values(layer.train().call(input)));
    expect(layer.namedBuffers()).toEqual([]);
  });

  it.each([[[3, 5]], [[2, 7, 3]], [[2, 3, 2, 4]], [[2, 2, 2, 2, 3]]])(
    'F9: gradients into everything agree with finite differences for inputs %j',
    async (shape) => {
      const layer = irregularLayer(shape.at(-1)!, { ...options, epsilon: 0.05 });
      layer.epsilonOffset?.copyFrom(Float32Array.of(-0.2));
      const input = leaf(noise(shape, 5));
      const parameters = layer.parameters();
      // A small step, so that no value crosses its threshold.
      const result = await gradcheck((x) => layer.call(x!), [input, ...parameters], { step: 1e-3 });
      expect(result).toMatchObject({ passed: true });
    },
  );
});

describe('the norm', () => {
  it('F3: brings the mean square to 1, less what epsilon takes', () => {
    for (const scale of [1, 0.1, 1e-3, 1e-4]) {
      manualSeed(1);
      const input = randn([4, 8, 8, 5]).mul(scale);
      const over = { axes: [1, 2] } as const;
      const square = values(input.square().mean(over));
      const normalized = values(plain(5).call(input).square().mean(over));
      for (const [at, value] of normalized.entries()) {
        expect(Math.abs(value - square[at]! / (square[at]! + 1e-6))).toBeLessThan(1e-5);
        if (square[at]! >= 0.1) expect(Math.abs(value - 1)).toBeLessThan(2e-5);
      }
    }
  });

  it('F4: keeps channels apart, bit for bit', () => {
    const [input, other] = [noise([2, 3, 3, 7], 1), noise([2, 3, 3, 7], 1)];
    other.copyFrom(Float32Array.from(input.dataSync(), (value, at) => (at % 7 === 2 ? 9 * value + 1 : value)));
    const layer = irregularLayer(7);
    const [first, second] = [input, other].map((each) => values(layer.call(each)));
    const changed = first!.flatMap((value, at) => (value === second![at] ? [] : [at % 7]));
    expect([...new Set(changed)]).toEqual([2]);
  });

  it('F6: does not see the scale, until epsilon is felt', () => {
    manualSeed(2);
    const input = randn([3, 8, 8, 4]).mul(Math.sqrt(10));
    const change = (scale: number) => difference(plain(4).call(input.mul(scale)), plain(4).call(input));
    for (const scale of [10, 1000]) expect(change(scale)).toBeLessThan(2e-6);
    expect(change(0.01)).toBeGreaterThan(1e-4);
    expect(change(0.001)).toBeGreaterThan(0.05);
  });

  it('F7: sees a shift of a channel, which instance norm does not', () => {
    manualSeed(3);
    const input = randn([2, 8, 8, 3]);
    const instance = new nn.InstanceNorm({ channels: 3, affine: false });
    expect(difference(plain(3).call(input.add(1)), plain(3).call(input))).toBeGreaterThan(0.1);
    expect(difference(instance.call(input.add(1)), instance.call(input))).toBeLessThan(1e-5);
  });

  it('F8: TLU is a ReLU with the threshold taken off before and added after, and ReLU at first', () => {
    const input = noise([50, 20], 1);
    const unit = new nn.ThresholdedLinearUnit({ channels: 20 });
    expect(values(unit.call(input))).toEqual(values(input.relu()));
    unit.tau.copyFrom(noise([20], 2).dataSync());
    expect(difference(unit.call(input), input.sub(unit.tau).relu().add(unit.tau))).toBeLessThan(5e-7);
    const affine = new nn.ThresholdedLinearUnit({ channels: 20, affine: true });
    affine.tau.copyFrom(unit.tau.dataSync());
    expect(values(affine.call(input))).toEqual(values(unit.call(input)));
    affine.alpha!.copyFrom(new Float32Array(20).fill(0.25));
    const expected = values(input.maximum(input.mul(0.25).add(unit.tau)));
    expect(values(affine.call(input))).toEqual(expected);
    // Of a pair, the sum: in one pass without a slope.
    const shortcut = noise([50, 20], 3);
    for (const layer of [unit, affine]) {
      expect(values(layer.call([input, shortcut]))).toEqual(values(layer.call(input.add(shortcut))));
    }
  });

  it('F10: gradients are orthogonal to input and weight, as far as epsilon lets them be', () => {
    const [input, gradient] = [leaf(noise([3, 4, 4, 5], 1)), noise([3, 4, 4, 5], 2)];
    const output = plain(5, { epsilon: 0.5 }).call(input);
    output.backward(gradient);
    // Σ gx x = B ε r², with B = Σ g x̂ and r² = 1 / (ν² + ε), for each sample and channel.
    const over = { axes: [1, 2] } as const;
    const radial = values(input.grad!.mul(input).sum(over));
    const products = values(gradient.mul(output).sum(over));
    const squares = values(input.square().mean(over));
    for (const [at, value] of radial.entries()) {
      expect(value).toBeCloseTo((products[at]! * 0.5) / (squares[at]! + 0.5), 4);
    }
    const conv = new nn.Conv2d({ inChannels: 5, outChannels: 7, kernelSize: 3, bias: false });
    const cosine = (epsilon: number) => {
      conv.zeroGrad();
      const result = plain(7, { epsilon }).call(conv.call(noise([3, 4, 4, 5], 1)));
      result.backward(noise(result.shape, 3));
      const [weight, slope] = [values(conv.weight), values(conv.weight.grad!)];
      const product = weight.reduce((sum, value, at) => sum + value * slope[at]!, 0);
      return Math.abs(product) / Math.hypot(...weight) / Math.hypot(...slope);
    };
    expect(cosine(1e-6)).toBeLessThan(1e-5);
    expect(cosine(1)).toBeGreaterThan(1e-3);
  });

  it('F11: a single position makes a sign of the input, and a learned epsilon smooths it', () => {
    for (const [options, epsilon] of [
      [{}, 1e-6],
      [{ learnedEpsilon: true }, 1.01e-4],
      [{ learnedEpsilon: true, epsilonForm: 'exponential' }, 1.01e-4],
      [{ epsilon: 1e-2 }, 1e-2],
      [{ epsilon: 1 }, 1],
    ] as const) {
      for (const x of [0, 0.1, 1]) {
        const input = tensor([x], { shape: [1, 1, 1, 1], requiresGrad: true });
        plain(1, options).call(input).sum().backward();
        const slope = epsilon / (x ** 2 + epsilon) ** 1.5;
        expect(Math.abs(values(input.grad!)[0]! / slope - 1)).toBeLessThan(1e-4);
      }
    }
  });

  it('F12: gradients of a batch are the mean of those of its samples, in a whole network, which batch norm breaks', () => {
    const gradients = (norm: nn.NormalizationName, apart: boolean): number[] => {
      manualSeed(4);
      const model = models.resnetCifar({ depth: 8, width: 4, norm, version: 2 });
      const [images, labels] = [noise([4, 8, 8, 3], 1), tensor([1, 7, 3, 3], { dtype: 'int32' })];
      const parts = apart ? [0, 1, 2, 3].map((at) => [at, at + 1] as const) : [[0, 4] as const];
      for (const [start, end] of parts) {
        const range = { starts: [start], ends: [end] };
        scope(() => {
          const loss = new nn.CrossEntropyLoss().call(model.call(images.slice(range)), labels.slice(range));
          loss.mul(1 / parts.length).backward();
        });
      }
      return model.parameters().flatMap(({ grad }) => (grad === undefined ? [] : values(grad)));
    };
    const relative = (norm: nn.NormalizationName) => {
      const [together, apart] = [gradients(norm, false), gradients(norm, true)];
      return Math.hypot(...together.map((value, at) => value - apart[at]!)) / Math.hypot(...together);
    };
    for (const norm of ['frn', 'group', 'layer', 'rms', 'proxy', 'evonorm-s0'] as const) {
      expect([norm, relative(norm) < 1e-5]).toEqual([norm, true]);
    }
    expect(relative('batch')).toBeGreaterThan(0.1);
  });
});

describe('a learned epsilon', () => {
  it('is in the layers whose maps have one position, and nowhere else', () => {
    const offsets = (model: nn.Module) =>
      model.namedModules().flatMap(([name, module]) => {
        if (!(module instanceof nn.FilterResponseNorm)) return [];
        return module.epsilonOffset === undefined ? [] : [name];
      });
    const small = { norm: 'frn', classes: 3 } as const;
    expect(offsets(models.inceptionV3({ ...small, width: 2 }))).toEqual(['auxiliary.conv2.norm']);
    expect(offsets(models.vggA({ ...small, width: 2, normalizeLinear: true }))).toHaveLength(2);
    expect(offsets(models.mlp({ ...small, inputs: 3 }))).toHaveLength(2);
    expect(offsets(models.resnetCifar({ ...small, depth: 8, width: 2 }))).toEqual([]);
  });

  it.each([
    [{}, 1e-3],
    [{ epsilonForm: 'exponential' }, 1],
    [{ epsilonLearningRateScale: 0.5 }, 0.5],
  ] as const)('moves at its own rate with %j, in a list and in groups', (options, scale) => {
    for (const grouped of [false, true]) {
      const layer = new nn.FilterResponseNorm({ channels: 3, learnedEpsilon: true, ...options });
      const [before, gamma] = [values(layer.epsilonOffset!)[0]!, values(layer.gamma!)[0]!];
      const parameters = grouped ? optim.parameterGroups(layer, { weightDecay: 0 }) : layer.parameters();
      const optimizer = new optim.SGD(parameters as Tensor[], { learningRate: 0.25 });
      for (const parameter of layer.parameters()) parameter.grad = tensor(new Float32Array(parameter.size).fill(0.125));
      optimizer.step();
      expect(values(layer.epsilonOffset!)[0]).toBeCloseTo(before - 0.25 * 0.125 * scale, 6);
      expect(values(layer.gamma!)[0]).toBeCloseTo(gamma - 0.25 * 0.125, 6);
    }
  });

  it('and thresholds with a slope refuse what makes no sense', () => {
    expect(() => new nn.FilterResponseNorm({ channels: 2, epsilonLearningRateScale: 0 })).toThrow('LearningRateScale');
    expect(() => plain(2, { affineThreshold: true })).toThrow('affineThreshold');
  });

  it('has its options in the method, the affine threshold also behind a sum', () => {
    const norm = nn.normalizations.frn({ affineThreshold: true, epsilonLearningRateScale: 0.01 });
    const model = models.resnetCifar({ depth: 8, width: 4, norm });
    const norms = model.modules().filter((module) => module instanceof nn.FilterResponseNorm);
    expect(norms.every(({ unit, tau }) => unit !== undefined && tau === undefined)).toBe(true);
    const units = model.modules().filter((module) => module instanceof nn.ThresholdedLinearUnit);
    expect(units.length).toBeGreaterThan(norms.length);
    expect(units.every(({ alpha }) => alpha !== undefined)).toBe(true);
    const labels = tensor([1, 2], { dtype: 'int32' });
    scope(() => new nn.CrossEntropyLoss().call(model.call(noise([2, 8, 8, 3], 1)), labels).backward());
    expect(units.every(({ alpha }) => alpha!.grad!.dataSync().every(Number.isFinite))).toBe(true);
  });
});
