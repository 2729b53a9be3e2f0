import { readPackedGraph } from '../nn/binary/packed-file';
import type { PackedGraph } from '../nn/binary/packed-graph';
import { describePacked } from '../nn/binary/packed-report';
import { readSafetensorsHeader } from '../serialization/safetensors';
import { formatInteger, formatScaled, formatTable } from '../training/format';
import { describeOptions, type OptionTable, parseOptions } from './arguments';
import { resolveCheckpoint } from './checkpoint-path';
import type { Command, Console, ExitCode } from './command';

const OPTIONS = {
  json: { kind: 'flag', help: 'One JSON object on standard output.' },
} as const satisfies OptionTable;

/** Metadata longer than this is shortened for the eye; `--json` shows all of it. */
const LONGEST_VALUE = 100;

/** `evenkeel inspect`: what is in a safetensors file; of a packed network, its layers. */
export const inspectCommand: Command = {
  name: 'inspect',
  summary: 'show the tensors and metadata of a safetensors file',
  help: () => `evenkeel inspect FILE: shows the tensors and the metadata of a safetensors file, of Evenkeel or any other program;
of a packed network (evenkeel export --packed) its layers: what runs, bits, bytes, and why it is not binary where it is not

Examples
  evenkeel inspect runs/digits-resnet-tiny-frn            the best checkpoint of a run
  evenkeel inspect model.safetensors --json | jq .tensors
  evenkeel inspect digits.packed.safetensors               the layers of a packed network

Options
${describeOptions(OPTIONS)}
`,
  run,
};

async function run(args: readonly string[], console: Console): Promise<ExitCode> {
  const { values, positionals } = parseOptions(args, OPTIONS, ['FILE']);
  const path = await resolveCheckpoint(positionals[0] ?? '');
  const { tensors, metadata, fileBytes } = await readSafetensorsHeader(path);
  const graph = await readPackedGraph(path);
  const listed = tensors.map(({ name, elementType, shape, begin, end }) => ({
    name,
    type: elementType,
    shape,
    bytes: end - begin,
  }));
  if (values.json) {
    const parsed = Object.fromEntries([...metadata].map(([key, text]) => [key, parseIfJson(text)]));
    console.out.write(
      `${JSON.stringify({ path, bytes: fileBytes, metadata: parsed, tensors: listed, ...(graph === undefined ? {} : { layers: describePacked(graph) }) })}\n`,
    );
    return 0;
  }
  if (graph !== undefined) {
    console.out.write(formatPacked(path, fileBytes, graph));
    return 0;
  }
  const elements = listed.reduce((sum, { shape }) => sum + shape.reduce((product, extent) => product * extent, 1), 0);
  const rows = listed
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, type, shape, bytes }) => [name, type, `[${shape.join(', ')}]`, formatInteger(bytes)]);
  const shown = [...metadata].filter(([key]) => !key.endsWith('_checksums') && !key.endsWith('_checksum'));
  const settings = shown.map(([key, text]) => `${key}: ${shorten(text)}`);
  console.out.write(
    `${path}: ${formatScaled(fileBytes)}B, ${listed.length} tensors, ${formatInteger(elements)} values\n\n${formatTable([['tensor', 'type', 'shape', 'bytes'], ...rows])}\n`,
  );
  if (settings.length > 0) {
    console.out.write(`\n${settings.join('\n')}\n`);
  }
  return 0;
}

function formatPacked(path: string, fileBytes: number, graph: PackedGraph): string {
  const layers = describePacked(graph);
  const sum = (count: (layer: (typeof layers)[number]) => number) =>
    layers.reduce((all, layer) => all + count(layer), 0);
  const heading = [
    'layer',
    'kernel',
    'output',
    'weights',
    'weight bits',
    'floats',
    'bytes',
    'binary MAC',
    'float MAC',
    'why not binary',
  ];
  const rows = layers.map((layer) => [
    layer.module.replace(/ \(.*/, ''),
    layer.kernel,
    `[${layer.shape.join(', ')}]`,
    layer.weightType,
    formatInteger(layer.binaryWeights),
    formatInteger(layer.floats),
    formatInteger(layer.bytes),
    formatScaled(layer.binaryMultiplyAdds),
    formatScaled(layer.floatMultiplyAdds),
    layer.whyNotBinary,
  ]);
  const total = [
    'total',
    '',
    '',
    '',
    formatInteger(sum((layer) => layer.binaryWeights)),
    formatInteger(sum((layer) => layer.floats)),
    formatInteger(sum((layer) => layer.bytes)),
    formatScaled(sum((layer) => layer.binaryMultiplyAdds)),
    formatScaled(sum((layer) => layer.floatMultiplyAdds)),
    '',
  ];
  const classes = graph.classNames.length === 0 ? '' : `\nclasses: ${shorten(graph.classNames.join(', '))}`;
  return (
    `${path}: a packed binary network of ${formatScaled(fileBytes)}B for images of [${graph.imageShape.join(', ')}]\n\n` +
    `${formatTable([heading, ...rows], total)}\n${classes === '' ? '' : `${classes}\n`}`
  );
}

function parseIfJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function shorten(text: string): string {
  return text.length <= LONGEST_VALUE ? text : `${text.slice(0, LONGEST_VALUE)}… (${text.length} characters)`;
}
