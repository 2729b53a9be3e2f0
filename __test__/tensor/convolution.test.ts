import { EvenkeelError } from '../../src/errors';
import {
  type Conv2dOptions,
  conv2d,
  gradcheck,
  linear,
  memory,
  noGrad,
  ones,
  scope,
  type Tensor,
  tensor,
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

/** The options that a golden case's name tells: `2x9x7x5_to33_k3s2p1d1g1`. */
function optionsOf(name: string): Conv2dOptions {
  const numbers = /s(\d+)p(\d+)d(\d+)g(\d+)$/.exec(name)!.slice(1).map(Number);
  return { stride: numbers[0]!, padding: numbers[1]!, dilation: numbers[2]!, groups: numbers[3]! };
}

describe('conv2d', () => {
  it('agrees with the golden vectors, forward and backward', async () => {
    const cases = await readGolden('conv2d');
    expect(cases.size).toBe(12);
    for (const { name, tensor: load, values } of cases.values()) {
      const [input, weight] = [load('x', true), load('w', true)];
      const output = conv2d(input, weight, undefined, optionsOf(name));
      expectClose(await output.data(), values('y'), 1e-5);
      output.backward(load('dy'));
      expectClose(await input.grad!.data(), values('d_x'), 1e-4);
      expectClose(await weight.grad!.data(), values('d_w'), 1e-4);
    }
  });

  it.each<[string, readonly number[], readonly number[], Conv2dOptions]>([
    ['3x3', [2, 5, 4, 3], [3, 3, 3, 17], { padding: 1 }],
    ['strides that differ', [1, 7, 6, 2], [3, 2, 2, 5], { stride: [2, 3], padding: [1, 0] }],
    ['dilation', [1, 7, 7, 1], [3, 3, 1, 2], { dilation: 2, padding: 2 }],
    ['groups', [2, 5, 5, 4], [3, 3, 2, 6], { groups: 2, padding: 1 }],
    ['depthwise', [2, 5, 5, 7], [3, 3, 1, 7], { groups: 7, stride: 2, padding: 1 }],
    ['1x1 maps', [3, 1, 1, 5], [1, 1, 5, 4], {}],
  ])('has the right gradients: %s', async (_name, inputShape, weightShape, options) => {
    const tensors = [irregular(inputShape, 1), irregular(weightShape, 2), irregular([weightShape[3]!], 3)];
    const body = (input: Tensor, weight: Tensor, bias: Tensor) => conv2d(input, weight, bias, options);
    expect(await gradcheck(body as (...inputs: Tensor[]) => Tensor, tensors, { elements: 30 })).toMatchObject({
      passed: true,
    });
  });

  it('takes an empty batch and gives zero gradients', async () => {
    const weight = irregular([3, 3, 2, 4], 1);
    const bias = irregular([4], 2);
    const output = conv2d(zeros([0, 5, 5, 2]), weight, bias, { padding: 1 });
    expect(output.shape).toEqual([0, 5, 5, 4]);
    output.backward(zeros([0, 5, 5, 4]));
    expect(Array.from(await weight.grad!.data())).toEqual(new Array(72).fill(0));
    expect(Array.from(await bias.grad!.data())).toEqual([0, 0, 0, 0]);
  });

  it('keeps only what a gradient needs', () => {
    const before = memory().liveTensors;
    scope(() => {
      const image = irregular([1, 4, 4, 2], 1, false);
      const weight = irregular([3, 3, 2, 4], 2);
      const output = conv2d(image, weight);
      expect(image.storage.references).toBe(2);
      expect(weight.storage.references).toBe(1);
      output.backward(ones([1, 2, 2, 4]));
      expect(image.grad).toBeUndefined();
      expect(image.storage.references).toBe(1);
      noGrad(() => conv2d(image, weight));
      expect(weight.storage.references).toBe(1);
      weight.grad?.dispose();
    });
    expect(memory().liveTensors).toBe(before);
  });

  const image = zeros([1, 4, 4, 2]);
  it.each<[string, () => unknown, string]>([
    ['no images', () => conv2d(zeros([4, 4, 2]), zeros([1, 1, 2, 3])), 'SHAPE_MISMATCH'],
    ['no kernel', () => conv2d(image, zeros([3, 3, 2])), 'SHAPE_MISMATCH'],
    ['other channels', () => conv2d(image, zeros([1, 1, 3, 3])), 'SHAPE_MISMATCH'],
    ['groups that do not fit', () => conv2d(image, zeros([1, 1, 1, 3]), undefined, { groups: 2 }), 'SHAPE_MISMATCH'],
    ['a large kernel', () => conv2d(image, zeros([5, 5, 2, 3])), 'SHAPE_MISMATCH'],
    ['a dilated kernel', () => conv2d(image, zeros([3, 3, 2, 3]), undefined, { dilation: 2 }), 'SHAPE_MISMATCH'],
    ['an empty map', () => conv2d(zeros([1, 0, 4, 2]), zeros([1, 1, 2, 3])), 'SHAPE_MISMATCH'],
    ['a bias of another length', () => conv2d(image, zeros([1, 1, 2, 3]), zeros([2])), 'SHAPE_MISMATCH'],
    ['integers', () => conv2d(zeros([1, 4, 4, 2], { dtype: 'int32' }), zeros([1, 1, 2, 3])), 'DTYPE_MISMATCH'],
    ['stride 0', () => conv2d(image, zeros([1, 1, 2, 3]), undefined, { stride: 0 }), 'INVALID_ARGUMENT'],
    ['padding -1', () => conv2d(image, zeros([1, 1, 2, 3]), undefined, { padding: [0, -1] }), 'INVALID_ARGUMENT'],
    ['half a group', () => conv2d(image, zeros([1, 1, 2, 3]), undefined, { groups: 0.5 }), 'INVALID_ARGUMENT'],
  ])('refuses %s', (_name, body, code) => {
    expect(codeOf(body)).toBe(code);
  });

  it.each<[string, unknown, string]>([
    ['options', { padding: 1 }, 'an object { padding }'],
    ['an empty object', {}, 'an empty object'],
    ['null', null, 'null'],
    ['an array', [1, 2, 3], 'an array'],
    ['a number', 1, 'a number'],
  ])('says what to do about %s in place of a bias', (_name, bias, given) => {
    const body = () => conv2d(image, zeros([1, 1, 2, 3]), bias as Tensor);
    expect(codeOf(body)).toBe('INVALID_ARGUMENT');
    expect(body).toThrow(
      `conv2d: expected a tensor as bias, got ${given}; give a float32 tensor, or undefined for none; options are the last argument`,
    );
  });

  it('says what to do about a weight that is not there', () => {
    const body = () => conv2d(image, undefined as unknown as Tensor);
    expect(codeOf(body)).toBe('INVALID_ARGUMENT');
    expect(body).toThrow('conv2d: expected a tensor as weight, got undefined; give a float32 tensor (tensor(…)');
  });
});

describe('a 1x1 convolution', () => {
  it('is a linear layer on every pixel', async () => {
    const [input, weight, bias] = [irregular([2, 3, 3, 17], 1), irregular([17, 9], 2), irregular([9], 3)];
    const convolved = conv2d(input, irregular([1, 1, 17, 9], 2), bias);
    expectClose(await convolved.data(), await linear(input, weight, bias).data(), 1e-6);
  });
});
