import {
  avgPool2d,
  cast,
  concatenate,
  conv2d,
  countTopK,
  crossEntropy,
  customFunction,
  flatten,
  full,
  gather,
  globalAvgPool,
  gradcheck,
  hardTanh,
  leakyRelu,
  max,
  maxPool2d,
  min,
  noGrad,
  permute,
  profile,
  reshape,
  scope,
  slice,
  type Tensor,
  tensor,
  transpose,
  zeros,
} from '../../src';
import { refusal } from '../support/option-names';
import { codeOf } from '../support/tensors';

const matrix = () =>
  tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);

/** What is called as in another library, a call that TypeScript would refuse, and the message. */
const calls: readonly (readonly [what: string, call: (value: never) => unknown, value: unknown, message: string])[] = [
  ['sizes one by one', (first) => matrix().reshape(first), 3, 'reshape: shape is 3; give an array, such as [2, -1]'],
  ['axes one by one', (first) => matrix().permute(first), 1, 'permute: axes is 1; give an array, such as [0, 2, 1]'],
  ['one start', (starts) => matrix().slice({ starts }), 1, 'slice: starts is 1; give an array, such as [0, 1]'],
  ['one width', (widths) => matrix().pad(widths), 1, 'pad: widths is 1; give an array, such as [[0, 0], [1, 1]]'],
  [
    'tensors one by one',
    (first) => concatenate(first),
    matrix(),
    'concatenate: the first argument is a Tensor; give an array, such as [first, second]',
  ],
  [
    'numbers among tensors',
    (part) => concatenate([matrix(), part]),
    [1, 2, 3],
    'concatenate: expected a tensor as part, got an array; tensor(…) makes one of numbers',
  ],
  [
    'options for an axis',
    (axis) => concatenate([matrix(), matrix()], axis),
    { axis: 1 },
    'concatenate: axis is an object { axis }; give a whole number',
  ],
  [
    'numbers as indices',
    (indices) => gather(matrix(), indices),
    [1, 0],
    'gather: expected a tensor as indices, got an array; tensor(Int32Array.of(…)) makes one of numbers',
  ],
  [
    'numbers as an operand',
    (other) => matrix().add(other),
    [1, 2, 3],
    'add: operand 2 must be a tensor or a number, got [1, 2, 3]',
  ],
  [
    'numbers as labels',
    (labels) => crossEntropy(matrix(), labels),
    [0, 1],
    'crossEntropy: expected a tensor as targets, got an array; tensor(Int32Array.of(…)) makes one of class numbers',
  ],
  [
    'numbers as labels to count',
    (labels) => countTopK(matrix(), labels),
    [0, 1],
    'countTopK: expected a tensor as labels, got an array',
  ],
  ['an axis as text', (axes) => matrix().sum({ axes }), '0', "sum: axes is '0'; give a number, or an array of them"],
  ['no value to fill with', (value) => full([2], value), undefined, 'full: value is undefined; give a number'],
  ['text to fill with', (value) => full([2], value), '3', "full: value is '3'; give a number"],
  ['text as a limit', (limit) => matrix().clamp({ min: limit }), '0', "clamp: min is '0'; give a number"],
  ['text as a limit of hardTanh', (limit) => hardTanh(matrix(), 0, limit), '6', "hardTanh: max is '6'; give a number"],
  [
    'options for a slope',
    (slope) => leakyRelu(matrix(), slope),
    { slope: 0.1 },
    'leakyRelu: the parameter must be a finite number, got an object { slope }',
  ],
  [
    'text to pad with',
    (value) =>
      matrix().pad(
        [
          [0, 0],
          [1, 1],
        ],
        value,
      ),
    '0',
    "pad: value is '0'; give a number",
  ],
  ['no function without gradients', (body) => noGrad(body), undefined, 'noGrad: body is undefined; give a function'],
  ['no function in a scope', (body) => scope(body), matrix(), 'scope: body is a Tensor; give a function'],
  ['no function to profile', (body) => profile(body), 3, 'profile: body is 3; give a function'],
  [
    'no list of inputs',
    (inputs) => gradcheck((input) => input.square(), inputs),
    matrix(),
    'gradcheck: inputs are a Tensor; give a list of tensors',
  ],
  [
    'no gradient of a function',
    (definition) => customFunction(definition),
    { forward: () => matrix() },
    'customFunction: backward is undefined; give a function',
  ],
];

test.each(calls)('%s: the message says what to give', async (_what, call, value, message) => {
  expect(await refusal(call, value)).toContain(message);
});

const anyDType: Readonly<Record<string, (input: Tensor) => unknown>> = {
  reshape: (input) => reshape(input, [1]),
  flatten,
  permute: (input) => permute(input, []),
  transpose,
  slice: (input) => slice(input, {}),
  gather: (input) => gather(input, tensor(Int32Array.of(0))),
  cast: (input) => cast(input, 'int32'),
  max,
  min,
  globalAvgPool,
  maxPool2d: (input) => maxPool2d(input, { kernelSize: 1 }),
  avgPool2d: (input) => avgPool2d(input, { kernelSize: 1 }),
};

test.each(Object.entries(anyDType))('%s wants a tensor', async (name, call) => {
  for (const wrong of [undefined, [1, 2]]) {
    expect(await refusal(call as (value: never) => unknown, wrong)).toContain(
      `${name}: expected a tensor as input, got `,
    );
  }
});

test('a dtype that does not exist is refused with those that do', () => {
  const dtype = 'float64' as 'float32';
  for (const make of [() => tensor([1], { dtype }), () => zeros([1], { dtype }), () => full([1], 1, { dtype })]) {
    expect(make).toThrow("dtype is 'float64'; give 'float32', 'int32' or 'uint8'");
    expect(codeOf(make)).toBe('DTYPE_MISMATCH');
  }
});

test('class numbers in float32 are told from weights of classes', () => {
  const hint = "; class numbers must be int32: cast('int32') makes them so";
  expect(() => crossEntropy(matrix(), tensor([1, 0]))).toThrow(
    `weights of shape [2, 3] for logits [2, 3], got [2]${hint}`,
  );
  expect(() => crossEntropy(matrix(), tensor([1, 0, 2]))).toThrow(/got \[3\]$/);
});

test('images with their channels in front are told how to turn them', () => {
  const weight = zeros([3, 3, 3, 8]);
  expect(() => conv2d(zeros([1, 3, 32, 32]), weight)).toThrow(
    'permute([0, 2, 3, 1]) makes them of [batch, channels, height',
  );
  expect(() => conv2d(zeros([1, 32, 32, 4]), weight)).toThrow(/got input \[1, 32, 32, 4\]$/);
});

test('copyFrom says what it was given', () => {
  const copy = (values: unknown) => matrix().copyFrom(values as Float32Array);
  expect(() => copy([1, 2, 3, 4, 5, 6])).toThrow('copyFrom: expected a typed array of float32, got an array');
  expect(() => copy(Int32Array.of(1))).toThrow('copyFrom: expected a typed array of float32, got an Int32Array');
});
