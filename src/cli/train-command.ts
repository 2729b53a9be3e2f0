import { setThreads } from '../tensor';
import { describeOptions, type OptionTable, parseOptions } from './arguments';
import type { Command, Console, ExitCode } from './command';
import { CONFIG_OPTIONS, configFromOptions } from './run-config';
import { chooseRunDirectory, RUN_OPTIONS, trainRun } from './train-run';

const OPTIONS = { ...CONFIG_OPTIONS, ...RUN_OPTIONS } as const satisfies OptionTable;

/** `evenkeel train`: trains a network and writes a run directory. */
export const trainCommand: Command = {
  name: 'train',
  summary: 'train a network and write checkpoints, logs and a report',
  help: () => `evenkeel train: trains a network on images and writes runs/NAME/

Examples
  evenkeel train                                           handwritten digits, built in, half a minute
  evenkeel train --data mnist --data-dir ~/data/mnist
  evenkeel train --data cifar10 --data-dir ~/data --model resnet20 --norm frn --batch-size 4 --epochs 30 --lr 0.1 --seed 1
  evenkeel train --data cifar10 --data-dir ~/data --norm group --norm-option groups=8 --run groups8
  evenkeel train --run groups8 --data cifar10 ... --resume     after Ctrl-C, a crash or --max-steps: the same command again

Ctrl-C saves and stops; a second Ctrl-C stops at once.
A run directory holds config.json, metrics.csv, events.jsonl, report.html, best.safetensors and last.safetensors.

Options
${describeOptions(OPTIONS)}
`,
  run,
};

async function run(args: readonly string[], console: Console): Promise<ExitCode> {
  const { values } = parseOptions(args, OPTIONS);
  const config = configFromOptions(values);
  const runDirectory = await chooseRunDirectory(values, `${config.data}-${config.model}-${config.norm}`);
  if (values.threads !== undefined) {
    setThreads(values.threads);
  }
  const { reason } = await trainRun(config, runDirectory, values, console);
  return reason === 'interrupted' ? 1 : 0;
}
