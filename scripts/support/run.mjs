// Running commands and saying what happens: shared by the scripts of this folder. Plain Node, no dependencies, because
// these scripts run before anything is installed.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of the clone. */
export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

const onWindows = process.platform === 'win32';

/** The npm command by its full path, for where PATH is changed. */
export function npm() {
  const name = onWindows ? 'npm.cmd' : 'npm';
  const folder = (process.env.PATH ?? '').split(delimiter).find((entry) => existsSync(join(entry, name)));
  return folder === undefined ? name : join(folder, name);
}

/** Thrown for something the user has to mend; the message is one sentence that says what and how. */
export class SetupError extends Error {}

/** Says on standard error what is being done, so that standard output stays clean for results. */
export function say(message) {
  process.stderr.write(`${message}\n`);
}

/**
 * Runs a command in the clone and waits for it.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ capture?: boolean, env?: Record<string, string>, cwd?: string }} options `capture` collects standard output instead of
 *   showing it.
 * @returns {{ status: number, stdout: string, missing: boolean }} `missing` is true when there is no such command.
 */
export function run(command, args, { capture = false, env = {}, cwd = root } = {}) {
  const result = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    // What a tool prints goes to standard error: standard output belongs to the program that these scripts prepare.
    stdio: ['inherit', capture ? 'pipe' : 2, 'inherit'],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    // On Windows npm and npx are batch files, which only a shell starts.
    shell: onWindows && !command.endsWith('.exe') && command !== process.execPath,
  });
  return {
    status: result.status ?? 1,
    stdout: result.stdout ?? '',
    missing: result.error !== undefined && 'code' in result.error && result.error.code === 'ENOENT',
  };
}

/** Runs a command and throws `SetupError(problem)` unless it succeeds. */
export function runOrFail(command, args, problem, options) {
  const result = run(command, args, options);
  if (result.status !== 0) {
    throw new SetupError(problem);
  }
  return result;
}

/** Runs `main` as a program: a `SetupError` becomes its one sentence and exit code 1. */
export function program(main) {
  try {
    main();
  } catch (error) {
    if (!(error instanceof SetupError)) {
      throw error;
    }
    say(`evenkeel: ${error.message}`);
    process.exitCode = 1;
  }
}
