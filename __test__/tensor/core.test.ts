import { Worker } from 'node:worker_threads';
import { EvenkeelError } from '../../src/errors';
import {
  customFunction,
  full,
  getThreads,
  gradcheck,
  keep,
  memory,
  noGrad,
  ones,
  scope,
  setThreads,
  synchronize,
  type Tensor,
  tensor,
  zeros,
} from '../../src/tensor';
import { record } from '../../src/tensor/autograd';
import { allocate, run } from '../../src/tensor/tensor';

/** `a + b` from the stream's basic operations, so that the tape is tested without the library of operations. */
function plus(a: Tensor, b: Tensor): Tensor {
  const sum = allocate('plus', a.shape);
  run('copy', [sum], a);
  run('accumulate', [], sum, b);
  return record('plus', [a, b], sum, [], (gradient, _saved, needs) =>
    needs.map((need) => (need ? gradient : undefined)),
  );
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

describe('creation', () => {
  it('round-trips values of every dtype', async () => {
    expect(await tensor([1.5, -2, 0]).data()).toEqual(new Float32Array([1.5, -2, 0]));
    expect(tensor(new Int32Array([1, -2, 3])).dataSync()).toEqual(new Int32Array([1, -2, 3]));
    expect(tensor(new Uint8Array([1, 255])).dataSync()).toEqual(new Uint8Array([1, 255]));
    expect(
      tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]).shape,
    ).toEqual([2, 3]);
    expect(tensor(7).itemSync()).toBe(7);
    expect(await full([2, 2], 3).data()).toEqual(new Float32Array([3, 3, 3, 3]));
    expect(zeros([3], { dtype: 'int32' }).dataSync()).toEqual(new Int32Array(3));
    expect(ones([0, 4]).dataSync()).toEqual(new Float32Array(0));
  });

  it('copies what it is given', async () => {
    const values = new Float32Array([1, 2]);
    const made = tensor(values);
    values[0] = 9;
    expect((await made.data())[0]).toBe(1);
  });

  it('refuses bad input with a code', () => {
    expect(codeOf(() => tensor([[1, 2], [3]]))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => tensor([1, 2], { shape: [3] }))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => tensor('no' as unknown as number))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => tensor(new Float64Array(2) as unknown as Float32Array))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => tensor(new Int32Array(2), { dtype: 'float32' }))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => tensor(new Float32Array(new SharedArrayBuffer(8))))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => zeros([-1]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => zeros([1.5]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => zeros([2 ** 30, 2 ** 30]))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => zeros([2 ** 20, 2 ** 20]))).toBe('OUT_OF_MEMORY');
    const detached = new Float32Array(4);
    structuredClone(detached, { transfer: [detached.buffer] });
    expect(codeOf(() => tensor(detached, { shape: [4] }))).not.toBe('no error');
    const Resizable = ArrayBuffer as unknown as new (length: number, options: { maxByteLength: number }) => ArrayBuffer;
    expect(codeOf(() => tensor(new Float32Array(new Resizable(8, { maxByteLength: 16 }))))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => (tensor(new Int32Array(1)).requiresGrad = true))).toBe('DTYPE_MISMATCH');
    expect(codeOf(() => zeros([2]).copyFrom(new Float32Array(3)))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => zeros([2]).itemSync())).toBe('SHAPE_MISMATCH');
  });
});

describe('lifetimes', () => {
  it('frees what a scope made and does not return', () => {
    const before = memory();
    const outer = scope(() => {
      const gone = zeros([10]);
      const kept = keep(ones([3]));
      const inner = scope(() => ({ list: [ones([2]), zeros([4])], other: gone }));
      expect(inner.list[0]?.isDisposed).toBe(false);
      return { kept, first: inner.list[0] as Tensor };
    });
    expect(memory().liveTensors).toBe(before.liveTensors + 2);
    expect(memory().liveBytes).toBe(before.liveBytes + 20);
    expect(outer.first.dataSync()).toEqual(new Float32Array([1, 1]));
    outer.kept.dispose();
    outer.first.dispose();
    expect(memory().liveTensors).toBe(before.liveTensors);
  });

  it('frees everything when the body throws', () => {
    const before = memory().liveTensors;
    expect(() =>
      scope(() => {
        zeros([10]);
        throw new Error('no');
      }),
    ).toThrow('no');
    expect(memory().liveTensors).toBe(before);
  });

  it('says what to do about asynchronous bodies and freed tensors', () => {
    expect(codeOf(() => scope(async () => 1))).toBe('INVALID_ARGUMENT');
    const gone = zeros([2]);
    gone.dispose();
    gone.dispose();
    expect(gone.isDisposed).toBe(true);
    expect(codeOf(() => gone.dataSync())).toBe('DISPOSED');
  });

  it('works with using', () => {
    const before = memory().liveTensors;
    {
      using held = zeros([3]);
      expect(held.size).toBe(3);
    }
    expect(memory().liveTensors).toBe(before);
  });

  it('reuses memory: a thousand steps leave nothing', async () => {
    const before = memory();
    for (let step = 0; step < 1000; step++) {
      scope(() => {
        plus(ones([1000]), ones([1000]));
      });
      if (step % 100 === 0) await synchronize();
    }
    await synchronize();
    expect(memory().liveBytes).toBe(before.liveBytes);
    expect(memory().poolBytes).toBeLessThan(1e6);
  });
});

