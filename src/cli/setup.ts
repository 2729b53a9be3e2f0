import * as data from '../data';
import { EvenkeelError } from '../errors';
import * as models from '../models';
import { DistillationLoss } from '../nn/distillation';
import { CrossEntropyLoss, type Loss } from '../nn/losses';
import { type Normalization, type NormalizationName, normalizations } from '../nn/normalization';
import { describeBinary, type SummaryRow, summary } from '../nn/summary';
import * as optim from '../optim';
import { readSafetensorsHeader } from '../serialization/safetensors';
import { manualSeed, type Tensor, tensor } from '../tensor';
import { load, parseInfo } from '../training/checkpoint';
import { formatInteger, formatScaled, formatTable } from '../training/format';
import type { PixelImage } from '../training/report/png';
import type { LayerTable } from '../training/report/report';
import { Trainer } from '../training/trainer';
import type { Network, TrainingOptimizer } from '../training/types';
import { suggestion, UsageError } from './arguments';
import { resolveCheckpoint } from './checkpoint-path';
import { configFromCheckpoint, DATA_SHAPES, type DataName, type RunConfig } from './run-config';

/** The data of a run, and what else is known about it. */
export interface OpenedData extends data.Splits {
  /** Height, width and channels. */
  readonly imageShape: readonly [number, number, number];
  readonly classes: number;
  readonly classNames: readonly string[];
}

/**
 * Opens the data set of a configuration.
 *
 * @param directory where its files are; default: the environment variable `EVENKEEL_DATA`.
 * @throws UsageError without a directory where one is needed; EvenkeelError when the files are missing or damaged.
 */
export async function openData(config: RunConfig, directory = process.env['EVENKEEL_DATA']): Promise<OpenedData> {
  const { train, test } = await openSplits(config.data, directory);
  return {
    train: config.trainLimit === undefined ? train : data.take(train, config.trainLimit),
    test,
    imageShape: train.shape,
    classes: train.classes,
    classNames: train.names,
  };
}

async function openSplits(name: DataName, directory: string | undefined): Promise<data.Splits> {
  if (name === 'digits') {
    return data.digits();
  }
  if (directory === undefined || directory === '') {
    throw new UsageError(`--data ${name} needs --data-dir DIR (or EVENKEEL_DATA): the folder with its files.`);
  }
  switch (name) {
    case 'mnist':
      return data.mnist(directory);
    case 'fashion-mnist':
      return data.fashionMnist(directory);
    case 'cifar10':
      return data.cifar10(directory);
    case 'cifar100':
      return data.cifar100(directory);
  }
}

/** The training images in random order, augmented where the configuration asks for it. */
export function trainLoaderOf(config: RunConfig, { train, imageShape }: OpenedData): data.DataLoader {
  const [height] = imageShape;
  // CIFAR's usual padding of 4 on 32 pixels, in proportion. Digits and clothes are not the same mirrored: only photographs are.
  const augment = { crop: Math.round(height / 8), flip: config.data.startsWith('cifar') };
  return new data.DataLoader(train, {
    batchSize: config.batchSize,
    shuffle: true,
    seed: config.seed,
    ...(config.augment ? { augment } : {}),
  });
}

/** The test images in their order. */
export function testLoaderOf(config: RunConfig, { test }: OpenedData): data.DataLoader {
  return new data.DataLoader(test, { batchSize: config.evaluationBatchSize });
}

/** Model, trainer and loaders of a configuration; `teacher` is what the model learns from, in place of the labels. */
export function buildRun(config: RunConfig, opened: OpenedData, teacher?: Network) {
  const model = buildModel(config, opened.imageShape, opened.classes);
  const trainLoader = trainLoaderOf(config, opened);
  const { seed, accumulate, clipNorm } = config;
  const trainer = new Trainer({
    model,
    optimizer: buildOptimizer(config, model),
    loss: teacher === undefined ? buildLoss(config) : new DistillationLoss({ model, teacher }),
    schedule: buildSchedule(config, Math.ceil(trainLoader.length / accumulate)),
    gradientAccumulation: accumulate,
    seed,
    ...(clipNorm === undefined ? {} : { clipNorm }),
  });
  return { model, trainer, trainLoader, testLoader: testLoaderOf(config, opened) };
}

