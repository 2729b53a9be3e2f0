import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { EvenkeelError } from '../errors';
import { type EpochRow, RunDirectory } from '../training/run-directory';

/** One finished (or stopped) run, as a comparison sees it. */
export interface ComparedRun {
  readonly name: string;
  readonly path: string;
  readonly model: string;
  /** The norm; the name of the run where its configuration does not say, as that of a trainer may. */
  readonly norm: string;
  /** Every setting but those above and below, as text by `part.name`, where the part is `norm`, `model` or `run`. */
  readonly options: ReadonlyMap<string, string>;
  /** NaN where the configuration does not say, as the learning rate and the seed. */
  readonly batchSize: number;
  readonly learningRate: number;
  readonly seed: number;
  readonly epochs: readonly EpochRow[];
  /** Validation accuracy after the last epoch, 0 to 1. */
  readonly finalTop1: number;
  /** The best validation accuracy of any epoch, 0 to 1. */
  readonly bestTop1: number;
  /** Images per second, median over the epochs. */
  readonly imagesPerSecond: number;
  /** The most bytes of tensors that were live in the first epoch's training; undefined where the log does not say. */
  readonly peakBytes: number | undefined;
}

/** Runs that differ in their seed only. */
export interface ComparedGroup {
  readonly norm: string;
  /** What sets the group apart from the others: the norm, and the model and the options in which the runs differ. */
  readonly label: string;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly runs: readonly ComparedRun[];
  /** Mean of the final accuracies. */
  readonly mean: number;
  /** Sample standard deviation of the final accuracies; 0 for one run. */
  readonly deviation: number;
  readonly imagesPerSecond: number;
}

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/**
 * Reads run directories.
 *
 * @throws EvenkeelError FILE_NOT_FOUND where one is none, CORRUPT_FILE where its configuration cannot be read or it has no epoch yet
 */
export async function readRuns(paths: readonly string[]): Promise<ComparedRun[]> {
  return Promise.all(
    paths.map(async (path) => {
      const directory = new RunDirectory(path);
      let config: Record<string, unknown>;
      try {
        config = JSON.parse(await readFile(directory.config, 'utf8')) as Record<string, unknown>;
      } catch (cause) {
        const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
        const steps = ['step1', 'step2'].map((step) => join(path, step)).filter((step) => existsSync(step));
        const hint = steps.length === 0 ? '' : `; it holds the steps of train-binary: give ${steps.join(' or ')}`;
        throw new EvenkeelError(
          missing ? 'FILE_NOT_FOUND' : 'CORRUPT_FILE',
          `${path}: ${missing ? `no run directory (it has no config.json)${hint}` : 'config.json cannot be read'}`,
          { cause },
        );
      }
      const epochs = await directory.readEpochs();
      const accuracies = epochs.flatMap(({ validationTop1 }) => validationTop1 ?? []);
      if (accuracies.length === 0) {
        throw new EvenkeelError('CORRUPT_FILE', `${path}: metrics.csv has no epoch with a validation yet`);
      }
      const number = (key: string): number => (typeof config[key] === 'number' ? config[key] : Number.NaN);
      return {
        name: basename(path),
        path,
        model: typeof config['model'] === 'string' ? config['model'] : '',
        norm: typeof config['norm'] === 'string' ? config['norm'] : basename(path),
        options: optionsOf(config),
        batchSize: number('batchSize'),
        learningRate: number('learningRate'),
        seed: number('seed'),
        epochs,
        finalTop1: accuracies[accuracies.length - 1]!,
        bestTop1: Math.max(...accuracies),
        imagesPerSecond: medianOf(epochs.map((row) => row.imagesPerSecond)),
        peakBytes: epochs[0]?.peakBytes,
      };
    }),
  );
}

/** What is no option: it has a field of its own, or changes no result. */
const NO_OPTIONS = new Set(['model', 'norm', 'batchSize', 'learningRate', 'seed', 'evaluationBatchSize']);