describe('the tape', () => {
  it('adds up gradients along every path', async () => {
    const x = tensor([1, 2], { requiresGrad: true });
    const y = tensor([3, 4]);
    const before = memory().liveTensors;
    scope(() => {
      const twice = plus(x, x);
      plus(plus(twice, y), plus(twice, x)).backward(tensor([1, 10]));
    });
    expect(await x.grad?.data()).toEqual(new Float32Array([5, 50]));
    expect(y.grad).toBeUndefined();
    scope(() => plus(x, y).backward(tensor([1, 1])));
    expect(await x.grad?.data()).toEqual(new Float32Array([6, 51]));
    expect(memory().liveTensors).toBe(before + 1);
  });

  it('lets intermediates go at once, and the graph with its last handle', () => {
    const x = tensor([1, 2], { requiresGrad: true });
    const before = memory().liveTensors;
    const saving = (input: Tensor): Tensor => {
      const output = allocate('saving', input.shape);
      run('copy', [output], input);
      return record('saving', [input], output, [input], (gradient) => [gradient]);
    };
    const result = scope(() => saving(saving(saving(x))));
    expect(memory().liveTensors).toBe(before + 3);
    result.dispose();
    expect(memory().liveTensors).toBe(before);
  });

  it('does not record in noGrad, and says so', () => {
    const x = tensor([1], { requiresGrad: true });
    const y = noGrad(() => plus(x, x));
    expect(y.requiresGrad).toBe(false);
    expect(codeOf(() => y.backward())).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => plus(x, x).backward(zeros([2])))).toBe('SHAPE_MISMATCH');
    expect(codeOf(() => plus(zeros([2]), tensor([1, 2], { requiresGrad: true })).backward())).toBe('SHAPE_MISMATCH');
  });

  it('runs backward twice only with retainGraph', async () => {
    const x = tensor([1], { requiresGrad: true });
    const y = plus(plus(x, x), x);
    y.backward(undefined, { retainGraph: true });
    y.backward();
    expect(await x.grad?.data()).toEqual(new Float32Array([6]));
    expect(codeOf(() => y.backward())).toBe('INVALID_ARGUMENT');
  });

  it('refuses to use a saved value that was updated since', () => {
    const x = tensor([1], { requiresGrad: true });
    const output = allocate('saving', [1]);
    run('copy', [output], x);
    record('saving', [x], output, [x], (gradient) => [gradient]);
    x.copyFrom(new Float32Array([2]));
    expect(codeOf(() => output.backward())).toBe('INVALID_ARGUMENT');
  });

  it('survives a very deep chain', () => {
    const x = tensor([1], { requiresGrad: true });
    scope(() => {
      let y = x;
      for (let depth = 0; depth < 20_000; depth++) y = plus(y, y === x ? y : zeros([1]));
      y.backward();
    });
    expect(x.grad?.itemSync()).toBe(2);
  });

  it('runs and checks custom functions', async () => {
    const double = customFunction({
      name: 'double',
      forward: (_, x: Tensor) => plus(x, x),
      backward: (_, g) => [plus(g, g)],
    });
    const wrong = customFunction({ forward: (_, x: Tensor) => plus(x, x), backward: (_, g) => [g] });
    const x = tensor([0.5, -1, 2], { requiresGrad: true });
    expect((await gradcheck((x) => double(x), [x])).passed).toBe(true);
    expect((await gradcheck((x) => wrong(x), [x])).passed).toBe(false);
    const bad = customFunction({ forward: (_, x: Tensor) => plus(x, x), backward: () => [zeros([1])] });
    expect(codeOf(() => bad(x).backward(ones([3])))).toBe('SHAPE_MISMATCH');
  });
});

describe('the stream', () => {
  it('survives a panic and poisons what depended on it', async () => {
    const victim = allocate('panic', [1]);
    run('panic', [victim]);
    const later = plus(victim, ones([1]));
    await expect(later.data()).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringContaining('panic') });
    expect(await ones([1]).data()).toEqual(new Float32Array([1]));
  });

  it('reports a failed update at the next fence', async () => {
    run('accumulate', [], zeros([2]), zeros([3]));
    await expect(synchronize()).rejects.toMatchObject({ code: 'INTERNAL' });
    await synchronize();
  });

  it('changes its threads', async () => {
    const before = getThreads();
    for (const threads of [1, 3, 2]) {
      setThreads(threads);
      expect(getThreads()).toBe(threads);
      expect(await ones([2]).data()).toEqual(new Float32Array([1, 1]));
    }
    setThreads(before);
    expect(codeOf(() => setThreads(0))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => setThreads(1.5))).toBe('INVALID_ARGUMENT');
  });

  it('stops with a worker that is terminated', async () => {
    const worker = new Worker(
      `const { loadNative } = require('ts-node/register/transpile-only') && require(${JSON.stringify(
        require.resolve('../../src/native'),
      )}); const native = loadNative(); native.createStream(2); setInterval(() => {}, 1000); require('node:worker_threads').parentPort.postMessage('up');`,
      { eval: true },
    );
    await new Promise((resolve) => worker.once('message', resolve));
    expect(await worker.terminate()).toBe(1);
    expect(await ones([1]).data()).toEqual(new Float32Array([1]));
  });
});