/**
 * The model of a checkpoint, with its weights.
 *
 * @throws EvenkeelError as `checkpoint.load`, and `UNSUPPORTED` for a checkpoint that the command line did not make.
 */
export async function loadModel(path: string): Promise<{ model: Network; config: RunConfig }> {
  const { metadata } = await readSafetensorsHeader(path);
  const config = configFromCheckpoint(path, parseInfo(path, metadata).config);
  const { shape, classes } = DATA_SHAPES[config.data];
  const model = buildModel(config, shape, classes);
  await load(path, { model });
  return { model, config };
}

/**
 * The trained network that a configuration's `teacher` means.
 *
 * @throws UsageError if it was trained on other data; EvenkeelError as {@link loadModel}
 */
export async function loadTeacher({ teacher, data }: RunConfig): Promise<Network | undefined> {
  if (teacher === undefined) return undefined;
  const { model, config } = await loadModel(await resolveCheckpoint(teacher));
  if (config.data === data) return model;
  throw new UsageError(`--teacher ${teacher} was trained on ${config.data}, and this run is on ${data}.`);
}

/**
 * Puts the weights of a checkpoint into a model.
 *
 * @throws EvenkeelError that lists every name without a partner and every shape that does not fit
 */
export async function loadInitialWeights(path: string, model: Network): Promise<void> {
  try {
    await load(await resolveCheckpoint(path), { model });
  } catch (error) {
    if (!(error instanceof EvenkeelError)) throw error;
    throw new EvenkeelError(error.code, `cannot start from ${path}: ${error.message}`, { cause: error });
  }
}

/** A batch of one image, normalized as in training. */
export function imageTensor(
  {
    test,
    imageShape,
  }: { readonly test: Pick<data.Dataset, 'mean' | 'std' | 'maximum'> } & Pick<OpenedData, 'imageShape'>,
  pixels: ArrayLike<number>,
): Tensor {
  const [, , channels] = imageShape;
  const { mean, std, maximum } = test;
  const values = Float32Array.from(pixels, (pixel, index) => {
    const channel = index % channels;
    return (pixel / maximum - (mean[channel] ?? 0)) / (std[channel] ?? 1);
  });
  return tensor(values, { shape: [1, ...imageShape] });
}

/** The stored pixels of one image. */
export function pixelsOf({ images, shape }: data.Dataset, index: number): Uint8Array | Float32Array {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return images.subarray(index * size, (index + 1) * size);
}

/** One image as a picture to look at; none for channels that are neither grey nor colours. */
export function pictureOf(dataset: data.Dataset, index: number): PixelImage | undefined {
  const [height, width, channels] = dataset.shape;
  if (channels !== 1 && channels !== 3) {
    return undefined;
  }
  const pixels = Uint8Array.from(pixelsOf(dataset, index), (value) =>
    Math.round((255 * Math.min(Math.max(value, 0), dataset.maximum)) / dataset.maximum),
  );
  return { width, height, channels, pixels };
}

/** The model's layers as text for the terminal and as a table for the report. */
export function summarize(model: Network, { imageShape }: OpenedData): { text: string; table: LayerTable } {
  const found = summary(model, imageShape);
  const binary = found.binaryParameters > 0;
  const heading = ['layer', 'kind', 'output', 'parameters', 'multiply-adds', ...(binary ? ['binary', 'kbit'] : [])];
  const numbers = (row: Pick<SummaryRow, 'parameters' | 'multiplyAdds' | 'binaryMultiplyAdds' | 'bits'>) => [
    formatInteger(row.parameters),
    formatScaled(row.multiplyAdds),
    ...(binary ? [formatScaled(row.binaryMultiplyAdds), formatInteger(Math.round(row.bits / 1000))] : []),
  ];
  const lines = found.rows
    .filter(({ leaf }) => leaf)
    .map(({ name, type, outputShape, ...row }) => [
      name,
      type,
      outputShape === undefined ? '' : `[${outputShape.join(', ')}]`,
      ...numbers(row),
    ]);
  const total = ['total', '', '', ...numbers(found)];
  const share = describeBinary(found);
  const text = `${formatTable([heading, ...lines], total)}${share === undefined ? '' : `\n${share}`}`;
  return { text, table: { heading, rows: lines, total } };
}

