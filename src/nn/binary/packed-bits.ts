/** Words that hold the signs of `channels` channels in the kernels. */
const wordsOf = (channels: number) => Math.ceil(channels / 32);

/** Output channels whose words lie side by side in the kernels' weights. */
const GROUP = 16;

/**
 * The signs of a float weight `[height, width, inChannels, outChannels]` as bytes `[outChannels, height, width, ⌈inChannels / 8⌉]`: 1 for
 * −1, the lowest bit first. The sign of 0 and −0 is +1.
 */
export function signBytes(weight: Float32Array, taps: number, inChannels: number, outChannels: number): Uint8Array {
  const rowBytes = Math.ceil(inChannels / 8);
  const bytes = new Uint8Array(outChannels * taps * rowBytes);
  for (let tap = 0; tap < taps; tap += 1) {
    for (let channel = 0; channel < inChannels; channel += 1) {
      const from = (tap * inChannels + channel) * outChannels;
      for (let output = 0; output < outChannels; output += 1) {
        if (weight[from + output]! < 0) {
          const at = (output * taps + tap) * rowBytes + (channel >> 3);
          bytes[at] = bytes[at]! | (1 << (channel & 7));
        }
      }
    }
  }
  return bytes;
}

/** The float weight `[height, width, inChannels, outChannels]` of bytes and one scale for each output: `±scale`. */
export function weightOfBytes(bytes: Uint8Array, taps: number, inChannels: number, scale: Float32Array): Float32Array {
  const rowBytes = Math.ceil(inChannels / 8);
  const outChannels = scale.length;
  const weight = new Float32Array(taps * inChannels * outChannels);
  for (let tap = 0; tap < taps; tap += 1) {
    for (let channel = 0; channel < inChannels; channel += 1) {
      const to = (tap * inChannels + channel) * outChannels;
      for (let output = 0; output < outChannels; output += 1) {
        const negative = (bytes[(output * taps + tap) * rowBytes + (channel >> 3)]! >> (channel & 7)) & 1;
        weight[to + output] = negative === 1 ? -scale[output]! : scale[output]!;
      }
    }
  }
  return weight;
}

/** Whether every bit past the last channel is 0. */
export function hasCleanTails(bytes: Uint8Array, channels: number): boolean {
  const rowBytes = Math.ceil(channels / 8);
  const tail = channels % 8;
  if (tail === 0) return true;
  for (let at = rowBytes - 1; at < bytes.length; at += rowBytes) if (bytes[at]! >> tail !== 0) return false;
  return true;
}

/** Words of a weight as the kernels read it. */
export function kernelWordCount(taps: number, inChannels: number, outChannels: number): number {
  return taps * (wordsOf(inChannels) + 1) * Math.ceil(outChannels / GROUP) * GROUP;
}

/**
 * Bytes of signs in the layout of `pack_weights` in crate evenkeel-kernels: for each group of 16 outputs, tap and word of 32 input channels
 * the words of the 16; then for each tap and output how many signs are −1.
 */
export function kernelWords(bytes: Uint8Array, taps: number, inChannels: number, outChannels: number): Int32Array {
  const rowBytes = Math.ceil(inChannels / 8);
  const words = wordsOf(inChannels);
  const lanes = Math.ceil(outChannels / GROUP) * GROUP;
  const packed = new Int32Array(kernelWordCount(taps, inChannels, outChannels));
  const counts = packed.subarray(taps * words * lanes);
  for (let output = 0; output < outChannels; output += 1) {
    const group = Math.floor(output / GROUP) * taps * words * GROUP + (output % GROUP);
    for (let tap = 0; tap < taps; tap += 1) {
      let negative = 0;
      for (let at = 0; at < rowBytes; at += 1) {
        const byte = bytes[(output * taps + tap) * rowBytes + at]!;
        const word = group + (tap * words + (at >> 2)) * GROUP;
        packed[word] = packed[word]! | (byte << (8 * (at & 3)));
        for (let rest = byte; rest !== 0; rest &= rest - 1) negative += 1;
      }
      counts[tap * lanes + output] = negative;
    }
  }
  return packed;
}
