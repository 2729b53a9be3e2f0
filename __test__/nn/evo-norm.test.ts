import { gradcheck, nn, type Tensor, tensor } from '../../src';
import { expectClose } from '../support/golden';
import { noise } from './support';

const values = (value: Tensor): number[] => [...value.dataSync()];

/** The biased variance of a list, in float64. */
function varianceOf(list: readonly number[]): number {
  const mean = list.reduce((sum, value) => sum + value, 0) / list.length;
  return list.reduce((sum, value) => sum + (value - mean) ** 2, 0) / list.length;
}

/** Overwrites the parameters of a layer with irregular numbers around 1. */
function disturb(layer: nn.Module): void {
  for (const [index, parameter] of layer.parameters().entries()) {
    parameter.copyFrom(Float32Array.from(values(noise(parameter.shape, index + 5)), (value) => 0.9 + value / 4));
  }
}

/** Indices of an input `[batch, positions, channels]`. */
const at = (shape: readonly number[], sample: number, position: number, channel: number): number =>
  (sample * shape[1]! + position) * shape[2]! + channel;

const shapes = [
  [2, 6, 1],
  [1, 4, 3],
  [3, 4, 16],
  [2, 9, 33],
  [4, 1, 8],
] as const;

describe('the definition', () => {
  it.each(shapes)('EvoNorm-S0 of %i × %i × %i', (...shape) => {
    const layer = new nn.EvoNormS0({ channels: shape[2] });
    disturb(layer);
    const input = noise(shape, 1);
    const x = values(input);
    const [gamma, beta, slope] = [layer.gamma!, layer.beta!, layer.slope!].map(values);
    const width = shape[2] / layer.groups;
    const expected = x.map((value, index) => {
      const [sample, channel] = [Math.floor(index / (shape[1] * shape[2])), index % shape[2]];
      const group = Math.floor(channel / width);
      const set = Array.from({ length: shape[1] * width }, (_, member) =>
        x.at(at(shape, sample, Math.floor(member / width), group * width + (member % width))),
      ) as number[];
      const gate = value / (1 + Math.exp(-slope![channel]! * value));
      return (gamma![channel]! * gate) / Math.sqrt(varianceOf(set) + 1e-5) + beta![channel]!;
    });
    expectClose(values(layer.call(input)), expected, 2e-6);
  });

  it.each(shapes)('EvoNorm-B0 of %i × %i × %i, in training and evaluation', (...shape) => {
    const layer = new nn.EvoNormB0({ channels: shape[2] });
    disturb(layer);
    const input = noise(shape, 2);
    const x = values(input);
    const [gamma, beta, slope] = [layer.gamma!, layer.beta!, layer.slope!].map(values);
    const expected = (wholeVariance: (channel: number) => number) =>
      x.map((value, index) => {
        const [sample, channel] = [Math.floor(index / (shape[1] * shape[2])), index % shape[2]];
        const own = Array.from({ length: shape[1] }, (_, position) => x[at(shape, sample, position, channel)]!);
        const divisor = Math.max(
          Math.sqrt(wholeVariance(channel) + 1e-5),
          slope![channel]! * value + Math.sqrt(varianceOf(own) + 1e-5),
        );
        return (gamma![channel]! * value) / divisor + beta![channel]!;
      });
    const ofBatch = (channel: number) => varianceOf(x.filter((_, index) => index % shape[2] === channel));
    expectClose(values(layer.call(input)), expected(ofBatch), 2e-6);
    const running = values(layer.runningVariance);
    expectClose(
      running,
      running.map((_, channel) => 0.9 + 0.1 * ofBatch(channel)),
      1e-6,
    );
    expectClose(
      values(layer.eval().call(input)),
      expected((channel) => running[channel]!),
      2e-6,
    );
  });
});

