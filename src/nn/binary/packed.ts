/** Packed inference of binary networks: `nn.binary.pack(model)`, `nn.binary.PackedNetwork.load(path)`. */
export { type PackOptions, pack } from './pack';
export type { PackedArray, PackedArrays, PackedGraph, PackedNormalization, PackedStep } from './packed-graph';
export { PackedNetwork } from './packed-network';
export { describePacked, type PackedRow } from './packed-report';
export type { FloatWeights } from './packed-weights';
