import { join } from 'node:path';
import type { EvenkeelError } from '../../src/errors';
import { Parameter } from '../../src/nn/parameter';
import { Adam, AdamW, type Optimizer, parameterGroups, RMSprop, SGD } from '../../src/optim';
import { readSafetensors } from '../../src/serialization/safetensors';
import { memory, ones, synchronize, type Tensor, tensor } from '../../src/tensor';

/** Whatever its options are: what these tests use of an optimizer. */
type AnyOptimizer = Pick<
  Optimizer<{ learningRate: number }, { weightDecay: number }>,
  'step' | 'zeroGrad' | 'stateDict' | 'loadStateDict' | 'learningRate' | 'dispose'
>;
type Make = (parameters: readonly Tensor[]) => AnyOptimizer;

function parameter(values: readonly number[] | Float32Array, decay = true): Parameter {
  return new Parameter(tensor(values), { decay });
}

function setGradient(target: Tensor, values: readonly number[] | Float32Array): void {
  target.grad?.dispose();
  target.grad = tensor(values);
}

/** Some gradients, the same for the same step. */
function gradientOf(step: number, length: number): Float32Array {
  return Float32Array.from({ length }, (_, index) => Math.sin(step * 31 + index * 7));
}

function errorOf(body: () => unknown): Pick<EvenkeelError, 'code' | 'message'> {
  try {
    body();
  } catch (error) {
    return error as EvenkeelError;
  }
  return { code: 'INTERNAL', message: 'nothing was thrown' };
}

const makers: Readonly<Record<string, Make>> = {
  sgd: (p) => new SGD(p, { learningRate: 0.1 }),
  sgd_momentum_decay: (p) => new SGD(p, { learningRate: 0.1, momentum: 0.9, weightDecay: 5e-4 }),
  sgd_nesterov: (p) => new SGD(p, { learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 1e-4 }),
  adam: (p) => new Adam(p, { learningRate: 1e-2, weightDecay: 1e-3 }),
  adamw: (p) => new AdamW(p, { learningRate: 1e-2, weightDecay: 1e-2 }),
  rmsprop: (p) => new RMSprop(p, { learningRate: 1e-2, smoothing: 0.95, momentum: 0.9, epsilon: 1e-3 }),
};

describe.each(Object.entries(makers))('%s', (name, make) => {
  it("takes PyTorch's steps", async () => {
    const golden = await readSafetensors(join(__dirname, '..', 'golden', 'optimizers.safetensors'));
    const values = (key: string) => golden.tensors.get(`${name}/${key}`)?.values as Float32Array | Float64Array;
    const weights = parameter(values('w0') as Float32Array);
    const optimizer = make([weights]);
    for (let step = 0; step < 6; step++) {
      setGradient(weights, values(`g${step}`) as Float32Array);
      optimizer.step();
      const actual = await weights.data();
      for (const [index, expected] of values(`w${step + 1}`).entries()) {
        expect(Math.abs(actual[index]! - expected)).toBeLessThanOrEqual(2e-6 * Math.max(1, Math.abs(expected)));
      }
    }
  });

  it('goes on bit for bit from a saved state', async () => {
    const start = gradientOf(99, 17);
    const [straight, first, second] = [parameter(start), parameter(start), parameter(start)];
    const steps = (optimizer: AnyOptimizer, weights: Tensor, from: number, to: number) => {
      for (let step = from; step < to; step++) {
        setGradient(weights, gradientOf(step, 17));
        optimizer.step();
      }
    };
    steps(make([straight]), straight, 0, 6);
    const before = make([first]);
    steps(before, first, 0, 3);
    const { tensors, values } = before.stateDict();
    const saved = new Map<string, { shape: readonly number[]; values: Float32Array }>();
    for (const [key, state] of tensors) {
      saved.set(key, { shape: state.shape, values: (await state.data()) as Float32Array });
    }
    const after = make([second]);
    second.copyFrom((await first.data()) as Float32Array);
    after.loadStateDict({ tensors: saved, values: JSON.parse(JSON.stringify(values)) });
    steps(after, second, 3, 6);
    expect(await second.data()).toEqual(await straight.data());
    await synchronize();
  });

  it('scales gradients in the same pass', async () => {
    const [scaled, plain] = [parameter([1, -2, 3]), parameter([1, -2, 3])];
    setGradient(scaled, [4, 8, -2]);
    setGradient(plain, [1, 2, -0.5]);
    make([scaled]).step({ gradientScale: 0.25 });
    make([plain]).step();
    expect(await scaled.data()).toEqual(await plain.data());
  });
});

