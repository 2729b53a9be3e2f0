import { EvenkeelError } from '../../src/errors';
import { init, Linear, Parameter } from '../../src/nn';
import { manualSeed, type Tensor } from '../../src/tensor';

function moments(value: Tensor): { mean: number; deviation: number; largest: number } {
  const values = [...value.dataSync()];
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const deviation = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length);
  return { mean, deviation, largest: Math.max(...values.map(Math.abs)) };
}

describe('initializers', () => {
  const shape = [3, 3, 32, 64];
  const fanIn = 9 * 32;
  const fanOut = 9 * 64;

  it('count fans', () => {
    expect(init.fans(shape)).toEqual({ fanIn, fanOut });
    expect(init.fans([10, 20])).toEqual({ fanIn: 10, fanOut: 20 });
    expect(() => init.fans([10])).toThrow(EvenkeelError);
  });

  it('have the right spread', () => {
    manualSeed(1);
    const cases: readonly (readonly [init.Initializer, number])[] = [
      [init.kaimingNormal(), Math.sqrt(2 / fanIn)],
      [init.kaimingNormal({ mode: 'fanOut', gain: 1 }), Math.sqrt(1 / fanOut)],
      [init.kaimingUniform({ mode: 'fanOut' }), Math.sqrt(2 / fanOut)],
      [init.xavierNormal(), Math.sqrt(2 / (fanIn + fanOut))],
      [init.xavierUniform({ gain: 2 }), 2 * Math.sqrt(2 / (fanIn + fanOut))],
      [init.defaultWeight, Math.sqrt(1 / (3 * fanIn))],
      [init.normal(0.3), 0.3],
      [init.uniform(-1, 1), Math.sqrt(1 / 3)],
    ];
    for (const [initializer, deviation] of cases) {
      const found = moments(initializer(shape));
      expect(Math.abs(found.mean)).toBeLessThan(0.03 * deviation);
      expect(Math.abs(found.deviation / deviation - 1)).toBeLessThan(0.02);
    }
    expect(moments(init.defaultWeight(shape)).largest).toBeLessThanOrEqual(1 / Math.sqrt(fanIn));
    expect(new Set(init.zeros([7]).dataSync())).toEqual(new Set([0]));
    expect(new Set(init.ones([7]).dataSync())).toEqual(new Set([1]));
    expect(new Set(init.constant(0.25)([7]).dataSync())).toEqual(new Set([0.25]));
  });

  it('follow the seed, with a stream for each parameter', () => {
    const values = (features: number) => {
      manualSeed(5);
      const first = new Linear({ inFeatures: features, outFeatures: 3, bias: false });
      const second = new Linear({ inFeatures: 4, outFeatures: 3, bias: false });
      return [first.weight.dataSync(), second.weight.dataSync()];
    };
    const [narrow, wide] = [values(4), values(9)];
    expect(values(4)).toEqual(narrow);
    expect(narrow[0]).not.toEqual(narrow[1]);
    // The second parameter does not depend on the size of the first.
    expect(wide[1]).toEqual(narrow[1]);
    expect(new Parameter(init.normal(1)([2])).requiresGrad).toBe(true);
  });
});
