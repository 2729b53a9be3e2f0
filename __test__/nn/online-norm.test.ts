import { nn, scope, type Tensor, tensor } from '../../src';
import { EvenkeelError } from '../../src/errors';
import { expectClose } from '../support/golden';
import { noise } from './support';

const values = (value: Tensor): number[] => [...value.dataSync()];

/** The recurrences of the paper in float64, sample by sample, for `[batch, positions, channels]`; they move `state`. */
function oracle(
  input: readonly number[],
  [batch, positions, channels]: readonly [number, number, number],
  state: { mean: number[]; variance: number[]; output: number[]; sum: number[] },
  gradient: readonly number[],
  { keep = 0.999, gradientKeep = 0.99, epsilon = 1e-5 } = {},
) {
  const [y, dx] = [input.map(() => 0), input.map(() => 0)];
  for (let channel = 0; channel < channels; channel++) {
    const at = (sample: number) =>
      Array.from({ length: positions }, (_, p) => (sample * positions + p) * channels + channel);
    const average = (numbers: number[]) => numbers.reduce((total, value) => total + value, 0) / positions;
    const deviations: number[] = [];
    for (let sample = 0; sample < batch; sample++) {
      const indices = at(sample);
      const deviation = Math.sqrt(state.variance[channel]! + epsilon);
      deviations.push(deviation);
      for (const index of indices) y[index] = (input[index]! - state.mean[channel]!) / deviation;
      const mean = average(indices.map((index) => input[index]!));
      const variance = average(indices.map((index) => (input[index]! - mean) ** 2));
      const distance = mean - state.mean[channel]!;
      state.variance[channel] =
        keep * state.variance[channel]! + (1 - keep) * variance + keep * (1 - keep) * distance ** 2;
      state.mean[channel]! += (1 - keep) * distance;
    }
    for (let sample = 0; sample < batch; sample++) {
      const indices = at(sample);
      const before = state.output[channel]!;
      const a = indices.map((index) => gradient[index]! - (1 - gradientKeep) * before * y[index]!);
      state.output[channel]! += average(a.map((value, p) => value * y[indices[p]!]!));
      const sum = state.sum[channel]!;
      for (const [p, index] of indices.entries()) dx[index] = a[p]! / deviations[sample]! - (1 - gradientKeep) * sum;
      state.sum[channel]! += average(indices.map((index) => dx[index]!));
    }
  }
  return { y, dx };
}

const fresh = (channels: number) => ({
  mean: Array<number>(channels).fill(0),
  variance: Array<number>(channels).fill(1),
  output: Array<number>(channels).fill(0),
  sum: Array<number>(channels).fill(0),
});

/** Forward and backward of one batch; the gradient of the output is irregular. */
function pass(layer: nn.OnlineNorm, input: Tensor, gradient: Tensor) {
  const x = tensor(input.dataSync(), { shape: input.shape, requiresGrad: true });
  const output = scope(() => layer.call(x));
  output.backward(gradient);
  return { y: values(output), dx: values(x.grad!) };
}

