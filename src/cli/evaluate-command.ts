import { setThreads } from '../tensor';
import { evaluate } from '../training/evaluate';
import { formatInteger, formatNumber, formatPercent, formatTable } from '../training/format';
import { ProgressBar } from '../training/progress';
import { frequentConfusions } from '../training/report/confusion';
import { describeOptions, type OptionTable, parseOptions } from './arguments';
import { resolveCheckpoint } from './checkpoint-path';
import type { Command, Console, ExitCode } from './command';
import { buildLoss, loadModel, openData, testLoaderOf } from './setup';

const OPTIONS = {
  'data-dir': { kind: 'text', placeholder: 'DIR', help: 'Folder with the files of the data set (or EVENKEEL_DATA).' },
  'batch-size': {
    kind: 'integer',
    least: 1,
    help: 'Images in a batch. Default: as in training. Does not change the result.',
  },
  threads: { kind: 'integer', least: 1, help: 'Threads to compute with. Default: one a processor.' },
  json: { kind: 'flag', help: 'One JSON object on standard output.' },
} as const satisfies OptionTable;

/** `evenkeel eval`: how good a checkpoint is on its test data. */
export const evaluateCommand: Command = {
  name: 'eval',
  summary: 'measure a checkpoint on its test data',
  help: () => `evenkeel eval CHECKPOINT: loss, accuracy and confusions of a checkpoint on its test data

CHECKPOINT is a file, or a run directory, whose best checkpoint is taken. It knows its model and its data.

Examples
  evenkeel eval runs/digits-resnet-tiny-frn
  evenkeel eval runs/cifar/last.safetensors --data-dir ~/data --json

Options
${describeOptions(OPTIONS)}
`,
  run,
};

async function run(args: readonly string[], console: Console): Promise<ExitCode> {
  const { values, positionals } = parseOptions(args, OPTIONS, ['CHECKPOINT']);
  if (values.threads !== undefined) {
    setThreads(values.threads);
  }
  const path = await resolveCheckpoint(positionals[0] ?? '');
  const { model, config } = await loadModel(path);
  const data = await openData(config, values['data-dir']);
  const loader = testLoaderOf(
    { ...config, evaluationBatchSize: values['batch-size'] ?? config.evaluationBatchSize },
    data,
  );
  const bar = new ProgressBar(console.error);
  const started = performance.now();
  const evaluation = await evaluate(model, loader, {
    loss: buildLoss({ ...config, labelSmoothing: 0 }),
    onBatch: (batch, { loss, top1, examples }) => {
      const seconds = (performance.now() - started) / 1000;
      bar.update({
        epoch: 1,
        epochs: 1,
        batch,
        batches: loader.length,
        loss,
        top1,
        imagesPerSecond: examples / seconds,
        phase: 'valid',
        secondsLeft: (seconds / batch) * (loader.length - batch),
      });
    },
  });
  bar.clear();
  const { complete: _, confusion, mistakes, ...metrics } = evaluation;
  if (values.json) {
    console.out.write(`${JSON.stringify({ checkpoint: path, data: config.data, ...metrics, confusion, mistakes })}\n`);
    return 0;
  }
  const name = (label: number) => data.classNames[label] ?? String(label);
  const confusions = frequentConfusions(confusion, 5).map(({ label, predicted, examples }) => [
    name(label),
    name(predicted),
    formatInteger(examples),
  ]);
  const top5 = metrics.top5 === undefined ? '' : `, top-5 ${formatPercent(metrics.top5)}`;
  console.out.write(
    `${path} on ${formatInteger(metrics.examples)} test images of ${config.data}\n` +
      `accuracy ${formatPercent(metrics.top1)}${top5}, loss ${formatNumber(metrics.loss)}\n`,
  );
  if (confusions.length > 0) {
    console.out.write(`\n${formatTable([['true class', 'taken for', 'times'], ...confusions])}\n`);
  }
  return 0;
}
