/** A generator of 32-bit numbers: xoshiro128** (Blackman & Vigna 2021). */
function xoshiro(seed: readonly [number, number, number, number]): () => number {
  let [a, b, c, d] = seed;
  const rotate = (value: number, by: number) => (value << by) | (value >>> (32 - by));
  return () => {
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = rotate(d, 11);
    return result;
  };
}

/** One step of SplitMix64 (Steele, Lea & Flood 2014): neighbouring values give unrelated ones. */
function splitMix(value: bigint): bigint {
  let mixed = BigInt.asUintN(64, value + 0x9e3779b97f4a7c15n);
  mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 30n)) * 0xbf58476d1ce4e5b9n);
  mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn);
  return mixed ^ (mixed >> 31n);
}

/** The numbers 0 to `length - 1` in an order that depends on the seed and the epoch alone. */
export function shuffled(length: number, seed: number, epoch: number): Uint32Array {
  const first = splitMix(splitMix(BigInt(seed)) ^ BigInt(epoch));
  const second = splitMix(first);
  const low = (value: bigint) => Number(BigInt.asIntN(32, value));
  const next = xoshiro([low(first), low(first >> 32n), low(second), low(second >> 32n)]);
  const order = Uint32Array.from({ length }, (_, index) => index);
  // Fisher and Yates. Scaling 32 random bits favours no position by more than length / 2^32.
  for (let last = length - 1; last > 0; last--) {
    const chosen = Math.floor((next() / 2 ** 32) * (last + 1));
    const value = order[last]!;
    order[last] = order[chosen]!;
    order[chosen] = value;
  }
  return order;
}
