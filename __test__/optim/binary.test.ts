import { Parameter } from '../../src/nn/parameter';
import { Adam, adaptiveGradientClipping, Bop, type ClippingUnit, SGD } from '../../src/optim';
import { binaryLinear, tensor } from '../../src/tensor';
import { expectClose, readGolden } from '../support/golden';

function parameter(values: readonly number[], gradient: readonly number[], shape = [values.length]): Parameter {
  const result = new Parameter(tensor([...values], { shape }));
  result.grad = tensor([...gradient], { shape });
  return result;
}

const norm = (values: Iterable<number>): number => Math.hypot(...values);

describe('adaptiveGradientClipping', () => {
  it('agrees with the golden vectors', async () => {
    const cases = await readGolden('adaptive_gradient_clipping');
    expect(cases.size).toBe(4);
    for (const { tensor: load, values } of cases.values()) {
      const weight = new Parameter(load('w'));
      weight.grad = load('g');
      adaptiveGradientClipping([weight], { clipping: 0.02 });
      expectClose(await weight.grad.data(), values('clipped'), 1e-6);
    }
  });

  it.each<[ClippingUnit, readonly number[]]>([
    ['output', [3, 0.1, 4, 0.1]],
    ['tensor', [3, 0.1, 4, 0.1]],
    ['element', [3, 0.1, 4, 0.1]],
  ])('limits each %s', async (unit, gradient) => {
    const weight = parameter([1, 1, 1, 1], gradient, [2, 2]);
    adaptiveGradientClipping([weight], { clipping: 0.5, unitOf: () => unit });
    const after = Array.from(await weight.grad!.data());
    if (unit === 'output') {
      expect(norm([after[0]!, after[2]!])).toBeCloseTo(0.5 * Math.SQRT2, 6);
      expect(after[0]! / after[2]!).toBeCloseTo(0.75, 6);
      expect([after[1], after[3]]).toEqual([Math.fround(0.1), Math.fround(0.1)]);
    } else if (unit === 'tensor') {
      expect(norm(after)).toBeCloseTo(1, 6);
    } else {
      expectClose(after, [0.5, 0.1, 0.5, 0.1], 1e-6);
    }
  });

  it('bounds the step of SGD but not the direction of Adam', async () => {
    const run = async (optimizer: typeof SGD | typeof Adam, clipping: number) => {
      const weight = parameter([1, 2, 2], [0, 0, 0]);
      const steps = new optimizer([weight], { learningRate: 0.01 });
      for (let step = 0; step < 50; step++) {
        weight.grad!.copyFrom(new Float32Array([30, 40, -10]));
        adaptiveGradientClipping([weight], { clipping });
        steps.step();
      }
      return norm((await weight.data()).map((value, index) => value - [1, 2, 2][index]!));
    };
    const [wide, narrow] = [await run(SGD, 0.02), await run(SGD, 0.002)];
    expect(wide / narrow).toBeGreaterThan(9);
    expect(wide / narrow).toBeLessThan(11);
    expect((await run(Adam, 0.002)) / (await run(Adam, 0.02))).toBeCloseTo(1, 2);
  });

  it('skips parameters without a gradient and refuses bad options', () => {
    const weight = new Parameter(tensor([1]));
    adaptiveGradientClipping([weight]);
    expect(weight.grad).toBeUndefined();
    for (const options of [{ clipping: 0 }, { clipping: Number.NaN }, { epsilon: 0 }]) {
      expect(() => adaptiveGradientClipping([weight], options)).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      );
    }
  });
});

describe('Bop', () => {
  it('flips a weight when the average of its gradients has been on its side, and keeps signs', async () => {
    const weight = parameter([0.3, -0.2, 0, 1], [1, 1, -1, 0]);
    const optimizer = new Bop([weight], { learningRate: 0.5, threshold: 0.6 });
    optimizer.step();
    // The averages are ±0.5: none is past the threshold yet.
    expect(Array.from(await weight.data())).toEqual([1, -1, 1, 1]);
    optimizer.step();
    // Now ±0.75: the first flips; the second and third have gradients that want them where they are.
    expect(Array.from(await weight.data())).toEqual([-1, -1, 1, 1]);
  });

  it('keeps a weight whose average is just at the threshold', async () => {
    const weight = parameter([1], [1]);
    new Bop([weight], { learningRate: 0.5, threshold: 0.5 }).step();
    expect(await weight.item()).toBe(1);
  });

  it('learns a sign pattern', async () => {
    const size = 33;
    const target = Array.from({ length: size }, (_, index) => (Math.sin(7 * index) < 0 ? -1 : 1));
    const weight = new Parameter(
      tensor(
        target.map((_, index) => (index % 2 ? 0.5 : -0.5)),
        { shape: [size, 1] },
      ),
    );
    const optimizer = new Bop([weight], { learningRate: 0.1, threshold: 1e-6 });
    const input = tensor(target, { shape: [1, size] });
    for (let step = 0; step < 20; step++) {
      optimizer.zeroGrad();
      // The loss is the negative output: it falls as signs agree with the target's.
      binaryLinear(input, weight, { weightGradient: 'identity' }).backward(tensor([-1], { shape: [1, 1] }));
      optimizer.step();
    }
    expect(Array.from(await weight.data())).toEqual(target);
  });

  it('refuses weight decay and shares above 1', () => {
    const weight = new Parameter(tensor([1]));
    for (const options of [
      { learningRate: 2 },
      { learningRate: 0.1, weightDecay: 0.1 },
      { learningRate: 0.1, threshold: -1 },
    ]) {
      expect(() => new Bop([weight], options)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
  });
});
