import { Parameter } from '../../src/nn/parameter';
import { clipByGlobalNorm, ExponentialMovingAverage, globalNorm } from '../../src/optim';
import { memory, tensor } from '../../src/tensor';

function parameter(values: readonly number[], gradient?: readonly number[]): Parameter {
  const result = new Parameter(tensor([...values]));
  if (gradient !== undefined) result.grad = tensor([...gradient]);
  return result;
}

describe('clipByGlobalNorm', () => {
  it('scales all gradients by one factor', async () => {
    const [a, b, frozen] = [parameter([0, 0], [3, 0]), parameter([0], [4]), parameter([0])];
    const norm = clipByGlobalNorm([a, b, frozen], 1);
    expect(await norm.item()).toBe(5);
    expect((await a.grad!.data())[0]).toBeCloseTo(0.6, 5);
    expect(await b.grad!.item()).toBeCloseTo(0.8, 5);
    expect(frozen.grad).toBeUndefined();
    expect(await globalNorm([a, b]).item()).toBeCloseTo(1, 5);
  });

  it('leaves gradients within the limit alone, bit for bit', async () => {
    const a = parameter([0, 0], [0.1, -0.7]);
    expect(await clipByGlobalNorm([a], 1).item()).toBeCloseTo(Math.SQRT1_2, 6);
    expect(await a.grad!.data()).toEqual(new Float32Array([0.1, -0.7]));
  });

  it('neither overflows nor vanishes', async () => {
    const a = parameter([0, 0], [3e20, 4e20]);
    expect(await clipByGlobalNorm([a], 5).item()).toBeCloseTo(5e20, -15);
    expect((await a.grad!.data())[1]).toBeCloseTo(4, 5);
    expect((await globalNorm([parameter([0, 0], [3e-20, 4e-20])]).item()) * 1e20).toBeCloseTo(5, 5);
  });

  it('tells of gradients that are not finite, and checks its limit', async () => {
    expect(await clipByGlobalNorm([parameter([0], [Number.NaN])], 1).item()).toBeNaN();
    expect(await clipByGlobalNorm([], 1).item()).toBe(0);
    expect(() => clipByGlobalNorm([], 0)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});

describe('ExponentialMovingAverage', () => {
  it('follows the weights and changes places with them', async () => {
    const weights = parameter([0, 8]);
    const average = new ExponentialMovingAverage([weights], { decay: 0.75, warmup: false });
    weights.copyFrom(new Float32Array([4, 4]));
    average.update();
    average.update();
    average.swap();
    expect(average.isSwapped).toBe(true);
    expect(await weights.data()).toEqual(new Float32Array([1.75, 6.25]));
    expect(() => average.update()).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    average.swap();
    expect(await weights.data()).toEqual(new Float32Array([4, 4]));
  });

  it('soon forgets the first weights when it warms up', async () => {
    const weights = parameter([0]);
    const average = new ExponentialMovingAverage([weights], { decay: 0.999 });
    weights.copyFrom(new Float32Array([1]));
    average.update();
    average.swap();
    expect(weights.itemSync()).toBeCloseTo(0.9, 6);
  });

  it('saves and loads its state, and frees it', async () => {
    const weights = parameter([0]);
    const first = new ExponentialMovingAverage([weights]);
    weights.copyFrom(new Float32Array([1]));
    first.update();
    const before = memory().liveTensors;
    const second = new ExponentialMovingAverage([weights]);
    second.loadStateDict(first.stateDict());
    first.update();
    second.update();
    expect(second.stateDict().values).toEqual({ updates: 2 });
    expect(await second.stateDict().tensors.get('0')!.data()).toEqual(await first.stateDict().tensors.get('0')!.data());
    second.dispose();
    expect(memory().liveTensors).toBe(before);
    expect(() => first.loadStateDict({ tensors: new Map(), values: {} })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });
});