/** Settings that are paths. Seeds of the same experiment have them in folders of their own, so only the last part is compared. */
const PATHS = new Set(['teacher', 'initialWeights']);

function optionsOf(config: Readonly<Record<string, unknown>>): Map<string, string> {
  const { normOptions, modelOptions, ...settings } = config;
  const options = new Map<string, string>();
  for (const [part, values] of Object.entries({ norm: normOptions, model: modelOptions, run: settings })) {
    if (typeof values !== 'object' || values === null) continue;
    for (const [name, value] of Object.entries(values)) {
      if (part === 'run' && NO_OPTIONS.has(name)) continue;
      const text = typeof value === 'string' ? value : JSON.stringify(value);
      options.set(`${part}.${name}`, part === 'run' && PATHS.has(name) ? basename(text) : text);
    }
  }
  return options;
}

/**
 * The options in which runs differ. `shown` are for names; `implied` change from run to run exactly as the model or a setting that is
 * shown, as the defaults of a data set do, and would only make names long.
 */
function differing(runs: readonly ComparedRun[]): { readonly shown: string[]; readonly implied: string[] } {
  /** Which runs are alike in a value. */
  const pattern = (value: (run: ComparedRun) => string | undefined) => {
    const values = runs.map(value);
    return values.map((own) => values.indexOf(own)).join();
  };
  const patterns = new Set([pattern(({ model }) => model)]);
  const [shown, implied]: [string[], string[]] = [[], []];
  for (const key of new Set(runs.flatMap(({ options }) => [...options.keys()]))) {
    const own = pattern(({ options }) => options.get(key));
    if (own === pattern(() => '')) continue;
    (key.startsWith('run.') && patterns.has(own) ? implied : shown).push(key);
    if (key.startsWith('run.')) patterns.add(own);
  }
  return { shown, implied };
}

/** Without the part: `run.epochs` is `epochs`. */
function nameOf(key: string): string {
  return key.slice(key.indexOf('.') + 1);
}

/** The settings in which runs differ though the names of their groups do not say so; see {@link groupRuns}. */
export function impliedSettings(runs: readonly ComparedRun[]): string[] {
  return differing(runs).implied.map(nameOf);
}

/** Names runs by their norm, and by their model and options as far as not all runs have the same. */
function labelsOf(runs: readonly ComparedRun[]): (run: ComparedRun) => string {
  const { shown } = differing(runs);
  const models = new Set(runs.map(({ model }) => model)).size > 1;
  return ({ model, norm, options }) =>
    [
      ...(models && model !== '' ? [model] : []),
      norm,
      ...shown.flatMap((key) => (options.has(key) ? [`${nameOf(key)}=${options.get(key)}`] : [])),
    ].join(' ');
}

/** Puts runs that differ in their seed only together, ordered by batch size, best first. */
export function groupRuns(runs: readonly ComparedRun[]): ComparedGroup[] {
  const labelOf = labelsOf(runs);
  const groups = new Map<string, ComparedRun[]>();
  for (const run of runs) {
    const key = JSON.stringify([labelOf(run), run.batchSize, run.learningRate]);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()]
    .map((members) => {
      const [first] = members;
      const mean = members.reduce((sum, run) => sum + run.finalTop1, 0) / members.length;
      const squares = members.reduce((sum, run) => sum + (run.finalTop1 - mean) ** 2, 0);
      return {
        norm: first!.norm,
        label: labelOf(first!),
        batchSize: first!.batchSize,
        learningRate: first!.learningRate,
        runs: members,
        mean,
        deviation: members.length > 1 ? Math.sqrt(squares / (members.length - 1)) : 0,
        imagesPerSecond: medianOf(members.map((run) => run.imagesPerSecond)),
      };
    })
    .sort((a, b) => b.batchSize - a.batchSize || b.mean - a.mean);
}