/** The model that a configuration asks for, with weights drawn from its seed. */
export function buildModel(config: RunConfig, imageShape: readonly number[], classes: number): Network {
  const { model: name, width, modelOptions } = config;
  try {
    models.find(name);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new UsageError(`--model: ${message}.${suggestion(name, models.names(), '')}`);
  }
  manualSeed(config.seed);
  return models.create(name, {
    inputShape: imageShape,
    classes,
    norm: buildNormalization(config),
    ...(width === undefined ? {} : { width }),
    ...(modelOptions === undefined ? {} : { modelOptions }),
  });
}

function buildNormalization({ norm, normOptions = {} }: RunConfig): Normalization {
  const names = Object.keys(normalizations);
  if (!Object.hasOwn(normalizations, norm)) {
    throw new UsageError(
      `--norm is one of ${names.join(', ')}; ${JSON.stringify(norm)} was given.${suggestion(norm, names, '')}`,
    );
  }
  // Each method checks its own options; the command line only knows them as text.
  const create = normalizations[norm as NormalizationName] as (options: object) => Normalization;
  return create(normOptions);
}

/** The loss that a configuration asks for. */
export function buildLoss({ labelSmoothing }: Pick<RunConfig, 'labelSmoothing'>): Loss {
  return new CrossEntropyLoss({ labelSmoothing });
}

function buildOptimizer(config: RunConfig, model: Network): TrainingOptimizer {
  const { optimizer, learningRate, weightDecay, momentum } = config;
  const parameters = model.parameters();
  switch (optimizer) {
    case 'sgd':
      return new optim.SGD(parameters, { learningRate, weightDecay, momentum });
    case 'adam':
      return new optim.Adam(parameters, { learningRate, weightDecay });
    case 'adamw':
      return new optim.AdamW(parameters, { learningRate, weightDecay });
    case 'rmsprop':
      return new optim.RMSprop(parameters, { learningRate, weightDecay });
  }
}

/** The learning rate over a run of `stepsPerEpoch * epochs` steps. */
export function buildSchedule(config: RunConfig, stepsPerEpoch: number): optim.Schedule {
  const { schedules } = optim;
  const { learningRate, schedule, epochs, warmupEpochs } = config;
  const total = stepsPerEpoch * epochs;
  const warmup = Math.min(Math.round(warmupEpochs * stepsPerEpoch), Math.floor(total / 2));
  const steps = total - warmup;
  const after = (): optim.Schedule => {
    switch (schedule) {
      case 'constant':
      case 'one-cycle':
      case 'linear-epoch':
        return schedules.constant({ learningRate });
      case 'cosine':
        return schedules.cosine({ learningRate, steps });
      case 'linear':
        return schedules.linearToZero({ learningRate, steps });
      case 'step':
        // A tenth after half and after three quarters, as in He et al. 2016.
        return schedules.step({ learningRate, at: [Math.ceil(steps / 2), Math.ceil((3 * steps) / 4)] });
    }
  };
  if (schedule === 'linear-epoch') {
    return schedules.linearByEpoch({ learningRate, epochs, stepsPerEpoch });
  }
  if (schedule === 'one-cycle') {
    return schedules.oneCycle({ learningRate, steps: total });
  }
  return warmup === 0 ? after() : schedules.warmup(after(), { steps: warmup });
}
