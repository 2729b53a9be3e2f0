import { EvenkeelError } from '../../errors';
import { corrupt, corruptTensor } from '../../serialization/header';
import {
  type NamedValues,
  readSafetensors,
  readSafetensorsHeader,
  writeSafetensors,
} from '../../serialization/safetensors';
import { hasCleanTails } from './packed-bits';
import { type PackedGraph, type PackedTensor, tensorsOf } from './packed-graph';
import { formatGraph, parseGraph } from './packed-schema';

/** The metadata key that tells a packed network from other safetensors files. */
export const PACKED_KEY = 'evenkeel.packed';

/** A packed network as its file holds it. */
export interface PackedContent {
  readonly graph: PackedGraph;
  readonly arrays: ReadonlyMap<string, Float32Array | Uint8Array>;
}

/** Every tensor of a graph, in order. */
function tensorsOfGraph(graph: PackedGraph): PackedTensor[] {
  return graph.steps.flatMap(tensorsOf);
}

/** Writes a packed network, atomically. @throws EvenkeelError IO */
export async function writePackedFile(
  path: string,
  graph: PackedGraph,
  arrays: ReadonlyMap<string, Float32Array | Uint8Array>,
): Promise<void> {
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
    const wanted = type === 'bits' ? 'U8' : 'F32';
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
  const arrays = new Map<string, Float32Array | Uint8Array>();
  for (const { name, type, channels } of tensorsOfGraph(graph)) {
    const stored = tensors.get(name)?.values;
    if (type === 'bits' && stored instanceof Uint8Array) {
      if (!hasCleanTails(stored, channels ?? 0)) {
        throw corruptTensor(path, name, `a bit past the last of ${channels} input channels is set`);
      }
      arrays.set(name, stored);
    } else if (type === 'float32' && stored instanceof Float32Array) {
      // A cut may be infinite, where a sign never changes; nothing else may.
      const good = name.endsWith('.cut') ? (x: number) => !Number.isNaN(x) : Number.isFinite;
      const bad = stored.findIndex((value) => !good(value));
      if (bad >= 0) throw corruptTensor(path, name, `value ${bad} is ${stored[bad]}`);
      arrays.set(name, stored);
    } else {
      throw corruptTensor(path, name, 'it changed while the file was read');
    }
  }
  return { graph, arrays };
}
