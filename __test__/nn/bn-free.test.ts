import * as models from '../../src/models';
import * as nn from '../../src/nn';
import { manualSeed, noGrad, ones, randn, scope, type Tensor, tensor } from '../../src/tensor';

const run = (model: nn.Module, input: Tensor) =>
  noGrad(() => scope(() => model.call(input).dataSync() as Float32Array));
const depth = 26;

function betas(beta: 'nfnet' | 'reference' | 'none'): string[] {
  // Four stages of four blocks, as in ReActNet-18.
  const model = models.resnetCifar({ depth: 34, stages: 4, width: 2, norm: nn.normalizations['bn-free']({ beta }) });
  const sums = model.modules().filter((module) => module instanceof nn.ScaledResidualSum);
  return sums.map((sum) => (1 / sum.beta).toFixed(4));
}

function moments(values: ArrayLike<number>): { mean: number; variance: number } {
  let mean = 0;
  for (let index = 0; index < values.length; index++) mean += values[index]! / values.length;
  let variance = 0;
  for (let index = 0; index < values.length; index++) variance += (values[index]! - mean) ** 2 / values.length;
  return { mean, variance };
}

describe('scaled standardized layers', () => {
  it('keep the variance of their input, whatever the size and the offset of the weights', () => {
    manualSeed(1);
    const input = randn([4, 12, 12, 33]);
    const layer = new nn.ScaledStandardizedConv2d({ inChannels: 33, outChannels: 40, kernelSize: 3, bias: false });
    const plain = run(layer, input);
    expect(moments(plain).variance).toBeGreaterThan(0.9);
    expect(moments(plain).variance).toBeLessThan(1.1);
    layer.weight.copyFrom(Float32Array.from(layer.weight.dataSync(), (w) => 100 * (w + 3)));
    const moved = run(layer, input);
    for (let index = 0; index < moved.length; index += 97) expect(moved[index]).toBeCloseTo(plain[index]!, 1);
    const linear = new nn.ScaledStandardizedLinear({ inFeatures: 400, outFeatures: 300, gain: false });
    expect(linear.gain).toBeUndefined();
    expect(moments(run(linear, randn([64, 400]))).variance).toBeCloseTo(1, 0);
  });

  it('multiply each output by its gain and a factor', () => {
    const options = { inChannels: 3, outChannels: 2, kernelSize: 1, bias: false } as const;
    const layer = new nn.ScaledStandardizedConv2d({ ...options, variancePreservingFactor: 2 });
    const input = randn([1, 2, 2, 3]);
    const before = run(layer, input);
    layer.gain!.copyFrom(Float32Array.of(1, -3));
    const after = run(layer, input);
    for (const [index, value] of after.entries()) {
      expect(value).toBeCloseTo(before[index]! * (index % 2 === 0 ? 1 : -3), 4);
    }
    expect(layer.gain!.decay).toBe(false);
  });

  it('have gradients at right angles to the weight, so that its size does not matter', () => {
    const layer = new nn.WeightStandardizedConv2d({ inChannels: 5, outChannels: 7, kernelSize: 3, bias: false });
    scope(() => layer.call(randn([2, 6, 6, 5])).backward(randn([2, 4, 4, 7])));
    const [weight, gradient] = [layer.weight.dataSync(), layer.weight.grad!.dataSync()];
    for (let filter = 0; filter < 7; filter++) {
      let [sum, dot, a, b] = [0, 0, 0, 0];
      for (let at = filter; at < weight.length; at += 7) {
        sum += gradient[at]!;
        dot += gradient[at]! * weight[at]!;
        a += gradient[at]! ** 2;
        b += weight[at]! ** 2;
      }
      expect(Math.abs(sum)).toBeLessThan(1e-4 * Math.sqrt(a));
      expect(Math.abs(dot)).toBeLessThan(1e-2 * Math.sqrt(a * b));
    }
  });

  it('refuse factors and epsilons that make no sense', () => {
    const options = { inChannels: 1, outChannels: 1, kernelSize: 1 };
    expect(() => new nn.ScaledStandardizedConv2d({ ...options, variancePreservingFactor: 0 })).toThrow('variancePres');
    expect(() => new nn.WeightStandardizedConv2d({ ...options, standardizationEpsilon: -1 })).toThrow('Epsilon');
    expect(() => nn.normalizations['bn-free']({ beta: 'yes' as 'none' })).toThrow('bn-free');
    expect(() => nn.normalizations['bn-free']({ alpha: -1 })).toThrow('alpha');
  });
});

