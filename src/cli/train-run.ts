import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { EvenkeelError } from '../errors';
import { readSafetensorsHeader } from '../serialization/safetensors';
import { parseInfo } from '../training/checkpoint';
import { formatInteger, formatNumber, formatPercent, formatSeconds, formatTable } from '../training/format';
import { profileSteps } from '../training/profile-callback';
import { showProgress } from '../training/progress-callback';
import { RunDirectory } from '../training/run-directory';
import type { FitResult, TrainingCallback } from '../training/types';
import { type OptionTable, type OptionValues, UsageError } from './arguments';
import type { Console } from './command';
import { configFromCheckpoint, differences, type RunConfig } from './run-config';
import { buildRun, loadInitialWeights, loadTeacher, openData, pictureOf, summarize } from './setup';

/** The options of training commands that do not change what a run computes. */
export const RUN_OPTIONS = {
  'data-dir': {
    kind: 'text',
    placeholder: 'DIR',
    help: 'Folder with the files of the data set (or EVENKEEL_DATA). Not needed for digits.',
  },
  'max-steps': { kind: 'integer', least: 1, help: 'Stop after N optimizer steps; --resume goes on from there.' },
  patience: { kind: 'integer', least: 1, help: 'Stop after N epochs without a better validation.' },
  'checkpoint-every': { kind: 'integer', least: 1, help: 'Also save every N steps. Default: after each epoch.' },
  run: {
    kind: 'text',
    alias: 'name',
    placeholder: 'NAME',
    help: 'Name of the run directory. Default: DATA-MODEL-NORM, numbered when taken.',
  },
  out: { kind: 'text', placeholder: 'DIR', help: 'Folder of the run directories. Default runs.' },
  resume: {
    kind: 'flag',
    help: 'Go on with the run of this name, bit for bit as if it had never stopped; begin it when it is new.',
  },
  overwrite: { kind: 'flag', help: 'Begin a run of this name anew.' },
  threads: {
    kind: 'integer',
    least: 1,
    help: 'Threads to compute with. Default: one a processor. Any number gives the same bits.',
  },
  profile: {
    kind: 'flag',
    help: 'Measure ten steps: tables by operation and layer, and a trace for Perfetto in the run directory.',
  },
  json: { kind: 'flag', help: 'One JSON object a line on standard output: start, epoch, result.' },
} as const satisfies OptionTable;

/**
 * Trains what a configuration asks for and writes its run directory, or goes on with it (`resume`): the body of the training commands.
 *
 * @throws UsageError where the run was begun with another configuration
 */
export async function trainRun(
  config: RunConfig,
  runDirectory: string,
  values: OptionValues<typeof RUN_OPTIONS>,
  console: Console,
): Promise<FitResult> {
  const last = new RunDirectory(runDirectory).last;
  const goesOn = values.resume === true && (await exists(last));
  if (goesOn) {
    await checkSameRun(last, runDirectory, config);
  }
  const human = values.json ? console.error : console.out;
  const teacher = await loadTeacher(config);
  const data = await openData(config, values['data-dir']);
  const { trainer, trainLoader, testLoader, model } = buildRun(config, data, teacher);
  if (config.initialWeights !== undefined && !goesOn) {
    await loadInitialWeights(config.initialWeights, model);
  }
  const summary = summarize(model, data);
  human.write(`${summary.text}\n\n${describeRun(config, data.train.length, data.test.length)}\n\n`);
  const started = performance.now();
  const result = await trainer.fit(trainLoader, {
    epochs: config.epochs,
    validation: testLoader,
    runDirectory,
    resume: values.resume === true,
    config: { ...config },
    callbacks: [
      showProgress(console.error),
      ...(values.json ? [jsonLines(console, runDirectory)] : []),
      ...(values.profile
        ? [profileSteps({ model, directory: runDirectory, show: (text) => console.error.write(`\n${text}\n`) })]
        : []),
    ],
    report: {
      layers: summary.table,
      classNames: data.classNames,
      image: (index) => pictureOf(data.test, index),
    },
    ...(values['max-steps'] === undefined ? {} : { maxSteps: values['max-steps'] }),
    ...(values.patience === undefined ? {} : { patience: values.patience }),
    ...(values['checkpoint-every'] === undefined ? {} : { checkpointEvery: values['checkpoint-every'] }),
  });
  human.write(`\n${describeResult(result, (performance.now() - started) / 1000)}\n`);
  return result;
}

