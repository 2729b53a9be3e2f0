import { EvenkeelError } from '../errors';
import { suggestion, UsageError } from './arguments';
import type { Command, Console, ExitCode } from './command';
import { compareCommand } from './compare-command';
import { doctorCommand } from './doctor-command';
import { evaluateCommand } from './evaluate-command';
import { exportCommand } from './export-command';
import { inspectCommand } from './inspect-command';
import { predictCommand } from './predict-command';
import { trainBinaryCommand } from './train-binary-command';
import { trainCommand } from './train-command';
import { version } from './version';

const COMMANDS: readonly Command[] = [
  trainCommand,
  trainBinaryCommand,
  evaluateCommand,
  predictCommand,
  exportCommand,
  inspectCommand,
  compareCommand,
  doctorCommand,
];

function overview(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length)) + 3;
  return `evenkeel ${version()}: trains convolutional networks in Node.js, at any batch size

Usage: evenkeel COMMAND [OPTIONS]

Commands
${COMMANDS.map(({ name, summary }) => `  ${name.padEnd(width)}${summary}`).join('\n')}

Start here
  evenkeel train --data digits                      a network that reads digits, in half a minute
  evenkeel eval runs/digits-resnet-tiny-frn         how good it is
  evenkeel predict runs/digits-resnet-tiny-frn --index 7

evenkeel COMMAND --help explains a command with examples. Every command takes --json: then standard output is for
programs. Exit codes: 0 done, 1 failed, 2 wrong usage.
`;
}

/** Runs the command line `evenkeel ARGUMENTS` and returns its exit code. Never throws. */
export async function main(args: readonly string[], console: Console): Promise<ExitCode> {
  const [name, ...rest] = args;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    const topic = COMMANDS.find((command) => command.name === rest[0]);
    console.out.write(topic?.help() ?? overview());
    return name === undefined ? 2 : 0;
  }
  if (name === '--version' || name === 'version') {
    console.out.write(`${version()}\n`);
    return 0;
  }
  const command = COMMANDS.find((candidate) => candidate.name === name);
  const json = rest.includes('--json');
  try {
    if (command === undefined) {
      const names = COMMANDS.map((candidate) => candidate.name);
      throw new UsageError(`Unknown command ${name}.${suggestion(name, names, 'evenkeel ')}`);
    }
    if (rest.includes('--help') || rest.includes('-h')) {
      console.out.write(command.help());
      return 0;
    }
    return await command.run(rest, console);
  } catch (error) {
    return reportFailure(error, command, json, console);
  }
}

function reportFailure(error: unknown, command: Command | undefined, json: boolean, console: Console): ExitCode {
  const usage = error instanceof UsageError;
  const code = usage ? 'USAGE' : error instanceof EvenkeelError ? error.code : 'INTERNAL';
  const message = error instanceof Error ? error.message : String(error);
  if (json) {
    console.out.write(`${JSON.stringify({ type: 'error', code, message })}\n`);
  }
  console.error.write(`evenkeel: ${message}\n`);
  if (usage) {
    console.error.write(`Try: evenkeel ${command === undefined ? '' : `${command.name} `}--help\n`);
  } else if (!(error instanceof EvenkeelError) && error instanceof Error && error.stack !== undefined) {
    // Not an error of ours: whoever reports it needs to see where it came from.
    console.error.write(`${error.stack}\n`);
  }
  return usage ? 2 : 1;
}

if (require.main === module) {
  // Whoever reads the output may stop reading, as `head` does. That ends no training run: what is written on goes nowhere.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
  main(process.argv.slice(2), { out: process.stdout, error: process.stderr }).then((code) => {
    process.exitCode = code;
  });
}