describe('the expected variance', () => {
  it('follows the table of the released code', () => {
    const later = ['0.9449', '1.0000', '0.9806', '0.9623'];
    expect(betas('reference')).toEqual(['1.0000', ...later.slice(1), ...later, ...later, ...later]);
  });

  it('follows the rule of NF-ResNets', () => {
    const first = ['1.0000', '0.9806', '0.9623', '0.9449'];
    const later = ['0.9285', ...first.slice(1)];
    expect(betas('nfnet')).toEqual([...first, ...later, ...later, ...later]);
    expect(new Set(betas('none'))).toEqual(new Set(['1.0000']));
  });

  it('is what the signal has, through all blocks of a network that starts with its norm', () => {
    manualSeed(3);
    const norm = nn.normalizations['bn-free']();
    const model = models.resnetCifar({ depth, version: 2, block: 'basic', width: 16, norm });
    const variances: [number, number][] = [];
    for (const sum of model.modules()) {
      if (!(sum instanceof nn.ScaledResidualSum)) continue;
      sum.onCall((_, input) => {
        const [, shortcut] = input as nn.ResidualPair;
        variances.push([sum.beta ** 2, moments(shortcut.dataSync()).variance]);
      });
    }
    run(model, randn([8, 16, 16, 3]));
    expect(variances).toHaveLength(12);
    // Borders are padded with zeros, which takes some of the variance away; without the scaling it would grow by 1 a block.
    for (const [expected, actual] of variances) expect(Math.abs(Math.log(actual / expected))).toBeLessThan(0.7);
  });
});

describe('the gradients of a model without normalization', () => {
  it('are clipped by unit, but for the classifier', () => {
    const model = models.mlp({ inputs: 6, hidden: [5], classes: 3, norm: 'bn-free' });
    const transform = nn.gradientTransformOf(model as nn.AnyModule)!;
    const large = (parameter: Tensor) => ones(parameter.shape).mul(1e6);
    for (const parameter of model.parameters()) parameter.grad = large(parameter);
    transform.apply(model.parameters());
    for (const [name, parameter] of model.namedParameters()) {
      const [values, gradient] = [parameter.dataSync(), parameter.grad!.dataSync()];
      if (name.startsWith('classifier')) {
        expect(gradient.every((g) => g === 1e6)).toBe(true);
      } else if (name.endsWith('gain')) {
        for (const g of gradient) expect(g).toBeCloseTo(0.02, 6);
      } else if (name.endsWith('weight')) {
        const columns = parameter.shape[1]!;
        for (let column = 0; column < columns; column++) {
          let [weight, clipped] = [0, 0];
          for (let at = column; at < values.length; at += columns) {
            weight += values[at]! ** 2;
            clipped += gradient[at]! ** 2;
          }
          expect(Math.sqrt(clipped)).toBeCloseTo(0.02 * Math.sqrt(weight), 5);
        }
      }
    }
    const unclipped = models.mlp({ inputs: 6, norm: nn.normalizations['bn-free']({ clipping: 0 }) });
    expect(nn.gradientTransformOf(unclipped as nn.AnyModule)).toBeUndefined();
    expect(nn.gradientTransformOf(models.mlp({ inputs: 6 }) as nn.AnyModule)).toBeUndefined();
  });
});

describe('activations', () => {
  it.each([
    'relu',
    'leakyRelu',
    'prelu',
    'elu',
    'silu',
    'gelu',
    'geluTanh',
    'sigmoid',
    'tanh',
    'hardTanh',
    'softplus',
    'hardSwish',
  ] as const)('%s keeps the variance of standard normal values', (name) => {
    const layer = new nn.VariancePreservingActivation(name, 10);
    expect(moments(run(layer, randn([20_000, 10]))).variance).toBeCloseTo(1, 1);
    expect(run(layer, tensor([0], { shape: [1, 1] }).expand([1, 10]))).toHaveLength(10);
  });
});
