import { stat } from 'node:fs/promises';
import { pack } from '../nn/binary/pack';
import { describePacked } from '../nn/binary/packed-report';
import { FLOAT_WEIGHTS, type FloatWeights } from '../nn/binary/packed-weights';
import { formatInteger, formatScaled } from '../training/format';
import { describeOptions, type OptionTable, parseOptions, UsageError } from './arguments';
import { resolveCheckpoint } from './checkpoint-path';
import type { Command, Console, ExitCode } from './command';
import { loadModel, openData } from './setup';

const OPTIONS = {
  packed: {
    kind: 'flag',
    help: 'Write a packed binary network: weights of one bit, layers fused. The only format so far.',
  },
  out: {
    kind: 'text',
    placeholder: 'FILE',
    help: 'The file to write; one that is there is replaced when the new one is whole.',
  },
  'float-weights': {
    kind: 'text',
    choices: FLOAT_WEIGHTS,
    help: 'How the weights that are not binary are stored: float32 (default), float16 or int8.',
  },
  'data-dir': { kind: 'text', placeholder: 'DIR', help: 'Folder with the files of the data set (or EVENKEEL_DATA).' },
  json: { kind: 'flag', help: 'One JSON object on standard output.' },
} as const satisfies OptionTable;

/** `evenkeel export`: a checkpoint as a file for inference. */
export const exportCommand: Command = {
  name: 'export',
  summary: 'write a binary network as a packed file for inference',
  help: () => `evenkeel export --packed CHECKPOINT --out FILE: writes a trained binary network as one self-contained file

The file holds one bit a weight, the class names and how pixels become input. Its outputs have the bits of the checkpoint's, unless
--float-weights makes the first layer, float shortcuts and the classifier smaller: float16 by half, int8 to about a quarter. The data set is
opened for the names and the normalization.

Examples
  evenkeel export --packed runs/binary/step2 --out binary.packed.safetensors --data-dir ~/data
  evenkeel export --packed runs/binary/step2 --float-weights int8 --out small.packed.safetensors --data-dir ~/data
  evenkeel inspect binary.packed.safetensors
  evenkeel predict binary.packed.safetensors image.raw

Options
${describeOptions(OPTIONS)}
`,
  run,
};

async function run(args: readonly string[], console: Console): Promise<ExitCode> {
  const { values, positionals } = parseOptions(args, OPTIONS, ['CHECKPOINT']);
  const { out } = values;
  if (values.packed !== true) throw new UsageError('Say which format: --packed.');
  if (out === undefined) throw new UsageError('--out FILE says where to write.');
  const path = await resolveCheckpoint(positionals[0] ?? '');
  const { model, config } = await loadModel(path);
  const { imageShape, classNames, test } = await openData(config, values['data-dir']);
  const { maximum, mean, std: deviation } = test;
  const floatWeights = (values['float-weights'] ?? 'float32') as FloatWeights;
  const normalization = { maximum, mean, deviation };
  const network = pack(model, { imageShape, classNames, normalization, floatWeights });
  await network.save(out);
  const { size } = await stat(out);
  const layers = describePacked(network.graph);
  const bits = layers.reduce((sum, layer) => sum + layer.binaryWeights, 0);
  const floatBytes = [...model.stateDict().values()].reduce((sum, held) => sum + held.byteLength, 0);
  if (values.json) {
    const report = { checkpoint: path, out, bytes: size, floatBytes, binaryWeights: bits, floatWeights };
    console.out.write(`${JSON.stringify(report)}\n`);
    return 0;
  }
  console.out.write(
    `${out}: ${formatScaled(size)}B with ${formatInteger(bits)} weights of one bit, ${(floatBytes / size).toFixed(1)} times ` +
      `smaller than the ${formatScaled(floatBytes)}B of its float parameters\n`,
  );
  return 0;
}
