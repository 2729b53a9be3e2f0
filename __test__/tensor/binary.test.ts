import { EvenkeelError } from '../../src/errors';
import {
  type ActivationGradient,
  type BinaryConv2dOptions,
  binarize,
  binaryConv2d,
  binaryLinear,
  conv2d,
  full,
  gradcheck,
  memory,
  noGrad,
  type PaddingValue,
  rprelu,
  rsign,
  scaledWeightStandardize,
  scope,
  setThreads,
  synchronize,
  type Tensor,
  tensor,
  weightStandardize,
  zeros,
} from '../../src/tensor';
import { expectClose, readGolden } from '../support/golden';

function irregular(shape: readonly number[], seed: number, requiresGrad = true): Tensor {
  const size = shape.reduce((product, length) => product * length, 1);
  const values = Float32Array.from({ length: size }, (_, index) => Math.sin((index + 1) * 12.9898 + seed));
  return tensor(values, { shape, requiresGrad });
}

function codeOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof EvenkeelError) return error.code;
    throw error;
  }
  return 'no error';
}

/** The options that a golden case's name tells: `2x9x7x65_to17_k3s2p1_plus`. */
function optionsOf(name: string): BinaryConv2dOptions {
  const [, stride, padding, value] = /s(\d+)p(\d+)_(\w+)$/.exec(name)!;
  return { stride: Number(stride), padding: Number(padding), paddingValue: value as PaddingValue };
}

const sign = (value: number): number => (value < 0 ? -1 : 1);

/** ±1 for every element, out of the graph. */
async function signsOf(values: Tensor): Promise<Tensor> {
  return tensor(Float32Array.from(await values.data(), sign), { shape: values.shape });
}