describe('the recurrences', () => {
  it.each([
    [1, 1, 1],
    [1, 9, 7],
    [2, 4, 3],
    [5, 1, 16],
    [16, 4, 17],
    [33, 2, 2],
    [300, 1, 2],
  ] as const)('in float64 agree, forward and backward, for %i samples of %i × %i', (...shape) => {
    const [batch, positions, channels] = shape;
    // Weights that fade fast, so that every part counts.
    const options = { keep: 0.9, gradientKeep: 0.8 };
    const layer = new nn.OnlineNorm({ channels, affine: false, guard: 'none', ...options });
    const state = fresh(channels);
    for (const seed of [1, 2, 3]) {
      const [input, gradient] = [
        noise([batch, positions, channels], seed),
        noise([batch, positions, channels], seed + 9),
      ];
      const expected = oracle(values(input), [batch, positions, channels], state, values(gradient), options);
      const actual = pass(layer, input, gradient);
      expectClose(actual.y, expected.y, 1e-6);
      expectClose(actual.dx, expected.dx, 2e-6);
      expectClose(values(layer.runningMean), state.mean, 1e-6);
      expectClose(values(layer.runningVariance), state.variance, 1e-6);
      expectClose(values(layer.outputControl), state.output, 5e-6);
      expectClose(values(layer.meanControl), state.sum, 5e-6);
    }
  });

  it('give a batch what its samples give one after another', () => {
    const [together, apart] = [0, 1].map(() => new nn.OnlineNorm({ channels: 3 })) as [nn.OnlineNorm, nn.OnlineNorm];
    const [input, gradient] = [noise([6, 2, 2, 3], 4), noise([6, 2, 2, 3], 5)];
    const whole = pass(together, input, gradient);
    const parts = Array.from({ length: 6 }, (_, sample) => {
      const range = { starts: [sample], ends: [sample + 1] };
      return pass(apart, input.slice(range), gradient.slice(range));
    });
    expectClose(
      whole.y,
      parts.flatMap(({ y }) => y),
      1e-6,
    );
    expectClose(
      whole.dx,
      parts.flatMap(({ dx }) => dx),
      2e-6,
    );
    expectClose(values(together.gamma!.grad!), values(apart.gamma!.grad!), 1e-5);
  });

  it('keep gradients orthogonal to the normalized values and to the constant, averaged over many samples', () => {
    const layer = new nn.OnlineNorm({ channels: 1, affine: false, guard: 'none', keep: 0.99, gradientKeep: 0.9 });
    const [sums, products, plain] = [[0], [0], [0]] as [[number], [number], [number]];
    for (let step = 0; step < 400; step++) {
      const input = noise([4, 2, 1], step);
      // A gradient with a share along the value and one along the constant, which must both go.
      const gradient = scope(() =>
        input
          .mul(0.7)
          .add(0.5)
          .add(noise([4, 2, 1], 1000 + step)),
      );
      const { y, dx } = pass(layer, input, gradient);
      if (step < 100) continue;
      sums[0] += dx.reduce((total, value) => total + value, 0) / dx.length / 300;
      products[0] += dx.reduce((total, value, index) => total + value * y[index]!, 0) / dx.length / 300;
      plain[0] += values(gradient).reduce((total, value, index) => total + value * y[index]!, 0) / dx.length / 300;
    }
    expect(Math.abs(sums[0])).toBeLessThan(0.01);
    expect(plain[0]).toBeGreaterThan(0.5);
    expect(Math.abs(products[0])).toBeLessThan(0.02);
  });
});

describe('OnlineNorm', () => {
  it('divides every sample by its root mean square, or clamps', () => {
    const input = noise([3, 2, 2, 5], 6).mul(40);
    const scaled = values(new nn.OnlineNorm({ channels: 5 }).call(input));
    for (let sample = 0; sample < 3; sample++) {
      const own = scaled.slice(sample * 20, (sample + 1) * 20);
      expect(own.reduce((sum, value) => sum + value ** 2, 0) / 20).toBeCloseTo(1, 5);
    }
    expect(Math.max(...values(new nn.OnlineNorm({ channels: 5, guard: 'clamp' }).call(input)))).toBe(5);
  });

  it('evaluates a sample by itself, with statistics that stay', () => {
    const layer = new nn.OnlineNorm({ channels: 3, activation: 'relu' });
    layer.call(noise([4, 2, 2, 3], 7));
    const before = [...layer.stateDict().values()].map(values);
    const input = noise([3, 2, 2, 3], 8);
    const together = values(layer.eval().call(input));
    expect(values(layer.call(input.slice({ starts: [1], ends: [2] })))).toEqual(together.slice(12, 24));
    expect([...layer.stateDict().values()].map(values)).toEqual(before);
  });

  it('goes on from a saved state, bit for bit', () => {
    const layer = new nn.OnlineNorm({ channels: 7 });
    pass(layer, noise([3, 2, 7], 1), noise([3, 2, 7], 2));
    const resumed = new nn.OnlineNorm({ channels: 7 });
    resumed.loadStateDict(layer.stateDict());
    const next = [noise([3, 2, 7], 3), noise([3, 2, 7], 4)] as const;
    expect(pass(resumed, ...next)).toEqual(pass(layer, ...next));
    expect([...resumed.stateDict().values()].map(values)).toEqual([...layer.stateDict().values()].map(values));
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('keeps its statistics when a batch has %d', (bad) => {
    const layer = new nn.OnlineNorm({ channels: 2 });
    pass(layer, noise([4, 2], 3), noise([4, 2], 4));
    const before = layer.buffers().map(values);
    pass(layer, tensor([1, 2, 3, bad], { shape: [2, 2] }), noise([2, 2], 5));
    expect(layer.buffers().map(values)).toEqual(before);
  });

  it('takes an empty batch, and refuses what does not fit', () => {
    expect(new nn.OnlineNorm({ channels: 2 }).call(tensor([], { shape: [0, 3, 2] })).shape).toEqual([0, 3, 2]);
    expect(() => new nn.OnlineNorm({ channels: 2 }).call(noise([2, 3], 1))).toThrow(EvenkeelError);
    expect(() => new nn.OnlineNorm({ channels: 2, guard: 'clip' as 'clamp' })).toThrow(/guard/);
    expect(() => new nn.OnlineNorm({ channels: 2, keep: 1.5 })).toThrow(/keep/);
    expect(() => nn.normalizations.online({ momentum: 0.1 } as object)).toThrow(/momentum/);
  });
});
