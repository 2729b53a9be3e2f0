import { EvenkeelError } from '../../errors';
import { corrupt, corruptTensor } from '../../serialization/header';
import {
  type NamedValues,
  readSafetensors,
  readSafetensorsHeader,
  writeSafetensors,
} from '../../serialization/safetensors';
import { hasCleanTails } from './packed-bits';
import { type PackedArray, type PackedArrays, type PackedGraph, type PackedTensor, tensorsOf } from './packed-graph';
import { formatGraph, parseGraph } from './packed-schema';
import { damageOf } from './packed-weights';

/** The metadata key that tells a packed network from other safetensors files. */
export const PACKED_KEY = 'evenkeel.packed';

/** What a tensor is in the file, and in memory. */
const STORED = {
  bits: { elementType: 'U8', array: Uint8Array },
  int8: { elementType: 'I8', array: Int8Array },
  float16: { elementType: 'F16', array: Uint16Array },
  float32: { elementType: 'F32', array: Float32Array },
} as const satisfies Record<PackedTensor['type'], unknown>;

/** A packed network as its file holds it. */
export interface PackedContent {
  readonly graph: PackedGraph;
  readonly arrays: PackedArrays;
}

/** Every tensor of a graph, in order. */
function tensorsOfGraph(graph: PackedGraph): PackedTensor[] {
  return graph.steps.flatMap(tensorsOf);
}

/** Writes a packed network, atomically. @throws EvenkeelError IO */
export async function writePackedFile(path: string, graph: PackedGraph, arrays: PackedArrays): Promise<void> {
  const tensors = tensorsOfGraph(graph).map(({ name, shape }): NamedValues => {
    const values = arrays.get(name);
    if (values === undefined) throw new EvenkeelError('INTERNAL', `packed network: tensor ${name} is missing`);
    return { name, shape, values };
  });
  await writeSafetensors(path, tensors, { [PACKED_KEY]: formatGraph(graph) });
}

/**
 * Reads only the graph of a packed network, with everything checked that can be without the numbers.
 *
 * @returns Nothing where the file is a safetensors file of another kind.
 * @throws EvenkeelError CORRUPT_FILE, FILE_NOT_FOUND, IO
 */
export async function readPackedGraph(path: string): Promise<PackedGraph | undefined> {
  const { tensors, metadata } = await readSafetensorsHeader(path);
  const text = metadata.get(PACKED_KEY);
  if (text === undefined) return undefined;
  const graph = parseGraph(text, (problem) => corrupt(path, `its graph is damaged: ${problem}`));
  const present = new Map(tensors.map((entry) => [entry.name, entry]));
  for (const { name, type, shape } of tensorsOfGraph(graph)) {
    const entry = present.get(name);
    present.delete(name);
    const wanted = STORED[type].elementType;
    if (entry === undefined) throw corruptTensor(path, name, 'its graph needs it, and it is not there');
    if (entry.elementType !== wanted || String(entry.shape) !== String(shape)) {
      throw corruptTensor(
        path,
        name,
        `its graph needs ${wanted} of shape [${shape.join(', ')}], and it is ${entry.elementType} of shape [${entry.shape.join(', ')}]`,
      );
    }
  }
  const [extra] = present.keys();
  if (extra !== undefined) throw corruptTensor(path, extra, 'no step of its graph needs it');
  return graph;
}

/**
 * Reads a packed network. The graph, names, types and shapes are checked before any number is read, and the numbers before anything is
 * made of them.
 *
 * @throws EvenkeelError CORRUPT_FILE, FILE_NOT_FOUND, IO; INVALID_ARGUMENT where the file is a safetensors file of another kind.
 */
export async function readPackedFile(path: string): Promise<PackedContent> {
  const graph = await readPackedGraph(path);
  if (graph === undefined) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${path} is a safetensors file, but no packed network; make one with nn.binary.pack, or evenkeel export --packed`,
    );
  }
  const { tensors } = await readSafetensors(path);
  const arrays = new Map<string, PackedArray>();
  for (const { name, type, channels } of tensorsOfGraph(graph)) {
    const { elementType, values } = tensors.get(name) ?? {};
    const isWanted = elementType === STORED[type].elementType && values instanceof STORED[type].array;
    if (!isWanted) throw corruptTensor(path, name, 'it changed while the file was read');
    if (type !== 'bits') {
      const problem = damageOf(name.slice(name.indexOf('.') + 1), values);
      if (problem !== undefined) throw corruptTensor(path, name, problem);
    } else if (values instanceof Uint8Array && !hasCleanTails(values, channels ?? 0)) {
      throw corruptTensor(path, name, `a bit past the last of ${channels} input channels is set`);
    }
    arrays.set(name, values);
  }
  return { graph, arrays };
}