describe('binaryConv2d', () => {
  it('agrees with the golden vectors, forward and backward', async () => {
    const cases = await readGolden('binary_conv2d');
    expect(cases.size).toBe(10);
    for (const { name, tensor: load, values } of cases.values()) {
      const [input, shift, weight] = [load('x', true), load('shift', true), load('w', true)];
      const output = binaryConv2d(input, weight, { ...optionsOf(name), shift });
      expectClose(await output.data(), values('y'), 1e-5);
      output.backward(load('dy'));
      expectClose(await input.grad!.data(), values('d_x'), 1e-4);
      expectClose(await shift.grad!.data(), values('d_shift'), 1e-4);
      expectClose(await weight.grad!.data(), values('d_w'), 1e-4);
    }
  });

  it('agrees with the golden vectors over standardized weights with a gain', async () => {
    const cases = await readGolden('binary_standardized_conv2d');
    expect(cases.size).toBe(10);
    for (const { name, tensor: load, values } of cases.values()) {
      const [input, shift] = [load('x', true), load('shift', true)];
      const [weight, gain] = [load('w', true), load('gain', true)];
      const output = binaryConv2d(input, scaledWeightStandardize(weight), { ...optionsOf(name), shift, gain });
      expectClose(await output.data(), values('y'), 1e-5);
      output.backward(load('dy'));
      expectClose(await input.grad!.data(), values('d_x'), 1e-4);
      expectClose(await shift.grad!.data(), values('d_shift'), 1e-4);
      expectClose(await weight.grad!.data(), values('d_w'), 1e-4);
      expectClose(await gain.grad!.data(), values('d_gain'), 1e-4);
    }
  });

  it.each([1, 3, 31, 32, 33, 64, 65])('sums %i channels exactly', async (channels) => {
    const [input, weight] = [irregular([2, 5, 4, channels], 1, false), irregular([3, 3, channels, 17], 2, false)];
    const options = { stride: [2, 1], padding: 1, dilation: [1, 2] } as const;
    // A weight of ±1 has scale 1, so the output is the integer itself.
    const signs = await signsOf(weight);
    const exact = await conv2d(await signsOf(input), signs, undefined, options).data();
    expect(await binaryConv2d(input, signs, options).data()).toEqual(exact);
  });

  it('passes the gradient of the weight by each rule', async () => {
    const values = Float32Array.of(0.5, -2, 0.25, 1.5);
    const input = tensor(Float32Array.of(1, -1, 1, 1), { shape: [1, 1, 1, 4] });
    const gradientOf = async (weightGradient: 'clip' | 'scaleAndClip' | 'identity') => {
      const weight = tensor(values, { shape: [1, 1, 4, 1], requiresGrad: true });
      binaryConv2d(input, weight, { weightGradient }).backward(full([1, 1, 1, 1], 2));
      return Array.from(await weight.grad!.data());
    };
    const scale = 4.25 / 4;
    expect(await gradientOf('clip')).toEqual([2, -0, 2, 0]);
    expect(await gradientOf('identity')).toEqual([2, -2, 2, 2]);
    expect(await gradientOf('scaleAndClip')).toEqual([2 * (0.25 + scale), -0.5, 2 * (0.25 + scale), 0.5]);
  });

  it('keeps bits for the backward pass, not floats', async () => {
    await synchronize();
    const input = irregular([4, 16, 16, 64], 1);
    const weight = irregular([1, 1, 64, 64], 2);
    for (const [activationGradient, bytesPerElement] of [
      ['identity', 0],
      ['steClip', 1 / 8],
      ['approxSign', 2],
    ] as const) {
      const before = memory().liveBytes;
      const output = scope(() => binaryConv2d(input, weight, { activationGradient }));
      const kept = memory().liveBytes - before - output.byteLength;
      // The scale, the signs at one bit each, and the derivative.
      expect(kept).toBeLessThanOrEqual(64 * 4 + input.size * (1 / 8 + bytesPerElement));
      output.dispose();
      expect(memory().liveBytes).toBe(before);
    }
    const before = memory().liveBytes;
    const output = noGrad(() => binaryConv2d(input, weight));
    expect(memory().liveBytes - before).toBe(output.byteLength);
  });

  it('has the same bits on any number of threads', async () => {
    const runOn = async (threads: number) => {
      setThreads(threads);
      const [input, weight] = [irregular([3, 17, 18, 65], 1), irregular([3, 3, 65, 70], 2)];
      const [shift, gain] = [irregular([65], 3), irregular([70], 4)];
      const output = binaryConv2d(input, scaledWeightStandardize(weight), { padding: 1, shift, gain });
      output.backward(irregular(output.shape, 5, false));
      return Promise.all([output, ...[input, weight, shift, gain].map((leaf) => leaf.grad!)].map((t) => t.data()));
    };
    const one = await runOn(1);
    for (const threads of [2, 3]) expect(await runOn(threads)).toEqual(one);
  });

  it('takes an empty batch', async () => {
    const [input, weight] = [zeros([0, 4, 4, 3]), irregular([3, 3, 3, 5], 1)];
    input.requiresGrad = true;
    const output = binaryConv2d(input, weight, { padding: 1 });
    expect(output.shape).toEqual([0, 4, 4, 5]);
    output.backward(zeros(output.shape));
    expect(new Set(await weight.grad!.data())).toEqual(new Set([0]));
  });

  it('refuses what does not fit', () => {
    const [input, weight] = [zeros([1, 4, 4, 3]), zeros([3, 3, 3, 5])];
    expect(codeOf(() => binaryConv2d(input, zeros([3, 3, 4, 5])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => binaryConv2d(zeros([1, 2, 2, 3]), weight))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => binaryConv2d(input, weight, { shift: zeros([5]) }))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => binaryConv2d(input, weight, { gain: zeros([3]) }))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => binaryConv2d(input, weight, { stride: 0 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => binaryConv2d(input, weight, { paddingValue: 'one' as 'plus' }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => binaryConv2d(input, weight, { weightGradient: 'none' as 'clip' }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => binaryConv2d(input, weight, { activationGradientParameter: 2 }))).toBe('INVALID_ARGUMENT');
    const bytes = tensor(new Uint8Array(48), { shape: [1, 4, 4, 3] });
    expect(codeOf(() => binaryConv2d(bytes, weight))).toBe('DTYPE_MISMATCH');
  });
});

describe('binaryLinear', () => {
  it('is the product of signs, for leading axes of any number', async () => {
    const weight = await signsOf(irregular([70, 5], 1, false));
    const signs = await weight.data();
    for (const leading of [[], [1], [3], [2, 3], [0]]) {
      const input = irregular([...leading, 70], 2, false);
      const values = await input.data();
      const output = binaryLinear(input, weight);
      expect(output.shape).toEqual([...leading, 5]);
      const expected = Float32Array.from({ length: output.size }, (_, index) => {
        let sum = 0;
        const row = Math.floor(index / 5) * 70;
        for (let k = 0; k < 70; k++) sum += sign(values[row + k]!) * signs[k * 5 + (index % 5)]!;
        return sum;
      });
      expect(await output.data()).toEqual(expected);
    }
  });

  it('has the gradients of the convolution over 1x1 images', async () => {
    const results = [];
    for (const asImages of [false, true]) {
      const [input, weight] = asImages
        ? [irregular([6, 1, 1, 40], 1), irregular([1, 1, 40, 7], 2)]
        : [irregular([6, 40], 1), irregular([40, 7], 2)];
      const output = asImages ? binaryConv2d(input, weight) : binaryLinear(input, weight);
      output.backward(irregular(output.shape, 3, false));
      results.push([await output.data(), await input.grad!.data(), await weight.grad!.data()]);
    }
    const [linear, images] = results;
    expect(linear![0]).toEqual(images![0]);
    expectClose(linear![1]!, images![1]!, 1e-6);
    expectClose(linear![2]!, images![2]!, 1e-6);
  });

  it('refuses what does not fit', () => {
    expect(codeOf(() => binaryLinear(zeros([2, 3]), zeros([4, 5])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => binaryLinear(zeros([2, 3]), zeros([3, 5, 1])))).toBe('SHAPE_MISMATCH');
  });
});

describe('binarize and rsign', () => {
  it('have the signs of their definition', async () => {
    const input = tensor(Float32Array.of(0, -0, Number.NaN, -1e-45, 3, Number.NEGATIVE_INFINITY), { shape: [2, 3] });
    expect(Array.from(await binarize(input).data())).toEqual([1, 1, 1, -1, 1, -1]);
    const shifted = rsign(input, tensor(Float32Array.of(-1, 1, -4)));
    expect(Array.from(await shifted.data())).toEqual([-1, 1, 1, -1, 1, -1]);
  });

  const formulas: [ActivationGradient, number | undefined, (v: number) => number][] = [
    ['approxSign', undefined, (v) => Math.max(0, 2 - 2 * Math.abs(v))],
    ['steClip', undefined, (v) => Number(Math.abs(v) <= 1)],
    ['steClip', 0.5, (v) => Number(Math.abs(v) <= 0.5)],
    ['identity', undefined, () => 1],
    ['swishSign', undefined, (v) => (5 * (2 - 5 * v * Math.tanh(2.5 * v))) / (1 + Math.cosh(5 * v))],
    ['sigmoidMask', 2, (v) => 4 / (1 + Math.exp(-2 * v)) / (1 + Math.exp(2 * v))],
  ];
  it.each(formulas)('take the gradient of %s (%s)', async (activationGradient, parameter, phi) => {
    const channels = 35;
    const [input, shift] = [irregular([4, 3, channels], 1), irregular([channels], 2)];
    const upstream = irregular([4, 3, channels], 3, false);
    rsign(input, shift, { activationGradient, activationGradientParameter: parameter }).backward(upstream);
    const [x, b, g] = [await input.data(), await shift.data(), await upstream.data()];
    const expected = Float32Array.from(x, (value, index) => phi(Math.fround(value + b[index % channels]!)) * g[index]!);
    expectClose(await input.grad!.data(), expected, 1e-4);
    const sums = new Float32Array(channels);
    for (const [index, value] of expected.entries()) sums[index % channels]! += value;
    expectClose(await shift.grad!.data(), sums, 1e-4);
  });

  it('refuse unknown gradients and parameters', () => {
    const input = zeros([2, 3]);
    expect(codeOf(() => binarize(input, { activationGradient: 'none' as 'identity' }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => binarize(input, { activationGradient: 'steClip', activationGradientParameter: 0 }))).toBe(
      'INVALID_ARGUMENT',
    );
    expect(codeOf(() => binarize(zeros([])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => rsign(input, zeros([2])))).toBe('SHAPE_MISMATCH');
  });
});

describe('rprelu', () => {
  it('agrees with the golden vectors', async () => {
    const { tensor: load, values } = (await readGolden('rprelu')).get('2x3x4x7')!;
    const input = load('x', true);
    const [shiftIn, slope, shiftOut] = [load('shift_in', true), load('slope', true), load('shift_out', true)];
    const output = rprelu(input, { shiftIn, slope, shiftOut });
    expectClose(await output.data(), values('y'), 1e-5);
    output.backward(load('dy'));
    expectClose(await input.grad!.data(), values('d_x'), 1e-4);
    expectClose(await shiftIn.grad!.data(), values('d_shift_in'), 1e-4);
    expectClose(await slope.grad!.data(), values('d_slope'), 1e-4);
    expectClose(await shiftOut.grad!.data(), values('d_shift_out'), 1e-4);
  });

  it('has the right gradients away from the kink', async () => {
    // Inputs near ±1 and ±2, shifts that do not carry them over zero.
    const input = tensor(
      Float32Array.from({ length: 66 }, (_, i) => (i % 2 ? 1 : -1) * (1 + (i % 3) / 2)),
      {
        shape: [2, 33],
        requiresGrad: true,
      },
    );
    const small = (seed: number) => tensor(irregularValues(33, seed), { requiresGrad: true });
    const result = await gradcheck(
      (x, shiftIn, slope, shiftOut) => rprelu(x!, { shiftIn: shiftIn!, slope: slope!, shiftOut: shiftOut! }),
      [input, small(1), small(2), small(3)],
      { elements: 12 },
    );
    expect(result).toMatchObject({ passed: true });
  });

  it('refuses what does not fit', () => {
    const good = zeros([3]);
    expect(codeOf(() => rprelu(zeros([2, 3]), { shiftIn: good, slope: zeros([1]), shiftOut: good }))).toBe(
      'SHAPE_MISMATCH',
    );
  });
});

function irregularValues(length: number, seed: number): Float32Array {
  return Float32Array.from({ length }, (_, index) => 0.3 * Math.sin((index + 1) * 12.9898 + seed));
}

describe('weight standardization', () => {
  it('agrees with the golden vectors, plain and scaled', async () => {
    for (const [file, operation] of [
      ['weight_standardization', (w: Tensor) => weightStandardize(w)],
      ['scaled_weight_standardization', (w: Tensor, gain: Tensor) => scaledWeightStandardize(w, { gain })],
    ] as const) {
      const cases = await readGolden(file);
      expect(cases.size).toBe(3);
      for (const { tensor: load, values } of cases.values()) {
        const weight = load('w', true);
        const gain = file.startsWith('scaled') ? load('gain', true) : undefined;
        const output = operation(weight, gain!);
        expectClose(await output.data(), values('y'), 1e-5);
        output.backward(load('dy'));
        expectClose(await weight.grad!.data(), values('d_w'), 1e-4);
        if (gain !== undefined) expectClose(await gain.grad!.data(), values('d_gain'), 1e-4);
      }
    }
  });

  it('has the right gradients', async () => {
    const weight = irregular([3, 3, 2, 17], 1);
    const gain = irregular([17], 2);
    for (const operation of [weightStandardize, scaledWeightStandardize]) {
      const result = await gradcheck((w, g) => operation(w!, { gain: g }), [weight, gain], { elements: 20 });
      expect(result).toMatchObject({ passed: true });
    }
  });

  it('is the same for weights that are shifted and stretched, so that their bits are', async () => {
    const weight = irregular([3, 3, 8, 5], 1, false);
    const values = await weight.data();
    const plain = await scaledWeightStandardize(weight, { epsilon: 1e-12 }).data();
    for (const [stretch, shift] of [
      [10, 1],
      [0.1, -1],
    ] as const) {
      const changed = tensor(
        values.map((value) => value * stretch + shift),
        { shape: weight.shape },
      );
      const standardized = await scaledWeightStandardize(changed, { epsilon: 1e-12 }).data();
      expectClose(standardized, plain, 1e-4);
      expect(standardized.map(sign)).toEqual(plain.map(sign));
    }
  });

  it('balances the signs of weights that are all positive', async () => {
    const weight = tensor(
      (await irregular([3, 3, 16, 4], 1, false).data()).map((value) => 5e-4 * (1 + value)),
      { shape: [3, 3, 16, 4] },
    );
    const positives = (await scaledWeightStandardize(weight).data()).filter((value) => value >= 0).length;
    expect(positives / weight.size).toBeGreaterThan(0.35);
    expect(positives / weight.size).toBeLessThan(0.65);
  });

  it('refuses what does not fit', () => {
    expect(codeOf(() => weightStandardize(zeros([3])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => weightStandardize(zeros([3, 4]), { gain: zeros([3]) }))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => weightStandardize(zeros([3, 4]), { epsilon: -1 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => scaledWeightStandardize(zeros([3, 4]), { gamma: Number.NaN }))).toBe('INVALID_ARGUMENT');
  });
});
