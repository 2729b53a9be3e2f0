/** `scale · factor` where every product is exact, so that `(sum · scale) · factor` has the same bits in one multiplication. */
export function foldFactor(scale: Float32Array, factor: number): Float32Array | undefined {
  const isPowerOfTwo = factor > 0 && Math.log2(factor) % 1 === 0;
  if (!isPowerOfTwo) return undefined;
  const folded = scale.map((value) => value * factor);
  // Sums of at least one scale stay away from where f32 loses bits.
  const safe = folded.every((value) => value === 0 || (Math.abs(value) > 1e-30 && Math.abs(value) < 1e30));
  return safe ? folded : undefined;
}

/** The one magnitude of each output's weights; nothing where they differ, or where an output has a single weight. */
export function scaleOfSigns(weight: Float32Array, outChannels: number): Float32Array | undefined {
  if (weight.length <= outChannels) return undefined;
  const scale = weight.slice(0, outChannels).map(Math.abs);
  for (let index = outChannels; index < weight.length; index += 1) {
    if (Math.abs(weight[index]!) !== scale[index % outChannels]) return undefined;
  }
  return scale;
}

const words = new DataView(new ArrayBuffer(4));

/** The float that is `rank` steps above the lowest. */
function floatOfRank(rank: number): number {
  words.setUint32(0, rank >= 0x80000000 ? rank - 0x80000000 : 0xffffffff - rank);
  return words.getFloat32(0);
}

function rankOfFloat(value: number): number {
  words.setFloat32(0, value);
  const bits = words.getUint32(0);
  return bits < 0x80000000 ? bits + 0x80000000 : 0xffffffff - bits;
}

/**
 * For each channel the smallest value whose sign is +1: `(value · factor) + shift >= 0`, each step rounded to f32. Both are monotone, so
 * it is found by bisection over all floats, and comparing with it gives the signs of the separate steps.
 *
 * @param factor - Positive and an f32; none where nothing is multiplied.
 */
export function cutOf(shift: Float32Array | undefined, factor: number | undefined, channels: number): Float32Array {
  return Float32Array.from({ length: channels }, (_, channel) => {
    const added = shift?.[channel] ?? 0;
    const isNegative = (value: number) =>
      Math.fround((factor === undefined ? value : Math.fround(value * factor)) + added) < 0;
    let low = rankOfFloat(Number.NEGATIVE_INFINITY);
    let high = rankOfFloat(Number.POSITIVE_INFINITY);
    if (!isNegative(floatOfRank(low))) return Number.NEGATIVE_INFINITY;
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (isNegative(floatOfRank(middle))) low = middle;
      else high = middle;
    }
    // -0 and 0 are equal in every comparison.
    return floatOfRank(high) + 0;
  });
}
