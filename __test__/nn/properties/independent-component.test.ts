/**
 * Testable properties of the Independent-Component layer (Chen et al. 2019) by their numbers. IC-3, IC-4, IC-6 and IC-7 are in
 * ../independent-component.test.ts; IC-8 needs long training.
 */
import { manualSeed, nn, randn, type Tensor, tensor, uniform } from '../../../src';
import { conditionNumber } from '../../../src/nn/diagnose/covariance';

/** Mutual information of two columns in nats, each different value a symbol, by counting. */
function mutualInformation(pairs: ArrayLike<number>): { joint: number; single: number } {
  const rows = pairs.length / 2;
  const counts = [new Map<string, number>(), new Map<string, number>(), new Map<string, number>()];
  for (let row = 0; row < rows; row++) {
    // Rounded, because one symbol must stay one through the arithmetic.
    const [a, b] = [0, 1].map((column) => (pairs[2 * row + column] ?? 0).toFixed(3));
    for (const [index, key] of [a!, b!, `${a},${b}`].entries())
      counts[index]!.set(key, (counts[index]!.get(key) ?? 0) + 1);
  }
  const [first, second, both] = counts.map((table) =>
    [...table.values()].reduce((sum, count) => sum - (count / rows) * Math.log(count / rows), 0),
  );
  return { joint: first! + second! - both!, single: first! };
}

/** Dependent pairs of the given symbols, with mean 0 to the bit: each pair comes with its negative. */
function dependentPairs(symbols: readonly number[], rows: number): Tensor {
  const draws = uniform([rows / 2, 3]).dataSync();
  const values = new Float32Array(2 * rows);
  for (let row = 0; row < rows / 2; row++) {
    const pick = (chance: number) => symbols[Math.min(symbols.length - 1, Math.floor(chance * symbols.length))]!;
    const first = pick(draws[3 * row]!);
    const second = draws[3 * row + 1]! < 0.6 ? first : pick(draws[3 * row + 2]!);
    values.set([first, second, -first, -second], 4 * row);
  }
  return tensor(values, { shape: [rows, 2] });
}

describe('discrete values through the layer', () => {
  const information = (symbols: readonly number[], dropRate: number) => {
    manualSeed(12);
    const pairs = dependentPairs(symbols, 100_000);
    const layer = (rate: number) => new nn.IndependentComponent({ channels: 2, dropRate: rate, affine: false });
    return [0, dropRate].map((rate) => mutualInformation(layer(rate).call(pairs).dataSync()));
  };

  it.each([0.05, 0.1, 0.5])(
    'IC-1: information falls with the square of the keep chance, entropy as it must, at rate %d',
    (rate) => {
      const keep = 1 - rate;
      const [plain, dropped] = information([-2, -1, 1, 2, 3, -3], rate);
      expect(Math.abs(dropped!.joint / plain!.joint - keep ** 2)).toBeLessThan(0.02);
      const binary = -keep * Math.log(keep) - rate * Math.log(rate);
      expect(Math.abs(dropped!.single - (keep * plain!.single + binary))).toBeLessThan(0.005);
    },
  );

  it.each([0.05, 0.5])('IC-2: falls further where a value is 0 already, at rate %d', (rate) => {
    const [plain, dropped] = information([-2, -1, 0, 1, 2], rate);
    expect(dropped!.joint / plain!.joint).toBeLessThan((1 - rate) ** 2 - 0.02);
  });
});

describe('the inputs of the next layer', () => {
  it.each([0.05, 0.1, 0.2])('IC-5: become as well conditioned as by a ridge, at rate %d', (rate) => {
    manualSeed(13);
    const [rows, features] = [50_000, 12];
    // Scales of independent factors from 1 to 1/300, mixed: covariances with a spectrum from 1 to 1e-5.
    const scales = tensor(Float32Array.from({ length: features }, (_, at) => 300 ** (-at / (features - 1))));
    const x = randn([rows, features])
      .mul(scales)
      .matmul(randn([features, features]));
    const gram = (input: Tensor) => {
      const values = input.dataSync();
      return Array.from({ length: features }, (_, i) =>
        Float64Array.from({ length: features }, (__, j) => {
          let sum = 0;
          for (let at = 0; at < values.length; at += features) sum += values[at + i]! * values[at + j]!;
          return sum / rows;
        }),
      );
    };
    const layer = (dropRate: number) => new nn.IndependentComponent({ channels: features, dropRate, epsilon: 0 });
    const plain = gram(layer(0).call(x));
    const ridge = rate / (1 - rate);
    const predicted = conditionNumber(plain.map((row, i) => row.map((value, j) => value + (i === j ? ridge : 0))));
    const measured = conditionNumber(gram(layer(rate).call(x)));
    expect(conditionNumber(plain)).toBeGreaterThan(1e4);
    expect(Math.abs(measured / predicted - 1)).toBeLessThan(0.05);
    expect(measured).toBeLessThan(500);
  });
});
