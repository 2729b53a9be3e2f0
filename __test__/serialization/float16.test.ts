import { fromFloat16Bits, toFloat16Bits } from '../../src/serialization/float16';

const everyHalf = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits);
const isNaNBits = (bits: number) => (bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0;

/** The number of a half by the definition of the format. */
function definition(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const half = (value: number) => toFloat16Bits(Float32Array.of(value))[0]!;

test('every half is the number that the format defines, and comes back with its bits', () => {
  const values = fromFloat16Bits(everyHalf);
  const wrong = everyHalf.filter((bits) => !Object.is(values[bits], definition(bits)));
  expect([...wrong]).toEqual([]);
  const again = toFloat16Bits(values);
  const changed = everyHalf.filter((bits) => again[bits] !== (isNaNBits(bits) ? bits | 0x200 : bits));
  expect([...changed]).toEqual([]);
});

test('between two halves the nearer one is taken, and of two equally near the even one', () => {
  const wrong: number[] = [];
  const word = new Uint32Array(1);
  const float = new Float32Array(word.buffer);
  // Positive ones from 0 to the largest, whose upper neighbour counts as 65,536 here.
  for (let bits = 0; bits < 0x7c00; bits += 1) {
    const above = bits === 0x7bff ? 65_536 : definition(bits + 1);
    float[0] = (definition(bits) + above) / 2;
    const middle = word[0]!;
    const even = bits % 2 === 0 ? bits : bits + 1;
    for (const [offset, expected] of [
      [-1, bits],
      [0, even],
      [1, bits + 1],
    ] as const) {
      word[0] = middle + offset;
      if (half(float[0]!) !== expected || half(-float[0]!) !== expected + 0x8000) wrong.push(bits);
    }
  }
  expect(wrong).toEqual([]);
});

test('what is out of range becomes infinite or zero, with its sign', () => {
  expect([65_504, 65_519.996, 65_520, 3e38, Number.POSITIVE_INFINITY].map(half)).toEqual([
    0x7bff, 0x7bff, 0x7c00, 0x7c00, 0x7c00,
  ]);
  expect([-65_520, Number.NEGATIVE_INFINITY].map(half)).toEqual([0xfc00, 0xfc00]);
  expect([2 ** -24, 2 ** -25, 2.981e-8, 1e-45, 0].map(half)).toEqual([1, 0, 1, 0, 0]);
  expect([-0, -1e-45, -(2 ** -25)].map(half)).toEqual([0x8000, 0x8000, 0x8000]);
  expect(isNaNBits(half(Number.NaN))).toBe(true);
  // A payload in the lower bits alone must not make an infinity.
  const signalling = new Float32Array(Uint32Array.of(0xff800001).buffer);
  expect(isNaNBits(toFloat16Bits(signalling)[0]!)).toBe(true);
});

test('a view with an offset is converted as what it shows, and nothing to nothing', () => {
  expect([...toFloat16Bits(Float32Array.of(9, 1, -2, 9).subarray(1, 3))]).toEqual([0x3c00, 0xc000]);
  expect([...fromFloat16Bits(Uint16Array.of(0, 0x3c00, 0xc000).subarray(1))]).toEqual([1, -2]);
  expect([toFloat16Bits(new Float32Array(0)).length, fromFloat16Bits(new Uint16Array(0)).length]).toEqual([0, 0]);
});
