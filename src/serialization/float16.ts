/**
 * The nearest IEEE 754 half-precision numbers of single-precision ones, ties to even, as their 16 bits. Beyond the largest (65,504, from
 * 65,520 on) they are infinite, below the smallest subnormal they are zeros of the same sign. A NaN keeps its sign and the upper bits of
 * its payload, and is a quiet one.
 */
export function toFloat16Bits(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(words, halfOfWord);
}

/** The single-precision numbers that half-precision ones, given as their 16 bits, are: every one exactly. */
export function fromFloat16Bits(bits: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(bits, wordOfHalf).buffer);
}

function halfOfWord(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const exponent = (word >>> 23) & 0xff;
  const fraction = word & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (fraction === 0 ? 0 : 0x200 | (fraction >> 13));
  // 127 is the offset of the exponent in single precision, 15 in half precision; below 2^-25 the nearest half is zero.
  const halfExponent = exponent - 127 + 15;
  if (halfExponent < -10) return sign;
  if (halfExponent > 30) return sign | 0x7c00;
  // A subnormal half counts steps of 2^-24: its leading 1 is written out and moved to the right.
  if (halfExponent <= 0) return sign | shiftToEven(fraction | 0x800000, 14 - halfExponent);
  // A fraction that is rounded up to 2 carries into the exponent, and from the largest number to infinity.
  return sign | ((halfExponent << 10) + shiftToEven(fraction, 13));
}

/** `value / 2^places` rounded to the nearest integer, ties to even. */
function shiftToEven(value: number, places: number): number {
  const quotient = value >>> places;
  const rest = value & ((1 << places) - 1);
  const half = 1 << (places - 1);
  return rest > half || (rest === half && (quotient & 1) === 1) ? quotient + 1 : quotient;
}

function wordOfHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return (sign | 0x7f800000 | (fraction << 13)) >>> 0;
  if (exponent !== 0) return (sign | ((exponent - 15 + 127) << 23) | (fraction << 13)) >>> 0;
  if (fraction === 0) return sign >>> 0;
  // A subnormal half is a normal single: its leading 1 moves to the place that is not written.
  const places = Math.clz32(fraction) - 21;
  return (sign | ((127 - 14 - places) << 23) | ((fraction << (13 + places)) & 0x7fffff)) >>> 0;
}
