import * as data from '../data';
import { diagnose } from '../nn/diagnose';
import { replaceFile } from '../serialization/replace-file';
import { setThreads } from '../tensor';
import { formatNumber, formatTable } from '../training/format';
import { diagnosisTable, renderDiagnosis } from '../training/report/diagnosis';
import type { Network } from '../training/types';
import { describeOptions, type OptionTable, parseOptions, UsageError } from './arguments';
import { resolveCheckpoint } from './checkpoint-path';
import type { Command, Console, ExitCode } from './command';
import { CONFIG_OPTIONS, configFromOptions, type RunConfig } from './run-config';
import { buildLoss, buildModel, loadModel, type OpenedData, openData } from './setup';
import { version } from './version';

/** Options that describe a model, which a checkpoint knows by itself. */
const MODEL_OPTIONS = ['data', 'model', 'width', 'model-option', 'norm', 'norm-option'] as const;

const OPTIONS = {
  data: { ...CONFIG_OPTIONS.data, help: 'Data of a model with fresh weights. Default digits, which is built in.' },
  model: CONFIG_OPTIONS.model,
  width: CONFIG_OPTIONS.width,
  'model-option': CONFIG_OPTIONS['model-option'],
  norm: CONFIG_OPTIONS.norm,
  'norm-option': CONFIG_OPTIONS['norm-option'],
  'data-dir': { kind: 'text', placeholder: 'DIR', help: 'Folder with the files of the data set (or EVENKEEL_DATA).' },
  'batch-size': { kind: 'integer', least: 1, help: 'Training images to look at. Default 64.' },
  seed: { kind: 'integer', least: 0, help: 'Seed of fresh weights and of the choice of images. Default 1.' },
  threads: { kind: 'integer', least: 1, help: 'Threads to compute with. Default: one a processor.' },
  html: { kind: 'text', placeholder: 'FILE', help: 'Write a page with plots by depth.' },
  json: { kind: 'flag', help: 'One JSON object on standard output.' },
} as const satisfies OptionTable;

/** `evenkeel doctor`: what goes wrong inside a network, layer by layer. */
export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'find out what goes wrong inside a network',
  help: () => `evenkeel doctor [CHECKPOINT]: examines a network on a batch of its training data, layer by layer

Channels that became constant (power decomposition), instances that look alike, correlated channels, badly conditioned inputs, dead
units, gradients too small or too large, samples that depend on their batch. Each finding names its evidence and what to do. Without
CHECKPOINT the network has fresh weights. Findings do not change the exit code.

Examples
  evenkeel doctor runs/digits-resnet-tiny-frn
  evenkeel doctor --data cifar10 --data-dir ~/data --model resnet56 --norm layer --html doctor.html
  evenkeel doctor --model resnet-tiny --norm batch --batch-size 4 --json

Options
${describeOptions(OPTIONS)}
`,
  run,
};

async function run(args: readonly string[], console: Console): Promise<ExitCode> {
  const { values, positionals } = parseOptions(args, OPTIONS, ['[CHECKPOINT]']);
  const [given] = positionals;
  const described = MODEL_OPTIONS.filter((name) => values[name] !== undefined);
  if (given !== undefined && described.length > 0) {
    throw new UsageError(`A checkpoint knows its model and data: leave out --${described.join(', --')}.`);
  }
  if (values.threads !== undefined) setThreads(values.threads);
  const path = given === undefined ? undefined : await resolveCheckpoint(given);
  const loaded = path === undefined ? undefined : await loadModel(path);
  const { 'batch-size': batchSize = 64, seed = 1 } = values;
  const { html: _html, json: _json, threads: _threads, 'data-dir': directory, ...modelValues } = values;
  const config: RunConfig = loaded?.config ?? configFromOptions({ ...modelValues, 'batch-size': batchSize, seed });
  const opened = await openData(config, directory);
  const model = loaded?.model ?? buildModel(config, opened.imageShape, opened.classes);
  const diagnosis = await diagnoseOn(model, config, opened, { batchSize, seed });
  const title = path ?? `${config.model} with norm ${config.norm}`;
  const weights = path === undefined ? 'fresh weights' : 'trained weights';
  if (values.html !== undefined) {
    const page = renderDiagnosis(diagnosis, {
      title,
      subtitle: `${config.model} · norm ${config.norm} · ${weights} · ${diagnosis.batchSize} images of ${config.data}`,
      footer: `evenkeel ${version()} doctor`,
    });
    await replaceFile(values.html, [page]);
  }
  const { data: dataName, model: modelName, norm } = config;
  if (values.json) {
    const subject = { checkpoint: path, model: modelName, norm, data: dataName };
    console.out.write(`${JSON.stringify({ ...subject, ...diagnosis })}\n`);
    return 0;
  }
  const { heading, rows } = diagnosisTable(diagnosis);
  const samples = diagnosis.sampleDependence;
  const findings = diagnosis.findings.map(
    ({ severity, kind, evidence, advice }) =>
      `${severity}: ${kind.replaceAll('-', ' ')}: ${evidence}. Advice: ${advice}.`,
  );
  console.out.write(
    [
      `${title}, ${weights}, on ${diagnosis.batchSize} training images of ${dataName}, loss ${formatNumber(diagnosis.loss)}`,
      '',
      formatTable([heading, ...rows]),
      '',
      ...(samples === undefined
        ? []
        : [
            `Outputs alone and in the batch differ by ${formatNumber(100 * samples.relativeDifference)} % in training mode.`,
          ]),
      ...(findings.length === 0 ? ['Nothing found.'] : findings),
      ...(values.html === undefined ? [] : ['', `Written: ${values.html}`]),
      '',
    ].join('\n'),
  );
  return 0;
}

async function diagnoseOn(
  model: Network,
  config: RunConfig,
  { train }: OpenedData,
  options: { readonly batchSize: number; readonly seed: number },
) {
  const loader = new data.DataLoader(train, { ...options, shuffle: true });
  for await (const { images, labels } of loader) {
    try {
      return await diagnose(model, { images, labels }, { loss: buildLoss(config) });
    } finally {
      images.dispose();
      labels.dispose();
    }
  }
  throw new UsageError(`There are no training images in ${config.data}.`);
}
