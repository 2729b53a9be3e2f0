import { countTopK, crossEntropy, gradcheck, logSoftmax, softmax, type Tensor, tensor, zeros } from '../../src/tensor';
import { expectClose, readGolden } from '../support/golden';
import { codeOf, irregular, numbers } from '../support/tensors';

/** The logarithm of the softmax of each row, in float64. */
function oracle(values: readonly number[], classes: number): number[] {
  const result: number[] = [];
  for (let start = 0; start < values.length; start += classes) {
    const row = values.slice(start, start + classes);
    const largest = Math.max(...row);
    const logarithm = largest + Math.log(row.reduce((sum, x) => sum + Math.exp(x - largest), 0));
    result.push(...row.map((x) => x - logarithm));
  }
  return result;
}

describe.each([1, 2, 7, 16, 17, 65])('%i classes', (classes) => {
  it('softmax and its logarithm', async () => {
    const x = irregular([2, 3, classes], 1);
    const wanted = oracle(numbers(x), classes);
    expectClose(numbers(logSoftmax(x)), [...wanted, 1].slice(0, -1), 2e-6);
    expectClose(numbers(x.softmax()), wanted.map(Math.exp), 2e-6);
    const options = { step: 4e-3, elements: 24 };
    expect(await gradcheck((a) => softmax(a!), [x], options)).toMatchObject({ passed: true });
    expect(await gradcheck((a) => a!.logSoftmax(), [x], options)).toMatchObject({ passed: true });
  });

  it.each([0, 0.1])('cross-entropy with smoothing %f', async (labelSmoothing) => {
    const x = irregular([3, classes], 2);
    const labels = tensor([0, classes - 1, Math.floor(classes / 2)], { dtype: 'int32' });
    const logarithms = oracle(numbers(x), classes);
    const losses = numbers(labels).map((label, row) => {
      const own = logarithms.slice(row * classes, (row + 1) * classes);
      const uniform = own.reduce((sum, value) => sum + value, 0) / classes;
      return -(1 - labelSmoothing) * own[label]! - labelSmoothing * uniform;
    });
    const total = losses.reduce((sum, loss) => sum + loss, 0);
    const wanted = { mean: [total / 3], sum: [total], none: losses };
    for (const reduction of ['mean', 'sum', 'none'] as const) {
      const loss = crossEntropy(x, labels, { labelSmoothing, reduction });
      expect(loss.shape).toEqual(reduction === 'none' ? [3] : []);
      for (const [index, got] of numbers(loss).entries()) expect(got).toBeCloseTo(wanted[reduction][index]!, 5);
      const body = (a: Tensor | undefined) => crossEntropy(a!, labels, { labelSmoothing, reduction });
      expect(await gradcheck(body, [x], { step: 4e-3, elements: 24 })).toMatchObject({ passed: true });
    }
  });
});

describe('golden losses', () => {
  it('agree with the reference, forward and backward', async () => {
    const cases = await readGolden('losses');
    expect(cases.size).toBe(4);
    for (const golden of cases.values()) {
      const logits = golden.tensor('logits', true);
      const smoothing = /_ls([\d.]+)$/.exec(golden.name)?.[1];
      const targets =
        smoothing === undefined
          ? golden.tensor('teacher').softmax()
          : tensor(Int32Array.from(golden.values('labels')), { shape: [logits.shape[0]!] });
      const loss = crossEntropy(logits, targets, { labelSmoothing: Number(smoothing ?? 0) });
      expectClose(numbers(loss), golden.exact('y'), 1e-6);
      loss.backward();
      expectClose(numbers(logits.grad!), golden.exact('d_logits'), 1e-6);
    }
  });
});

describe('a distribution as target', () => {
  it('has the gradient of the logits', async () => {
    const x = irregular([4, 5], 3);
    const weights = irregular([4, 5], 4).detach().softmax();
    const body = (a: Tensor | undefined) => crossEntropy(a!, weights, { labelSmoothing: 0.2 });
    expect(await gradcheck(body, [x], { step: 4e-3 })).toMatchObject({ passed: true });
  });
});

describe('what does not fit', () => {
  const logits = () => zeros([2, 3]);
  const labels = (values: number[]) => tensor(values, { dtype: 'int32' });

  it('is refused', () => {
    expect(codeOf(() => crossEntropy(logits(), labels([0])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => crossEntropy(logits(), zeros([2])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => crossEntropy(logits(), zeros([2], { dtype: 'uint8' })))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => crossEntropy(labels([0]), labels([0])))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => crossEntropy(logits(), labels([0, 1]), { labelSmoothing: 2 }))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => crossEntropy(logits(), labels([0, 1]), { reduction: 'max' as never }))).toBe(
      'INVALID_ARGUMENT',
    );
    expect(codeOf(() => crossEntropy(logits(), irregular([2, 3], 1)))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => softmax(zeros([])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => softmax(zeros([3, 0])))).toBe('SHAPE_MISMATCH');
  });

  it.each([-1, 3])('a label of %i fails when the loss is read', async (label) => {
    const loss = crossEntropy(logits(), labels([0, label]));
    await expect(loss.data()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(loss.data()).rejects.toThrow(/label .* is not a class/);
  });

  it('takes no rows', () => {
    const empty = labels([]);
    expect(numbers(crossEntropy(zeros([0, 3]), empty, { reduction: 'sum' }))).toEqual([0]);
    expect(numbers(crossEntropy(zeros([0, 3]), empty))).toEqual([NaN]);
    expect(crossEntropy(zeros([0, 3]), empty, { reduction: 'none' }).shape).toEqual([0]);
  });
});

describe('countTopK', () => {
  it('counts right rows', () => {
    const logits = tensor([
      [1, 3, 2],
      [5, 5, 5],
    ]);
    const labels = tensor([2, 1], { dtype: 'int32' });
    expect(numbers(countTopK(logits, labels))).toEqual([0]);
    expect(numbers(countTopK(logits, labels, 2))).toEqual([2]);
    expect(codeOf(() => countTopK(logits, labels, 0))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => countTopK(logits, zeros([2])))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => countTopK(logits, zeros([3], { dtype: 'int32' })))).toBe('SHAPE_MISMATCH');
  });
});

test.each([0, 1, -2, 2])('softmax and its logarithm along axis %i', async (axis) => {
  const x = irregular([3, 5, 4], 3);
  const last = axis === 2 ? [0, 1, 2] : axis === 0 ? [1, 2, 0] : [0, 2, 1];
  const back = [0, 1, 2].map((at) => last.indexOf(at));
  expect(numbers(x.softmax(axis))).toEqual(numbers(x.permute(last).softmax().permute(back)));
  expect(numbers(x.logSoftmax(axis))).toEqual(numbers(x.permute(last).logSoftmax().permute(back)));
  const sums = numbers(x.softmax(axis).sum({ axes: axis }));
  expectClose(sums, new Array<number>(sums.length).fill(1), 2e-6);
  expect(await gradcheck((a) => softmax(a!, axis), [x], { step: 4e-3, elements: 24 })).toMatchObject({ passed: true });
  expect(codeOf(() => x.softmax(3))).toBe('INVALID_ARGUMENT');
});
