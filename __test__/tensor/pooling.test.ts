import { EvenkeelError } from '../../src/errors';
import { gradcheck, memory, noGrad, ones, scope, type Tensor, tensor, zeros } from '../../src/tensor';
import { avgPool2d, globalAvgPool, maxPool2d, type Pair, type PoolOptions } from '../../src/tensor/operations/pooling';

/** Distinct values far enough apart for finite differences, in an irregular order. */
function distinct(shape: readonly number[]): Tensor {
  const size = shape.reduce((product, length) => product * length, 1);
  const values = Float32Array.from({ length: size }, (_, index) => ((index * 7919) % size) * 0.1 - size * 0.05);
  return tensor(values, { shape, requiresGrad: true });
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

/** Calls `visit` with the output index and each input position, or undefined for padding, of each window. */
function eachWindow(
  shape: readonly number[],
  outputShape: readonly number[],
  [kernel, stride, padding]: readonly (readonly [number, number])[],
  visit: (output: number, input: number | undefined) => void,
): void {
  const [batch, height, width, channels] = shape as [number, number, number, number];
  const [, outputHeight, outputWidth] = outputShape as [number, number, number, number];
  for (let n = 0; n < batch; n++)
    for (let y = 0; y < outputHeight; y++)
      for (let x = 0; x < outputWidth; x++)
        for (let c = 0; c < channels; c++)
          for (let row = 0; row < kernel![0]; row++)
            for (let column = 0; column < kernel![1]; column++) {
              const [inY, inX] = [y * stride![0] + row - padding![0], x * stride![1] + column - padding![1]];
              if (inY >= height + padding![0] || inX >= width + padding![1]) continue;
              const inside = inY >= 0 && inY < height && inX >= 0 && inX < width;
              visit(
                ((n * outputHeight + y) * outputWidth + x) * channels + c,
                inside ? ((n * height + inY) * width + inX) * channels + c : undefined,
              );
            }
}

const both = (value: Pair): readonly [number, number] => (typeof value === 'number' ? [value, value] : value);

const cases: [string, readonly number[], PoolOptions, readonly number[]][] = [
  ['2x2', [2, 4, 6, 3], { kernelSize: 2 }, [2, 2, 3, 3]],
  ['3x3 stride 2 padded', [1, 7, 5, 17], { kernelSize: 3, stride: 2, padding: 1 }, [1, 4, 3, 17]],
  ['oblong', [2, 5, 6, 1], { kernelSize: [3, 2], stride: [1, 2], padding: [1, 0] }, [2, 5, 3, 1]],
  ['ceil mode', [1, 6, 5, 7], { kernelSize: 3, stride: 2, padding: 1, ceilMode: true }, [1, 4, 3, 7]],
  ['1x1 map', [3, 1, 1, 16], { kernelSize: 1 }, [3, 1, 1, 16]],
  ['an empty batch', [0, 4, 4, 2], { kernelSize: 2 }, [0, 2, 2, 2]],
];

describe.each(cases)('pooling: %s', (_name, shape, options, outputShape) => {
  const kernel = both(options.kernelSize);
  const geometry = [kernel, both(options.stride ?? kernel), both(options.padding ?? 0)];

  it('takes the largest value of each window', async () => {
    const input = distinct(shape);
    const values = (await input.data()) as Float32Array;
    const output = maxPool2d(input, options);
    expect(output.shape).toEqual(outputShape);
    const expected = new Float32Array(output.size).fill(Number.NEGATIVE_INFINITY);
    eachWindow(shape, outputShape, geometry, (to, from) => {
      if (from !== undefined) expected[to] = Math.max(expected[to]!, values[from]!);
    });
    expect(await output.data()).toEqual(expected);
    expect(await noGrad(() => maxPool2d(input, options)).data()).toEqual(expected);
  });

  it.each([true, false])('takes the mean of each window, countIncludePadding %s', async (countIncludePadding) => {
    const input = distinct(shape);
    const values = (await input.data()) as Float32Array;
    const output = avgPool2d(input, { ...options, countIncludePadding });
    expect(output.shape).toEqual(outputShape);
    const sums = new Float64Array(output.size);
    const counts = new Float64Array(output.size);
    eachWindow(shape, outputShape, geometry, (to, from) => {
      if (from !== undefined) sums[to]! += values[from]!;
      if (from !== undefined || countIncludePadding) counts[to]!++;
    });
    const actual = await output.data();
    for (const [index, sum] of sums.entries()) expect(actual[index]).toBeCloseTo(sum / counts[index]!, 4);
  });

  it('has the right gradients', async () => {
    for (const body of [
      (x: Tensor) => maxPool2d(x, options),
      (x: Tensor) => avgPool2d(x, options),
      (x: Tensor) => avgPool2d(x, { ...options, countIncludePadding: false }),
    ]) {
      expect(await gradcheck(body, [distinct(shape)], { elements: 40 })).toMatchObject({ passed: true });
    }
  });
});

describe('maxPool2d', () => {
  it('passes NaN on and gives the gradient to the first of equal values', () => {
    const input = tensor([1, 1, Number.NaN, 2], { shape: [1, 1, 4, 1], requiresGrad: true });
    const output = maxPool2d(input, { kernelSize: [1, 2] });
    expect(Array.from(output.dataSync())).toEqual([1, Number.NaN]);
    output.backward(ones([1, 1, 2, 1]));
    expect(Array.from(input.grad!.dataSync())).toEqual([1, 0, 1, 0]);
  });

  it('frees its indices with the graph', () => {
    const before = memory().liveTensors;
    const input = distinct([1, 4, 4, 3]);
    scope(() => maxPool2d(input, { kernelSize: 2 }).backward(ones([1, 2, 2, 3])));
    input.dispose();
    expect(memory().liveTensors).toBe(before);
  });
});

describe('globalAvgPool', () => {
  it('averages over pixels', async () => {
    const input = tensor([1, 10, 3, 30, 5, 50, 7, 70], { shape: [2, 1, 2, 2] });
    const output = globalAvgPool(input);
    expect(output.shape).toEqual([2, 2]);
    expect(Array.from(await output.data())).toEqual([2, 20, 6, 60]);
    expect(await gradcheck(globalAvgPool, [distinct([2, 3, 5, 17])], { elements: 40 })).toMatchObject({ passed: true });
    expect(globalAvgPool(zeros([0, 2, 2, 5])).shape).toEqual([0, 5]);
  });
});

describe('wrong arguments', () => {
  const images = zeros([1, 4, 4, 2]);

  it.each([
    ['no images', () => maxPool2d(zeros([4, 4, 2]), { kernelSize: 2 }), 'SHAPE_MISMATCH'],
    ['an empty map', () => globalAvgPool(zeros([1, 0, 4, 2])), 'SHAPE_MISMATCH'],
    ['a large window', () => avgPool2d(images, { kernelSize: 5 }), 'SHAPE_MISMATCH'],
    ['integers', () => avgPool2d(zeros([1, 4, 4, 2], { dtype: 'int32' }), { kernelSize: 2 }), 'DTYPE_MISMATCH'],
    ['a fraction', () => avgPool2d(images, { kernelSize: 1.5 }), 'INVALID_ARGUMENT'],
    ['stride 0', () => avgPool2d(images, { kernelSize: 2, stride: [1, 0] }), 'INVALID_ARGUMENT'],
    ['much padding', () => maxPool2d(images, { kernelSize: 3, padding: 2 }), 'INVALID_ARGUMENT'],
    ['a window of 17', () => maxPool2d(zeros([1, 20, 20, 1]), { kernelSize: 17 }), 'INVALID_ARGUMENT'],
  ])('%s', (_name, body, code) => {
    expect(codeOf(body)).toBe(code);
  });
});
