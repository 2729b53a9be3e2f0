import { cutOf, foldFactor, scaleOfSigns } from '../../../src/nn/binary/packed-numbers';

/** The sign as the separate steps compute it. */
const isNegative = (value: number, factor: number, shift: number) =>
  Math.fround(Math.fround(value * factor) + shift) < 0;

test('comparing with a cut gives the sign of the separate steps, next to it and far away', () => {
  const shifts = [0, -0, 0.3, -0.3, 1e-40, -1e-40, 3e38, -3e38, 1, -7.25, 1e-8];
  for (const factor of [1, 0.7, 1.3, 1 / 3, 1e-20, 1e20].map(Math.fround)) {
    const cuts = cutOf(Float32Array.from(shifts), factor, shifts.length);
    for (const [channel, cut] of cuts.entries()) {
      const shift = Math.fround(shifts[channel]!);
      const around = [...Array(21).keys()].map((step) => Math.fround(cut * (1 + (step - 10) * 2 ** -24)));
      const values = [...around, 0, -0, 1e-45, -1e-45, 1, -1, 3e38, -3e38, Number.POSITIVE_INFINITY, Number.NaN];
      for (const value of values.map(Math.fround)) {
        expect([value, value < cut]).toEqual([value, isNegative(value, factor, shift)]);
      }
    }
  }
  expect(cutOf(undefined, undefined, 2)).toEqual(new Float32Array(2));
});

test('a factor is folded only where no product is rounded', () => {
  const scale = Float32Array.of(0.1, -3, 0);
  expect(foldFactor(scale, 0.25)).toEqual(Float32Array.of(0.1 / 4, -0.75, 0));
  expect(foldFactor(scale, 0.2)).toBeUndefined();
  expect(foldFactor(scale, -2)).toBeUndefined();
  expect(foldFactor(Float32Array.of(1e-35), 0.5)).toBeUndefined();
});

test('a weight is binary where each output has one magnitude', () => {
  expect(scaleOfSigns(Float32Array.of(1, -2, -1, 2), 2)).toEqual(Float32Array.of(1, 2));
  expect(scaleOfSigns(Float32Array.of(1, -2, -1, 3), 2)).toBeUndefined();
  expect(scaleOfSigns(Float32Array.of(1, -2), 2)).toBeUndefined();
});
