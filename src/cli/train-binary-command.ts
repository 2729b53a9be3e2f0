import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setThreads } from '../tensor';
import { RunDirectory } from '../training/run-directory';
import { describeOptions, type OptionTable, type OptionValues, parseOptions, UsageError } from './arguments';
import type { Command, Console, ExitCode } from './command';
import { CONFIG_OPTIONS, configFromOptions, type RunConfig } from './run-config';
import { chooseRunDirectory, RUN_OPTIONS, trainRun } from './train-run';

const OPTIONS = { ...CONFIG_OPTIONS, ...RUN_OPTIONS } as const satisfies OptionTable;

/** The recipe of ReActNet and of "BNN − BN = ?", where nothing else is asked for. */
const RECIPE = {
  data: 'cifar10',
  model: 'reactnet20',
  norm: 'bn-free',
  optimizer: 'adam',
  lr: 1e-3,
  'weight-decay': 1e-5,
  schedule: 'linear',
  warmup: 0,
  'label-smoothing': 0,
} as const satisfies OptionValues<typeof CONFIG_OPTIONS>;

/** The options as `--help` shows them: those of `train` with the defaults of the recipe. */
const SHOWN_OPTIONS: OptionTable = Object.fromEntries(
  Object.entries<OptionTable[string]>(OPTIONS).map(([name, option]) => {
    const own = Object.entries(RECIPE).find(([key]) => key === name)?.[1];
    return [
      name,
      own === undefined ? option : { ...option, help: option.help.replace(/ Default.*$/, ` Default ${own}.`) },
    ];
  }),
);

/** `evenkeel train-binary`: trains a binary network in two steps. */
export const trainBinaryCommand: Command = {
  name: 'train-binary',
  summary: 'train a binary network in two steps',
  help: () => `evenkeel train-binary: trains a binary network in two steps and writes runs/NAME/step1/ and runs/NAME/step2/

Step 1 trains binary activations with float weights. Step 2 starts from step 1's best checkpoint, with binary weights, no weight decay and
the learning rate from its peak again; --epochs are those of each step. The defaults are the published recipe: reactnet20 with norm
bn-free, adam at 0.001 falling linearly to 0, weight decay 0.00001 in step 1. Without --data it trains on CIFAR-10, and needs --data-dir.

Examples
  evenkeel train-binary --data-dir ~/data --epochs 60 --run binary
  evenkeel train-binary --data-dir ~/data --epochs 60 --run binary --resume      after Ctrl-C, a crash or a power cut, in either step
  evenkeel train --data cifar10 --data-dir ~/data --model resnet20 --run teacher
  evenkeel train-binary --data-dir ~/data --teacher runs/teacher --model reactnet18 --norm batch
  evenkeel eval runs/binary/step2 --data-dir ~/data

Options
${describeOptions(SHOWN_OPTIONS)}
`,
  run,
};

async function run(args: readonly string[], console: Console): Promise<ExitCode> {
  const { values } = parseOptions(args, OPTIONS);
  if (values['model-option']?.some((option) => option.startsWith('weights='))) {
    throw new UsageError('train-binary chooses weights=float for step 1 and weights=binary for step 2 itself.');
  }
  const config = configFromOptions({ ...RECIPE, ...values });
  const folder = await chooseRunDirectory(values, `${config.data}-${config.model}-${config.norm}`);
  if (values.threads !== undefined) {
    setThreads(values.threads);
  }
  const [first, second] = [join(folder, 'step1'), join(folder, 'step2')].map((path) => new RunDirectory(path)) as [
    RunDirectory,
    RunDirectory,
  ];
  if (values.resume !== true) {
    // A second step of an earlier run must not go on from where it was once the first one is another.
    await rm(second.last, { force: true });
  }
  const announce = (text: string) => (values.json ? console.error : console.out).write(`${text}\n\n`);
  announce('Step 1 of 2: binary activations, float weights');
  const { reason } = await trainRun(stepConfig(config, 'float'), first.path, values, console);
  if (reason !== 'finished' && reason !== 'early stopping') {
    return reason === 'interrupted' ? 1 : 0;
  }
  announce(`\nStep 2 of 2: binary weights, from ${first.best}`);
  const binary = { ...stepConfig(config, 'binary'), weightDecay: 0, initialWeights: first.best };
  const end = await trainRun(binary, second.path, values, console);
  return end.reason === 'interrupted' ? 1 : 0;
}

function stepConfig(config: RunConfig, weights: 'float' | 'binary'): RunConfig {
  return { ...config, modelOptions: { ...config.modelOptions, weights } };
}
