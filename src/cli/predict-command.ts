import { readFile } from 'node:fs/promises';
import type { Dataset } from '../data';
import { EvenkeelError } from '../errors';
import { readPackedGraph } from '../nn/binary/packed-file';
import { PackedNetwork } from '../nn/binary/packed-network';
import { systemErrorCode } from '../serialization/replace-file';
import { predict } from '../training/evaluate';
import { formatPercent, formatTable } from '../training/format';
import type { Network } from '../training/types';
import { describeOptions, type OptionTable, parseOptions, UsageError } from './arguments';
import { resolveCheckpoint } from './checkpoint-path';
import type { Command, Console, ExitCode } from './command';
import { imageTensor, loadModel, openData, pixelsOf } from './setup';

const OPTIONS = {
  index: { kind: 'list', placeholder: 'N', help: 'Number of a test image, from 0; may be repeated.' },
  file: {
    kind: 'list',
    placeholder: 'FILE',
    help: 'Raw image: bytes row by row, channels innermost, as large as the images of the data; may be repeated.',
  },
  top: { kind: 'integer', least: 1, help: 'How many classes to show for each image. Default 3.' },
  'data-dir': { kind: 'text', placeholder: 'DIR', help: 'Folder with the files of the data set (or EVENKEEL_DATA).' },
  json: { kind: 'flag', help: 'One JSON object a line for each image on standard output.' },
} as const satisfies OptionTable;

/** `evenkeel predict`: what a checkpoint, or a packed network, sees in single images. */
export const predictCommand: Command = {
  name: 'predict',
  summary: 'classify single images with a checkpoint or a packed network',
  help: () => `evenkeel predict CHECKPOINT [IMAGE...]: classifies test images or raw image files

CHECKPOINT is a file, a run directory, or a packed network (evenkeel export --packed).
A packed network needs no data, and takes no --index. An IMAGE is what --file takes.

Examples
  evenkeel predict runs/digits-resnet-tiny-frn --index 7
  evenkeel predict runs/digits-resnet-tiny-frn --index 0 --index 1 --top 1 --json
  evenkeel predict runs/digits-resnet-tiny-frn --file seven.raw
  evenkeel predict digits.packed.safetensors seven.raw eight.raw

Options
${describeOptions(OPTIONS)}
`,
  run,
};

interface Example {
  readonly source: string;
  readonly pixels: ArrayLike<number>;
  readonly label: number | undefined;
}

/** A trained network and what it takes. */
interface Classifier {
  readonly model: Network;
  readonly imageShape: readonly [number, number, number];
  readonly classNames: readonly string[];
  /** How pixels become input. */
  readonly test: Pick<Dataset, 'mean' | 'std' | 'maximum'>;
  /** The test images; none for a packed network. */
  readonly images: Dataset | undefined;
}

async function openClassifier(path: string, directory: string | undefined): Promise<Classifier> {
  if ((await readPackedGraph(path)) === undefined) {
    const { model, config } = await loadModel(path);
    const data = await openData(config, directory);
    return { model, imageShape: data.imageShape, classNames: data.classNames, test: data.test, images: data.test };
  }
  const model = await PackedNetwork.load(path);
  const { imageShape, classNames, normalization } = model.graph;
  if (normalization === undefined) {
    throw new EvenkeelError(
      'UNSUPPORTED',
      `${path} does not say how pixels become its input; pack it with the option normalization, or with evenkeel export`,
    );
  }
  const { mean, deviation: std, maximum } = normalization;
  return { model, imageShape, classNames, test: { mean, std, maximum }, images: undefined };
}

async function run(args: readonly string[], console: Console): Promise<ExitCode> {
  const { values, positionals } = parseOptions(args, OPTIONS, ['CHECKPOINT', '[IMAGE]...']);
  const indices = (values.index ?? []).map((text) => {
    const index = Number(text);
    if (!Number.isSafeInteger(index) || index < 0) {
      throw new UsageError(`--index needs a whole number from 0, and ${JSON.stringify(text)} was given.`);
    }
    return index;
  });
  const [checkpoint = '', ...images] = positionals;
  const files = [...(values.file ?? []), ...images];
  if (indices.length + files.length === 0) {
    throw new UsageError('Say which images: --index N of the test data, or files.');
  }
  const { model, ...data } = await openClassifier(await resolveCheckpoint(checkpoint), values['data-dir']);
  const examples: Example[] = [];
  for (const index of indices) {
    if (data.images === undefined) {
      throw new UsageError('--index: a packed network knows no test data; give image files.');
    }
    if (index >= data.images.length) {
      throw new UsageError(`--index ${index}: the test data has ${data.images.length} images, numbered from 0.`);
    }
    examples.push({ source: `#${index}`, pixels: pixelsOf(data.images, index), label: data.images.labels[index] });
  }
  for (const file of files) {
    examples.push({ source: file, pixels: await readPixels(file, data.imageShape), label: undefined });
  }
  const name = (label: number) => data.classNames[label] ?? String(label);
  const rows: string[][] = [];
  for (const { source, pixels, label } of examples) {
    const images = imageTensor(data, pixels);
    const [prediction] = await predict(model, images).finally(() => images.dispose());
    if (prediction === undefined) {
      continue;
    }
    const ranked = prediction.probabilities
      .map((probability, index) => ({ label: name(index), probability }))
      .sort((a, b) => b.probability - a.probability)
      .slice(0, values.top ?? 3);
    if (values.json) {
      const truth = label === undefined ? {} : { label: name(label) };
      console.out.write(
        `${JSON.stringify({ image: source, predicted: name(prediction.label), ...truth, classes: ranked })}\n`,
      );
    }
    const guesses = ranked.map((guess) => `${guess.label} ${formatPercent(guess.probability)}`).join('   ');
    rows.push([source, name(prediction.label), label === undefined ? '-' : name(label), guesses]);
  }
  if (!values.json) {
    console.out.write(`${formatTable([['image', 'predicted', 'truth', 'probabilities'], ...rows])}\n`);
  }
  return 0;
}

async function readPixels(file: string, shape: readonly number[]): Promise<Uint8Array> {
  const expected = shape.reduce((product, extent) => product * extent, 1);
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    const missing = systemErrorCode(cause) === 'ENOENT';
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new EvenkeelError(
      missing ? 'FILE_NOT_FOUND' : 'IO',
      missing ? `There is no file ${file}.` : `Cannot read ${file}: ${reason}`,
      { cause },
    );
  }
  if (bytes.length !== expected) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `${file} holds ${bytes.length} bytes, and an image of shape [${shape.join(', ')}] has ${expected}.`,
    );
  }
  return new Uint8Array(bytes);
}
