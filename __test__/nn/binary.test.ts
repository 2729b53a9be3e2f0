import { EvenkeelError } from '../../src/errors';
import * as nn from '../../src/nn';
import { Adam, adaptiveGradientClipping } from '../../src/optim';
import { binaryConv2d, manualSeed, rsign, scope, type Tensor, tensor } from '../../src/tensor';
import { expectClose } from '../support/golden';
import { noise } from './support';

function codeOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof EvenkeelError) return error.code;
    throw error;
  }
  return 'no error';
}

const names = (module: nn.AnyModule): string[] => module.namedParameters().map(([name]) => name);

/** Other values for every parameter, so that no shift is 0 and no gain 1. */
function disturb(module: nn.AnyModule): void {
  for (const [index, parameter] of module.parameters().entries()) {
    parameter.copyFrom(noise(parameter.shape, index + 1).dataSync() as Float32Array);
  }
}

describe('BinaryConv2d', () => {
  const sizes = { inChannels: 5, outChannels: 7, kernelSize: 3, padding: 1 } as const;

  it('has a latent weight alone as in XNOR-Net, and a gain and a shift as in BN-free networks', () => {
    const plain = new nn.BinaryConv2d(sizes);
    expect(names(plain)).toEqual(['weight']);
    expect(plain.weight.shape).toEqual([3, 3, 5, 7]);
    const free = new nn.BinaryConv2d({ ...sizes, activation: 'rsign', standardize: true });
    expect(names(free)).toEqual(['weight', 'gain', 'shift']);
    expect([free.weight.decay, free.gain?.decay, free.shift?.decay]).toEqual([true, false, false]);
    expect([free.gain?.shape, free.shift?.shape]).toEqual([[7], [5]]);
    expect(names(new nn.BinaryConv2d({ ...sizes, standardize: true, gain: false }))).toEqual(['weight']);
    expect(`${free}`).toContain('BinaryConv2d(inChannels: 5, outChannels: 7, kernelSize: 3, padding: 1');
    expect(`${free}`).toContain('activation: rsign, standardize: true');
  });

  it('is the operation on its parameters', () => {
    const layer = new nn.BinaryConv2d({ ...sizes, stride: 2, gain: true, activation: 'rsign', paddingValue: 'plus' });
    disturb(layer);
    const input = noise([2, 6, 5, 5], 9);
    const output = layer.call(input);
    expect(output.shape).toEqual([2, 3, 3, 7]);
    const { shift, gain, weight } = layer;
    const expected = binaryConv2d(input, weight, { shift, gain, stride: 2, padding: 1, paddingValue: 'plus' });
    expect(output.dataSync()).toEqual(expected.dataSync());
    expect(layer.multiplyAdds(input, output)).toBe(2 * 3 * 3 * 7 * 9 * 5);
    expect(layer.binaryMultiplyAdds(input, output)).toBe(2 * 3 * 3 * 7 * 9 * 5);
  });

  it('takes signs from RSign, with the same result and gradients as its own', () => {
    const results = [true, false].map((own) => {
      const layer = new nn.BinaryConv2d({ ...sizes, activation: own ? 'rsign' : 'none' });
      layer.weight.copyFrom(noise(layer.weight.shape, 1).dataSync() as Float32Array);
      const signs = new nn.RSign({ channels: 5 });
      const shift = layer.shift ?? signs.shift;
      shift.copyFrom(noise([5], 2).dataSync() as Float32Array);
      const input = noise([2, 4, 4, 5], 3);
      input.requiresGrad = true;
      const output = layer.call(own ? input : signs.call(input));
      output.backward(noise(output.shape, 4));
      return [output, input.grad!, shift.grad!, layer.weight.grad!].map((t) => t.dataSync());
    });
    for (const [index, values] of results[0]!.entries()) expectClose(results[1]![index]!, values, 1e-5);
  });

  it.each(['zero', 'plus', 'minus'] as const)('meets float weights in the first of two steps (%s)', (paddingValue) => {
    for (const standardize of [false, true]) {
      const options = { ...sizes, inChannels: 4, standardize, gain: true, paddingValue, binaryWeights: false };
      const layer = new nn.BinaryConv2d(options);
      disturb(layer);
      // Filters of as many 0.5 as -0.5 are their own scaled signs, with and without standardization.
      layer.weight.copyFrom(Float32Array.from({ length: layer.weight.size }, (_, i) => (Math.floor(i / 7) % 2) - 0.5));
      const input = noise([2, 4, 5, 4], 5);
      const float = layer.call(input).dataSync();
      expect(layer.binaryMultiplyAdds(input, input)).toBe(0);
      layer.binaryWeights = true;
      expectClose(layer.call(input).dataSync(), float, 1e-5);
    }
  });

  it('refuses what it cannot do', () => {
    const make = (options: object) => codeOf(() => new nn.BinaryConv2d({ ...sizes, ...options }));
    expect(make({ bias: true })).toBe('INVALID_ARGUMENT');
    expect(make({ inChannels: 0 })).toBe('INVALID_ARGUMENT');
    expect(make({ kernelSize: 0 })).toBe('INVALID_ARGUMENT');
    expect(make({ activation: 'relu' })).toBe('INVALID_ARGUMENT');
    expect(make({ activation: 'none', activationGradient: 'steClip' })).toBe('INVALID_ARGUMENT');
    expect(make({ activationGradientParameter: 2 })).toBe('INVALID_ARGUMENT');
    expect(make({ standardizationEpsilon: -1 })).toBe('INVALID_ARGUMENT');
  });
});

