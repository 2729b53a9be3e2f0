import { EvenkeelError } from '../errors';
import { checkMethods } from '../nn/check';
import type { Module } from '../nn/module';
import type { StateArray } from '../nn/state';
import { checkOptions, optionNames } from '../options';
import type { ReplaceFileSystem } from '../serialization/replace-file';
import { readSafetensors, type StoredTensor, writeSafetensors } from '../serialization/safetensors';
import type { Tensor } from '../tensor';

/** A model as checkpoints need it: live tensors out, values in. */
export type CheckpointModel = Pick<Module<never, unknown>, 'stateDict' | 'loadStateDict'>;

/** An optimizer as checkpoints need it: live tensors and a few plain values out and in. */
export interface CheckpointOptimizer {
  stateDict(): OptimizerState<Tensor>;
  loadStateDict(state: OptimizerState<StateArray>): void;
}

/** An optimizer's state. */
export interface OptimizerState<Value> {
  readonly tensors: ReadonlyMap<string, Value>;
  /** Step count and hyperparameters; must survive JSON. */
  readonly values: Readonly<Record<string, unknown>>;
}

/** A data loader as checkpoints need it. */
export interface CheckpointLoader {
  state(): unknown;
  loadState(state: unknown): void;
}

/** What {@link save} puts into a file. */
export interface SaveOptions {
  /** Its parameters and buffers are saved. */
  readonly model: CheckpointModel;
  /** Its moments, step count and hyperparameters are saved. */
  readonly optimizer?: CheckpointOptimizer;
  /** Its position is saved. */
  readonly loader?: CheckpointLoader;
  /** How the model and its data were built; kept as JSON, for whoever loads the file. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** The trainer's own progress; kept as JSON. */
  readonly training?: unknown;
  /** Anything else; kept as JSON. */
  readonly extra?: unknown;
  /** Whether weights that are NaN or infinite are an error, so that they never replace good ones. Default `false`. */
  readonly requireFinite?: boolean;
  /** For tests: file system calls that fail on purpose. */
  readonly fileSystem?: ReplaceFileSystem;
}

/** What {@link load} loads into. Each may be left out. */
export interface LoadOptions {
  readonly model?: CheckpointModel;
  readonly optimizer?: CheckpointOptimizer;
  readonly loader?: CheckpointLoader;
}

/** The small values of a checkpoint. */
export interface CheckpointInfo {
  readonly config: Readonly<Record<string, unknown>>;
  readonly training: unknown;
  readonly extra: unknown;
  readonly loader: unknown;
  /** Whether the file holds an optimizer's state. */
  readonly hasOptimizer: boolean;
}

/** All of a checkpoint. */
export interface CheckpointContent {
  readonly info: CheckpointInfo;
  readonly model: ReadonlyMap<string, StateArray>;
  readonly optimizer: OptimizerState<StateArray> | undefined;
}

const FORMAT_KEY = 'evenkeel.format';
const FORMAT = '1';
const MODEL_PREFIX = 'model.';
const OPTIMIZER_PREFIX = 'optimizer.';
const JSON_KEYS = ['config', 'training', 'extra', 'loader', 'optimizer'] as const;

const saveOptions = optionNames<SaveOptions>({
  model: true,
  optimizer: true,
  loader: true,
  config: true,
  training: true,
  extra: true,
  requireFinite: 'boolean',
  fileSystem: true,
});

/**
 * Saves a model, and what else is given, to one safetensors file: tensors bit for bit, small values as JSON in its
 * metadata. The file appears whole or not at all, and one that was there before stays until then.
 *
 * The state is that of the moment of the call: operations that are enqueued while the file is written do not show.
 *
 * @throws EvenkeelError `IO` when the system refuses, `INVALID_ARGUMENT` for values that are no JSON, `NON_FINITE`.
 */