/** `runs/NAME`: the name that was given, or `usual`, numbered when it is taken. */
export async function chooseRunDirectory(values: OptionValues<typeof RUN_OPTIONS>, usual: string): Promise<string> {
  if (values.resume && values.overwrite) {
    throw new UsageError('--resume and --overwrite contradict each other.');
  }
  const folder = values.out ?? 'runs';
  const name = values.run ?? usual;
  if (!/^[\w.-]+$/.test(name) || /^\.+$/.test(name)) {
    throw new UsageError(
      `--run takes a name of letters, digits, dots, dashes and underscores; ${JSON.stringify(name)} was given.`,
    );
  }
  const path = join(folder, name);
  if (values.resume || values.overwrite || !(await exists(path))) {
    return path;
  }
  if (values.run !== undefined) {
    throw new UsageError(
      `${path} exists already. Add --resume to go on with it, --overwrite to begin it anew, or choose another name.`,
    );
  }
  for (let number = 2; ; number += 1) {
    if (!(await exists(`${path}-${number}`))) {
      return `${path}-${number}`;
    }
  }
}

/** A resumed run must compute what it began to; only its length may change where no schedule depends on it. */
async function checkSameRun(last: string, runDirectory: string, config: RunConfig): Promise<void> {
  const { metadata } = await readSafetensorsHeader(last);
  const stored = configFromCheckpoint(last, parseInfo(last, metadata).config);
  const free: readonly (keyof RunConfig)[] =
    config.schedule === 'constant' ? ['epochs', 'evaluationBatchSize'] : ['evaluationBatchSize'];
  const changed = differences(stored, config).filter((key) => !free.includes(key));
  if (changed.length > 0) {
    const list = changed.map((key) => `${key} was ${JSON.stringify(stored[key])}, now ${JSON.stringify(config[key])}`);
    throw new UsageError(
      `${runDirectory} was begun with other options: ${list.join('; ')}. Resume with the options it was begun with, or choose another --run.`,
    );
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') {
        return false;
      }
      throw new EvenkeelError('IO', `Cannot look at ${path}: ${error.message}`, { cause: error });
    },
  );
}

function jsonLines({ out }: Console, runDirectory: string): TrainingCallback {
  const write = (value: unknown) => out.write(`${JSON.stringify(value)}\n`);
  return {
    onStart: ({ resumedAtStep, epochs }) => void write({ type: 'start', runDirectory, resumedAtStep, epochs }),
    onEpoch: (row) => void write({ type: 'epoch', ...row }),
    onEnd: ({ reason, epochs, steps, best, files }) =>
      void write({ type: 'result', reason, epochs, steps, best: best ?? null, files }),
  };
}

function describeRun(config: RunConfig, trainCount: number, testCount: number): string {
  const { data, model, norm, batchSize, epochs, optimizer, learningRate, schedule, seed } = config;
  return (
    `${model} with ${norm} on ${data}: ${formatInteger(trainCount)} images to train on, ${formatInteger(testCount)} to test on\n` +
    `${epochs} epochs at batch size ${batchSize}, ${optimizer} with learning rate ${learningRate} (${schedule}), seed ${seed}`
  );
}

function describeResult({ reason, epochs, steps, history, best, files }: FitResult, seconds: number): string {
  const last = history.at(-1);
  const rows = [
    ['', 'epoch', 'train loss', 'train accuracy', 'test loss', 'test accuracy'],
    ...(
      [
        ['best', best],
        ['last', last],
      ] as const
    ).flatMap(([label, row]) =>
      row === undefined
        ? []
        : [
            [
              label,
              String(row.epoch),
              formatNumber(row.trainLoss),
              formatPercent(row.trainTop1),
              formatNumber(row.validationLoss),
              formatPercent(row.validationTop1),
            ],
          ],
    ),
  ];
  const hint =
    reason === 'interrupted' || reason === 'maximum steps' ? 'Go on with the same command and --resume.\n' : '';
  const table = rows.length > 1 ? `${formatTable(rows)}\n\n` : '';
  return `${table}${reason} after ${epochs} ${epochs === 1 ? 'epoch' : 'epochs'}, ${formatInteger(steps)} steps, ${formatSeconds(seconds)}\n${hint}\nWritten:\n${files.map((file) => `  ${file}`).join('\n')}`;
}