describe('gradients', () => {
  const check = async (layer: nn.EvoNormS0 | nn.EvoNormB0, shape: readonly number[]) => {
    disturb(layer);
    const input = noise(shape, 4);
    input.requiresGrad = true;
    const inputs = [input, ...layer.parameters()];
    const result = await gradcheck((x) => layer.forward(x!), inputs, { step: 1e-3, tolerance: 1e-2 });
    expect(result).toMatchObject({ passed: true });
  };

  it('of EvoNorm-S0', () => check(new nn.EvoNormS0({ channels: 8, groups: 2 }), [2, 2, 3, 8]));
  it('of EvoNorm-B0 in training', () => check(new nn.EvoNormB0({ channels: 3 }), [3, 2, 2, 3]));
  it('of EvoNorm-B0 in evaluation', () => check(new nn.EvoNormB0({ channels: 3 }).eval(), [3, 2, 2, 3]));
  it('without nonlinearity', () => check(new nn.EvoNormB0({ channels: 3, nonlinearity: false }), [3, 3]));
});

describe('properties', () => {
  it('S0 gives a sample the same bits alone and in any batch', () => {
    const layer = new nn.EvoNormS0({ channels: 17 });
    const batch = noise([3, 5, 5, 17], 1);
    const alone = values(layer.call(batch.slice({ starts: [1], ends: [2] })));
    expect(alone).toEqual(values(layer.call(batch)).slice(alone.length, 2 * alone.length));
  });

  it('B0 with v = 0 divides by the larger standard deviation', () => {
    const layer = new nn.EvoNormB0({ channels: 1, epsilon: 0 });
    layer.slope!.copyFrom(new Float32Array([0]));
    // Deviations 4 and 0 of the instances, 3 of the batch.
    const output = layer.call(tensor([-4, 4, 2, 2], { shape: [2, 2, 1] }));
    expectClose(values(output), [-1, 1, 2 / 3, 2 / 3], 1e-6);
  });

  it.each([true, false])('B0 gives numbers for zeros without epsilon (training: %p)', (training) => {
    const layer = new nn.EvoNormB0({ channels: 1, epsilon: 0 });
    layer.beta!.copyFrom(new Float32Array([3]));
    layer.runningVariance.copyFrom(new Float32Array([0]));
    if (!training) layer.eval();
    const input = tensor([0, 0, 0, 0], { shape: [2, 2, 1], requiresGrad: true });
    const output = layer.call(input);
    expect(values(output)).toEqual([3, 3, 3, 3]);
    output.sum().backward();
    for (const { grad } of [input, ...layer.parameters()]) {
      expect(values(grad!).every(Number.isFinite)).toBe(true);
    }
  });

  it('B0 keeps its running variance when a batch is not finite', () => {
    const layer = new nn.EvoNormB0({ channels: 2 });
    layer.call(noise([4, 2], 3));
    const before = values(layer.runningVariance);
    layer.call(tensor([1, 2, 3, Number.POSITIVE_INFINITY], { shape: [2, 2] }));
    expect(values(layer.runningVariance)).toEqual(before);
    const other = new nn.EvoNormB0({ channels: 2 });
    other.loadStateDict(layer.stateDict());
    const input = noise([3, 2], 8);
    expect(values(other.eval().call(input))).toEqual(values(layer.eval().call(input)));
  });

  it('takes the place of every activation, after the sum of a block of version 1', () => {
    for (const norm of ['evonorm-s0', 'evonorm-b0'] as const) {
      const model = nn.resolveNormalization(norm);
      const build = new nn.NormalizedLayers({ norm: model, activation: 'silu' });
      expect(build.unit({ channels: 4 }).toString()).toMatch(/^EvoNorm[SB]0\(channels: 4\)$/);
      expect(build.unit({ channels: 4, activation: 'none' }).toString()).toMatch(/nonlinearity: false/);
      const sum = build.sumUnit(
        { channels: 4 },
        build.residual({ channels: 4, stage: 0, block: 0, transition: false }),
      );
      expect(sum.children().map((child) => child.toString())).toEqual([
        expect.stringMatching(/nonlinearity: false/),
        expect.stringMatching(/ResidualSum/),
        expect.stringMatching(/^EvoNorm[SB]0\(channels: 4\)$/),
      ]);
    }
  });

  it('refuses shapes and groups that do not fit', () => {
    expect(() => new nn.EvoNormS0({ channels: 6, groups: 4 })).toThrow(/divide/);
    expect(() => new nn.EvoNormB0({ channels: 6 }).call(noise([2, 5], 1))).toThrow(/expected an input/);
  });
});