export async function save(path: string, options: SaveOptions): Promise<void> {
  checkOptions('checkpoint.save', options, saveOptions);
  checkMethods('checkpoint.save', 'model', options.model, ['stateDict'], 'the Module to save');
  const optimizer = options.optimizer?.stateDict();
  const tensors = [
    ...prefixed(MODEL_PREFIX, options.model.stateDict()),
    ...prefixed(OPTIMIZER_PREFIX, optimizer?.tensors ?? new Map<string, Tensor>()),
  ];
  const metadata: Record<string, string> = { format: 'evenkeel', [FORMAT_KEY]: FORMAT };
  const values = {
    config: options.config,
    training: options.training,
    extra: options.extra,
    loader: options.loader?.state(),
    optimizer: optimizer?.values,
  };
  for (const key of JSON_KEYS) {
    if (values[key] !== undefined) {
      metadata[`evenkeel.${key}`] = exactJson(path, key, values[key]);
    }
  }
  // All reads are enqueued before the first is awaited, so they see one moment of the stream.
  const named = await Promise.all(
    tensors.map(async ([name, tensor]) => ({ name, shape: tensor.shape, values: await tensor.data() })),
  );
  const broken = options.requireFinite ? named.find(({ values: array }) => !array.every(Number.isFinite)) : undefined;
  if (broken !== undefined) {
    throw new EvenkeelError(
      'NON_FINITE',
      `${broken.name} holds NaN or infinite values, so ${path} was not written and stays what it was. ` +
        'The gradient of the last steps overflowed: use a lower learning rate, a warm-up, or clip the gradient norm (clipNorm).',
    );
  }
  await writeSafetensors(path, named, metadata, options.fileSystem);
}

const loadOptions = optionNames<LoadOptions>({ model: true, optimizer: true, loader: true });

/**
 * Loads a checkpoint that {@link save} wrote. The file is read and checked whole, and everything must fit, before
 * anything is overwritten; on an error the model, the optimizer and the loader are what they were.
 *
 * @throws EvenkeelError `FILE_NOT_FOUND`, `IO`, `CORRUPT_FILE`, or `SHAPE_MISMATCH` and its kin when the state does
 * not fit.
 */
export async function load(path: string, options: LoadOptions = {}): Promise<CheckpointInfo> {
  checkOptions('checkpoint.load', options, loadOptions);
  checkLoading('checkpoint.load', options);
  const content = await read(path);
  await restore(path, content, options);
  return content.info;
}

function checkLoading(owner: string, { model, optimizer, loader }: LoadOptions): void {
  const given = [
    ['model', model, 'loadStateDict', 'the Module to load into'],
    ['optimizer', optimizer, 'loadStateDict', 'the optimizer to load into'],
    ['loader', loader, 'loadState', 'the data.DataLoader to load into'],
  ] as const;
  for (const [name, value, method, advice] of given) {
    if (value !== undefined) checkMethods(owner, name, value, [method], advice);
  }
}