describe('BinaryLinear', () => {
  it('is a product of signs, with a float weight in the first of two steps', () => {
    const layer = new nn.BinaryLinear({ inFeatures: 33, outFeatures: 4, standardize: true, activation: 'rsign' });
    expect(names(layer)).toEqual(['weight', 'gain', 'shift']);
    const input = noise([3, 2, 33], 1);
    const binary = layer.call(input);
    expect(binary.shape).toEqual([3, 2, 4]);
    layer.binaryWeights = false;
    expect(layer.call(input).shape).toEqual([3, 2, 4]);
    expect(layer.multiplyAdds(input, binary)).toBe(6 * 4 * 33);
    expect(`${layer}`).toContain('BinaryLinear(inFeatures: 33, outFeatures: 4, activation: rsign, standardize: true');
    expect(codeOf(() => layer.call(noise([3, 5], 1)))).toBe('SHAPE_MISMATCH');
  });
});

describe('RSign and RPReLU', () => {
  it('start as a sign and a PReLU and know their parameters', () => {
    const [sign, activation] = [new nn.RSign({ channels: 3 }), new nn.RPReLU({ channels: 3 })];
    expect(names(sign)).toEqual(['shift']);
    expect(names(activation)).toEqual(['shiftIn', 'slope', 'shiftOut']);
    expect([...sign.parameters(), ...activation.parameters()].every(({ decay }) => !decay)).toBe(true);
    const input = tensor([-2, 0, 3], { shape: [1, 3] });
    expect([...sign.call(input).dataSync()]).toEqual([-1, 1, 1]);
    expect([...activation.call(input).dataSync()]).toEqual([-0.5, 0, 3]);
    sign.shift.copyFrom(new Float32Array([3, -1, 0]));
    expect(sign.call(input).dataSync()).toEqual(rsign(input, sign.shift).dataSync());
    expect(codeOf(() => new nn.RSign({ channels: 3, activationGradient: 'none' as 'identity' }))).toBe(
      'INVALID_ARGUMENT',
    );
    expect(codeOf(() => new nn.RPReLU({ channels: 0 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => new nn.RPReLU({ channels: 2, slope: Number.NaN }))).toBe('INVALID_ARGUMENT');
  });
});

/** A block as of a BN-free ReActNet: two binary convolutions with shortcuts between a float stem and head. */
class SmallNetwork extends nn.Module {
  readonly stem = new nn.ScaledStandardizedConv2d({ inChannels: 2, outChannels: 16, kernelSize: 3, padding: 1 });
  readonly convolutions = [0, 1].map(
    () =>
      new nn.BinaryConv2d({
        inChannels: 16,
        outChannels: 16,
        kernelSize: 3,
        padding: 1,
        activation: 'rsign',
        standardize: true,
      }),
  );
  readonly activations = [0, 1].map(() => new nn.RPReLU({ channels: 16 }));
  readonly pool = new nn.GlobalAvgPool();
  readonly head = new nn.Linear({ inFeatures: 16, outFeatures: 3 });

  override forward(input: Tensor): Tensor {
    let x = this.stem.call(input);
    for (const [index, convolution] of this.convolutions.entries()) {
      x = this.activations[index]!.call(convolution.call(x).mul(0.2).add(x));
    }
    return this.head.call(this.pool.call(x));
  }
}

describe('a BN-free binary network', () => {
  it('gives a sample the same output alone as in a batch, also in training', () => {
    manualSeed(1);
    const model = new SmallNetwork();
    const images = noise([3, 6, 6, 2], 1);
    const together = model.call(images).dataSync();
    const values = images.dataSync() as Float32Array;
    for (let sample = 0; sample < 3; sample++) {
      const alone = tensor(values.slice(sample * 72, (sample + 1) * 72), { shape: [1, 6, 6, 2] });
      expect(model.call(alone).dataSync()).toEqual(together.slice(3 * sample, 3 * sample + 3));
    }
  });

  it('learns, and keeps learning when its weights become binary', () => {
    manualSeed(3);
    const model = new SmallNetwork();
    for (const convolution of model.convolutions) convolution.binaryWeights = false;
    // Three classes by the direction of stripes.
    const [count, size] = [24, 6];
    const labels = Int32Array.from({ length: count }, (_, index) => index % 3);
    const jitter = noise([count, size, size, 2], 5).dataSync() as Float32Array;
    const pixels = Float32Array.from(jitter, (value, index) => {
      const [x, y] = [Math.floor(index / 2) % size, Math.floor(index / 2 / size) % size];
      const label = labels[Math.floor(index / 2 / size / size)]!;
      const phase = label === 0 ? x : label === 1 ? y : x + y;
      return (phase % 2 === 0 ? 1 : -1) + 0.3 * value;
    });
    const images = tensor(pixels, { shape: [count, size, size, 2] });
    const targets = tensor(labels, { shape: [count] });
    const loss = new nn.CrossEntropyLoss();
    const train = (steps: number): number => {
      const optimizer = new Adam(model.parameters(), { learningRate: 0.01 });
      let last = Number.NaN;
      for (let step = 0; step < steps; step++) {
        optimizer.zeroGrad();
        scope(() => {
          const value = loss.call(model.call(images), targets);
          value.backward();
          last = value.itemSync();
        });
        adaptiveGradientClipping(
          model.namedParameters().flatMap(([name, parameter]) => (name.startsWith('head') ? [] : [parameter])),
          { clipping: 0.05 },
        );
        optimizer.step();
      }
      optimizer.dispose();
      return last;
    };
    const first = train(1);
    const floatWeights = train(40);
    expect(floatWeights).toBeLessThan(0.5 * first);
    for (const convolution of model.convolutions) convolution.binaryWeights = true;
    expect(train(60)).toBeLessThan(0.3 * first);
  });
});
