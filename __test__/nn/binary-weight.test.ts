import * as nn from '../../src/nn';
import { binaryWeight, gradcheck, noGrad, type Tensor, tensor } from '../../src/tensor';
import { noise } from './support';

const data = (value: Tensor) => noGrad(() => Array.from(value.dataSync()));

/** `gain · mean|w| · sign(w)` of a weight `[inputs, outputs]`. */
function expected(weight: readonly number[], outputs: number, gain: readonly number[]): number[] {
  const scales = Array.from({ length: outputs }, (_, output) => {
    const own = weight.filter((_, at) => at % outputs === output);
    return own.reduce((sum, value) => sum + Math.abs(value), 0) / own.length;
  });
  return weight.map((value, at) => scales[at % outputs]! * gain[at % outputs]! * (value >= 0 ? 1 : -1));
}

describe('binaryWeight', () => {
  it('is the scaled sign, with the gradient of its rule', () => {
    const weight = noise([5, 3], 1).mul(0.8);
    weight.requiresGrad = true;
    const gain = tensor([1, -2, 0.5]);
    gain.requiresGrad = true;
    const output = binaryWeight(weight, { gain });
    for (const [at, value] of expected(data(weight), 3, [1, -2, 0.5]).entries()) {
      expect(data(output)[at]).toBeCloseTo(value, 6);
    }
    const upstream = noise([5, 3], 2);
    output.backward(upstream);
    const [w, g] = [data(weight), data(upstream)];
    // The scale is left out of the latent weight's gradient, and weights beyond ±1 get none.
    const wanted = w.map((value, at) => (Math.abs(value) <= 1 ? g[at]! * [1, -2, 0.5][at % 3]! : 0));
    expect(w.some((value) => Math.abs(value) > 1)).toBe(true);
    for (const [at, value] of data(weight.grad!).entries()) expect(value).toBeCloseTo(wanted[at]!, 6);
    const signs = expected(w, 3, [1, 1, 1]);
    for (const [output_, value] of data(gain.grad!).entries()) {
      const sum = signs.reduce((total, sign, at) => (at % 3 === output_ ? total + sign * g[at]! : total), 0);
      expect(value).toBeCloseTo(sum, 5);
    }
  });

  it('refuses what does not fit', () => {
    expect(() => binaryWeight(tensor([[1, 2]]), { gain: tensor([1]) })).toThrow('gain');
    expect(() => binaryWeight(tensor([[1]]), { weightGradient: 'none' as never })).toThrow('weightGradient');
  });
});

describe('BinaryWeightConv2d', () => {
  const options = { inChannels: 3, outChannels: 5, kernelSize: 1 } as const;

  it('convolves real values with binary weights, and with the float weight in step 1', () => {
    const layer = new nn.BinaryWeightConv2d({ ...options, standardize: true, stride: 2 });
    const float = new nn.ScaledStandardizedConv2d({ ...options, stride: 2, bias: false });
    float.weight.copyFrom(layer.weight.dataSync());
    const input = noise([2, 5, 4, 3], 3);
    layer.binaryWeights = false;
    expect(data(layer.call(input))).toEqual(data(float.call(input)));
    layer.binaryWeights = true;
    const plain = new nn.Conv2d({ ...options, stride: 2, bias: false });
    plain.weight.copyFrom(Float32Array.from(expected(data(layer.latentWeight()), 5, [1, 1, 1, 1, 1])));
    const result = data(layer.call(input));
    for (const [at, value] of data(plain.call(input)).entries()) expect(result[at]).toBeCloseTo(value, 5);
    expect(layer.binaryMultiplyAdds()).toBe(0);
    expect(String(layer)).toBe(
      'BinaryWeightConv2d(inChannels: 3, outChannels: 5, kernelSize: 1, stride: 2, standardize: true)',
    );
  });

  it('has the gradient of a convolution with respect to its input', async () => {
    const layer = new nn.BinaryWeightConv2d({ ...options, kernelSize: 3, padding: 1 });
    const input = noise([1, 3, 3, 3], 4);
    input.requiresGrad = true;
    expect((await gradcheck((images) => layer.call(images!), [input])).passed).toBe(true);
  });
});
