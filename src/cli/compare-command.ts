import { type ComparedGroup, groupRuns, impliedSettings, readRuns } from '../experiments/compare-runs';
import { comparisonChart } from '../experiments/comparison-chart';
import { replaceFile } from '../serialization/replace-file';
import { formatInteger, formatTable } from '../training/format';
import { describeOptions, type OptionTable, parseOptions } from './arguments';
import type { Command, Console, ExitCode } from './command';

const OPTIONS = {
  svg: { kind: 'text', placeholder: 'FILE', help: 'Write the curves of validation accuracy as an SVG picture.' },
  title: { kind: 'text', placeholder: 'TEXT', help: 'Title of the picture. Default: Validation accuracy.' },
  json: { kind: 'flag', help: 'One JSON object on standard output.' },
} as const satisfies OptionTable;

/** `evenkeel compare`: several runs side by side. */
export const compareCommand: Command = {
  name: 'compare',
  summary: 'compare runs: a table and a picture',
  help: () => `evenkeel compare RUN...: compares the accuracy and the speed of training runs

Rows are named by the norm, and by the model and all other settings in which the runs differ; settings that always change together with
one that is shown are listed below the table. Runs that differ in their seed only share a row: the mean of their final validation
accuracies, plus or minus one standard deviation.

Examples
  evenkeel compare runs/cifar10-*
  evenkeel compare runs/* --svg accuracy.svg --title "ResNet-20 on CIFAR-10"

Options
${describeOptions(OPTIONS)}
`,
  run,
};

async function run(args: readonly string[], console: Console): Promise<ExitCode> {
  const { values, positionals } = parseOptions(args, OPTIONS, ['RUN...']);
  const runs = await readRuns(positionals);
  const groups = groupRuns(runs);
  if (values.svg !== undefined) {
    await replaceFile(values.svg, [comparisonChart(groups, values.title ?? 'Validation accuracy')]);
  }
  if (values.json) {
    console.out.write(`${JSON.stringify({ groups })}\n`);
    return 0;
  }
  const percent = (value: number): string => (100 * value).toFixed(2);
  const rows = groups.map((group) => [
    group.label,
    formatKnown(group.batchSize),
    formatKnown(group.learningRate),
    String(group.runs.length),
    group.runs.length > 1 ? `${percent(group.mean)} ± ${percent(group.deviation)}` : percent(group.mean),
    percent(Math.max(...group.runs.map((run) => run.bestTop1))),
    formatInteger(Math.round(group.imagesPerSecond)),
    formatMegabytes(group.runs[0]?.peakBytes),
  ]);
  console.out.write(
    `${formatTable([['norm', 'batch', 'learning rate', 'runs', 'final %', 'best %', 'images/s', 'peak MB'], ...rows])}\n`,
  );
  const others = impliedSettings(runs);
  if (others.length > 0) {
    console.out.write(`\nThe rows also differ in ${others.join(', ')}: see config.json of the runs.\n`);
  }
  if (groups.some(hasSeedTwice)) {
    console.out.write('\nSome rows count a seed more than once: their deviation is smaller than that between seeds.\n');
  }
  if (values.svg !== undefined) console.out.write(`\nWritten: ${values.svg}\n`);
  return 0;
}

function hasSeedTwice({ runs }: ComparedGroup): boolean {
  const seeds = runs.map(({ seed }) => seed).filter((seed) => !Number.isNaN(seed));
  return new Set(seeds).size < seeds.length;
}

/** A number of the configuration; nothing where that does not say. */
function formatKnown(value: number): string {
  return Number.isNaN(value) ? '' : String(value);
}

function formatMegabytes(bytes: number | undefined): string {
  return bytes === undefined ? '' : (bytes / 1e6).toFixed(1);
}