describe('parameters and groups', () => {
  it('spares parameters that are marked so from weight decay in a plain list', async () => {
    const [weight, bias] = [parameter([1]), parameter([1], false)];
    const optimizer = new SGD([weight, bias], { learningRate: 0.5, weightDecay: 0.5 });
    setGradient(weight, [0]);
    setGradient(bias, [0]);
    optimizer.step();
    expect([weight.itemSync(), bias.itemSync()]).toEqual([0.75, 1]);
  });

  it('splits a module into what decays and what does not', () => {
    const [weight, bias] = [parameter([1]), parameter([1], false)];
    const groups = parameterGroups({ parameters: () => [weight, bias] }, { weightDecay: 0.1 });
    expect(groups).toEqual([
      { parameters: [weight], weightDecay: 0.1 },
      { parameters: [bias], weightDecay: 0 },
    ]);
    expect(parameterGroups({ parameters: () => [bias] }, { weightDecay: 0.1 })).toHaveLength(1);
  });

  it("keeps the ratio of a group's learning rate as a schedule changes the optimizer's", () => {
    const [a, b] = [parameter([0]), parameter([0])];
    const groups = [{ parameters: [a] }, { parameters: [b], learningRate: 0.2, momentum: 0.9 }];
    const optimizer = new SGD(groups, { learningRate: 0.1 });
    optimizer.learningRate = 0.5;
    setGradient(a, [1]);
    setGradient(b, [1]);
    optimizer.step();
    expect(a.itemSync()).toBeCloseTo(-0.5, 6);
    expect(b.itemSync()).toBeCloseTo(-1, 6);
    expect([...optimizer.stateDict().tensors.keys()]).toEqual(['1.velocity']);
  });

  it('leaves parameters without a gradient alone', () => {
    const [a, b] = [parameter([1]), parameter([1])];
    const optimizer = new Adam([a, b], { learningRate: 0.1 });
    setGradient(a, [1]);
    optimizer.step();
    expect(b.itemSync()).toBe(1);
    expect(optimizer.stateDict().values['steps']).toEqual([1, 0]);
    optimizer.zeroGrad();
    expect(a.grad).toBeUndefined();
  });

  it('updates all parameters or none', async () => {
    const [first, second] = [parameter([1, 2]), parameter([3])];
    const adam = new Adam([first, second], { learningRate: 0.1 });
    const unchanged = async () => {
      expect(await first.data()).toEqual(new Float32Array([1, 2]));
      expect(await second.data()).toEqual(new Float32Array([3]));
      expect(adam.stateDict().values['steps']).toEqual([0, 0]);
    };
    setGradient(first, [1, 1]);
    setGradient(second, [1]);
    second.grad?.dispose();
    expect(errorOf(() => adam.step()).code).toBe('DISPOSED');
    await unchanged();
    // A gradient of another size is found on the compute thread, and said when the stream is waited for.
    setGradient(second, [1, 1]);
    adam.step();
    await expect(synchronize()).rejects.toMatchObject({ message: expect.stringContaining('gradients') });
    expect(await first.data()).toEqual(new Float32Array([1, 2]));
    expect(await second.data()).toEqual(new Float32Array([3]));
  });

  it('frees its state', () => {
    const weights = parameter([1, 2]);
    const before = memory().liveTensors;
    const optimizer = new Adam([weights], { learningRate: 0.1 });
    expect(memory().liveTensors).toBe(before + 2);
    optimizer.dispose();
    expect(memory().liveTensors).toBe(before);
  });
});

describe('wrong arguments', () => {
  const weights = parameter([1]);

  it.each<[string, () => unknown]>([
    ['learningRate', () => new SGD([weights], { learningRate: -1 })],
    ['learningRate', () => new SGD([weights], { learningRate: Number.NaN })],
    ['momentum', () => new SGD([weights], { learningRate: 1, momentum: 1 })],
    ['nesterov', () => new SGD([weights], { learningRate: 1, nesterov: true })],
    ['weightDecay', () => new AdamW([weights], { learningRate: 1, weightDecay: -1 })],
    ['betas', () => new Adam([weights], { learningRate: 1, betas: [0.9, 1] })],
    ['smoothing', () => new RMSprop([weights], { learningRate: 1, smoothing: 2 })],
    ['twice', () => new SGD([weights, weights], { learningRate: 1 })],
    ['twice', () => new SGD([weights, weights.detach()], { learningRate: 1 })],
    ['empty', () => new SGD([], { learningRate: 1 })],
    ['float32', () => new SGD([ones([1], { dtype: 'int32' })], { learningRate: 1 })],
    ['gradientScale', () => new SGD([weights], { learningRate: 1 }).step({ gradientScale: Number.NaN })],
  ])('names %s', (word, body) => {
    expect(errorOf(body)).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(word) });
  });

  it("refuses another optimizer's state, and loads nothing of one that does not fit", () => {
    const adam = new Adam([weights], { learningRate: 1 });
    const sgd = new SGD([weights], { learningRate: 1, momentum: 0.9 });
    expect(errorOf(() => sgd.loadStateDict(adam.stateDict())).message).toContain('state of Adam');
    const two = new SGD([parameter([1]), parameter([2])], { learningRate: 0.3, momentum: 0.9 });
    expect(errorOf(() => sgd.loadStateDict(two.stateDict())).code).toBe('INVALID_ARGUMENT');
    const other = new SGD([parameter([1, 2])], { learningRate: 0.3, momentum: 0.9 });
    expect(errorOf(() => sgd.loadStateDict(other.stateDict())).code).toBe('SHAPE_MISMATCH');
    expect(sgd.learningRate).toBe(1);
  });
});
