import { getThreads, ones, scope, setThreads, type Tensor, zeros } from '../../src/tensor';
import { evoNormB0 } from '../../src/tensor/operations/evo-norm';
import { switchableNorm } from '../../src/tensor/operations/switchable-norm';
import { noise } from '../nn/support';

const x = () => noise([4, 3, 3, 2], 1);
const logits = { meanLogits: zeros([3]), varianceLogits: zeros([3]) };

it('has the same bits on any number of threads', () => {
  const before = getThreads();
  const outputsOn = (threads: number): string[] => {
    setThreads(threads);
    const input = noise([6, 20, 20, 33], 1);
    input.requiresGrad = true;
    const outputs = [
      evoNormB0(input, { slope: ones([33]), training: true }),
      switchableNorm(input, { ...logits, training: true, activation: 'relu' }),
    ];
    for (const output of outputs) output.backward(noise(output.shape, 2));
    return [...outputs, input.grad as Tensor].map((value) => Buffer.from(value.dataSync().buffer).toString('base64'));
  };
  try {
    const [one, two, three] = [1, 2, 3].map(outputsOn);
    expect(two).toEqual(one);
    expect(three).toEqual(one);
  } finally {
    setThreads(before);
  }
});

it.each([
  ['a slope of another length', 'SHAPE_MISMATCH', () => evoNormB0(x(), { slope: ones([3]), training: true })],
  ['evaluation without a variance', 'INVALID_ARGUMENT', () => evoNormB0(x(), { slope: ones([2]), training: false })],
  ['a momentum above 1', 'INVALID_ARGUMENT', () => evoNormB0(x(), { slope: ones([2]), training: true, momentum: 2 })],
  [
    'logits of another length',
    'SHAPE_MISMATCH',
    () => switchableNorm(x(), { ...logits, meanLogits: zeros([2]), training: true }),
  ],
  ['evaluation without statistics', 'INVALID_ARGUMENT', () => switchableNorm(x(), { ...logits, training: false })],
  [
    'one tensor for both running statistics',
    'INVALID_ARGUMENT',
    () => {
      const both = zeros([2]);
      return switchableNorm(x(), { ...logits, training: true, runningMean: both, runningVariance: both });
    },
  ],
  [
    'half the running statistics',
    'INVALID_ARGUMENT',
    () => switchableNorm(x(), { ...logits, training: true, runningMean: zeros([2]) }),
  ],
] as const)('refuses %s', (_name, code, body: () => unknown) => {
  expect(() => scope(body)).toThrow(expect.objectContaining({ code }));
});

it('takes an empty batch', () => {
  const input = zeros([0, 3, 3, 2]);
  expect(evoNormB0(input, { slope: ones([2]), training: true }).shape).toEqual([0, 3, 3, 2]);
  const running = { runningMean: zeros([2]), runningVariance: ones([2]) };
  expect(switchableNorm(input, { ...logits, ...running, training: true }).shape).toEqual([0, 3, 3, 2]);
  expect([...running.runningMean.dataSync(), ...running.runningVariance.dataSync()]).toEqual([0, 0, 1, 1]);
});