/** Loads what {@link read} returned; see {@link load}. */
export async function restore(path: string, content: CheckpointContent, options: LoadOptions): Promise<void> {
  checkOptions('checkpoint.restore', options, loadOptions);
  checkLoading('checkpoint.restore', options);
  const { info, model, optimizer } = content;
  if (options.optimizer !== undefined && optimizer === undefined) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${path} holds no optimizer state. Load it without an optimizer, or use a checkpoint of a training run (last.safetensors).`,
    );
  }
  const before = options.model === undefined ? undefined : await snapshot(options.model.stateDict());
  options.model?.loadStateDict(model);
  try {
    const position = options.loader?.state();
    if (info.loader !== undefined) {
      options.loader?.loadState(info.loader);
    }
    try {
      if (optimizer !== undefined) {
        options.optimizer?.loadStateDict(optimizer);
      }
    } catch (error) {
      options.loader?.loadState(position);
      throw error;
    }
  } catch (error) {
    if (before !== undefined) {
      options.model?.loadStateDict(before);
    }
    throw error;
  }
}

/** Reads a checkpoint without loading it into anything. */
export async function read(path: string): Promise<CheckpointContent> {
  const { tensors, metadata } = await readSafetensors(path);
  const info = parseInfo(path, metadata);
  const model = new Map<string, StateArray>();
  const moments = new Map<string, StateArray>();
  for (const [name, stored] of tensors) {
    const value = toStateArray(path, name, stored);
    if (name.startsWith(MODEL_PREFIX)) {
      model.set(name.slice(MODEL_PREFIX.length), value);
    } else if (name.startsWith(OPTIMIZER_PREFIX)) {
      moments.set(name.slice(OPTIMIZER_PREFIX.length), value);
    } else {
      throw new EvenkeelError('CORRUPT_FILE', `${path}: a checkpoint holds no tensor named ${JSON.stringify(name)}.`);
    }
  }
  const values = parseJson(path, metadata, 'optimizer');
  const optimizer = isRecord(values) ? { tensors: moments, values } : undefined;
  return { info, model, optimizer };
}

/**
 * The small values in the metadata of a checkpoint.
 *
 * @throws EvenkeelError `UNSUPPORTED` for a file that is no checkpoint or one of a later version, `CORRUPT_FILE`.
 */
export function parseInfo(path: string, metadata: ReadonlyMap<string, string>): CheckpointInfo {
  const format = metadata.get(FORMAT_KEY);
  if (format !== FORMAT) {
    throw new EvenkeelError(
      'UNSUPPORTED',
      format === undefined
        ? `${path} is a safetensors file, but no checkpoint of Evenkeel: its metadata has no ${FORMAT_KEY}.`
        : `${path} is a checkpoint of format ${format}, and this version of Evenkeel reads format ${FORMAT}. Update Evenkeel.`,
    );
  }
  if (!metadata.has('evenkeel.header_checksum')) {
    throw new EvenkeelError('CORRUPT_FILE', `${path}: the checkpoint's checksum is gone from its header.`);
  }
  const config = parseJson(path, metadata, 'config') ?? {};
  if (!isRecord(config)) {
    throw new EvenkeelError('CORRUPT_FILE', `${path}: the checkpoint's config is not a JSON object.`);
  }
  return {
    config,
    training: parseJson(path, metadata, 'training'),
    extra: parseJson(path, metadata, 'extra'),
    loader: parseJson(path, metadata, 'loader'),
    hasOptimizer: metadata.has('evenkeel.optimizer'),
  };
}

function parseJson(path: string, metadata: ReadonlyMap<string, string>, key: (typeof JSON_KEYS)[number]): unknown {
  const text = metadata.get(`evenkeel.${key}`);
  if (text === undefined) {
    return undefined;
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new EvenkeelError('CORRUPT_FILE', `${path}: the metadata evenkeel.${key} is not valid JSON.`, { cause });
  }
}

/** JSON turns NaN and infinities into null without a word; a checkpoint must not. */
function exactJson(path: string, key: string, value: unknown): string {
  return JSON.stringify(value, (name, item: unknown) => {
    if (typeof item === 'number' && !Number.isFinite(item)) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `Cannot save ${path}: ${key} holds ${item} under ${JSON.stringify(name)}, which JSON cannot carry.`,
      );
    }
    return item;
  });
}

function* prefixed(prefix: string, tensors: ReadonlyMap<string, Tensor>): Generator<[string, Tensor]> {
  for (const [name, tensor] of tensors) {
    yield [prefix + name, tensor];
  }
}

async function snapshot(tensors: ReadonlyMap<string, Tensor>): Promise<Map<string, StateArray>> {
  const entries = [...tensors].map(
    async ([name, tensor]): Promise<[string, StateArray]> => [
      name,
      { shape: tensor.shape, values: await tensor.data() },
    ],
  );
  return new Map(await Promise.all(entries));
}

function toStateArray(path: string, name: string, { shape, values, elementType }: StoredTensor): StateArray {
  if (values instanceof Float32Array || values instanceof Int32Array || elementType === 'U8') {
    return { shape, values: values as Float32Array | Int32Array | Uint8Array };
  }
  throw new EvenkeelError(
    'UNSUPPORTED',
    `${path}: tensor ${JSON.stringify(name)} is of type ${elementType}; checkpoints hold F32, I32 and U8.`,
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
