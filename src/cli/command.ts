/** Where a command writes: results to `out`, everything for the human eye to `error` when `--json` is given. */
export interface Console {
  readonly out: { write(text: string): unknown; readonly isTTY?: boolean; readonly columns?: number };
  readonly error: { write(text: string): unknown; readonly isTTY?: boolean; readonly columns?: number };
}

/** 0: done, 1: failed, 2: wrong usage. */
export type ExitCode = 0 | 1 | 2;

/** One subcommand of `evenkeel`. */
export interface Command {
  readonly name: string;
  /** One line for the overview. */
  readonly summary: string;
  /** The text of `--help`: what it does, examples, options. */
  help(): string;
  run(args: readonly string[], console: Console): Promise<ExitCode>;
}
