import { parseArgs } from 'node:util';
import { nearest } from '../spelling';

/** A wrong command line: exit code 2 and a hint, no stack. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** One option of a command. */
export interface OptionDefinition {
  /** `flag` takes no value; `integer` and `number` are checked; `list` may be given several times. */
  readonly kind: 'flag' | 'text' | 'integer' | 'number' | 'list';
  /** What the value is called in the help. */
  readonly placeholder?: string;
  readonly help: string;
  /** Another name, such as `--name` for `--run`. */
  readonly alias?: string;
  /** The smallest number allowed. */
  readonly least?: number;
  /** The words allowed. */
  readonly choices?: readonly string[];
}

/** The options of a command by name, without dashes, in the order of the help. */
export type OptionTable = Readonly<Record<string, OptionDefinition>>;

type ValueOf<Definition extends OptionDefinition> = Definition['kind'] extends 'flag'
  ? boolean
  : Definition['kind'] extends 'integer' | 'number'
    ? number
    : Definition['kind'] extends 'list'
      ? string[]
      : string;

/** What was given on the command line: only options that were given are there. */
export type OptionValues<Table extends OptionTable> = { [Name in keyof Table]?: ValueOf<Table[Name]> };

/**
 * Parses a command line.
 *
 * @param positionals how many arguments without dashes are wanted, and what they are called; a last name that ends in `...` takes
 * one or more, and a name in brackets (`[CHECKPOINT]`) may be missing.
 * @throws UsageError naming what is wrong, with the nearest option for a misspelt one.
 */
export function parseOptions<Table extends OptionTable>(
  args: readonly string[],
  table: Table,
  positionals: readonly string[] = [],
): { values: OptionValues<Table>; positionals: string[] } {
  const aliases = new Map(
    Object.entries(table).flatMap(([name, { alias }]) => (alias ? [[alias, name] as const] : [])),
  );
  const definitions = Object.entries(table).flatMap(([name, { kind, alias }]) => {
    const config = { type: kind === 'flag' ? ('boolean' as const) : ('string' as const), multiple: true };
    return [[name, config] as const, ...(alias ? [[alias, config] as const] : [])];
  });
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(definitions),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values: Record<string, unknown> = {};
  const found: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') {
      found.push(token.value);
    } else if (token.kind === 'option') {
      const name = aliases.get(token.name) ?? token.name;
      const definition = Object.hasOwn(table, name) ? table[name] : undefined;
      if (definition === undefined) {
        throw new UsageError(
          `Unknown option ${token.rawName}.${suggestion(token.name, [...Object.keys(table), ...aliases.keys()], '--')}`,
        );
      }
      const value = readValue(token.rawName, definition, token.value);
      if (definition.kind === 'list') {
        const list = values[name];
        values[name] = [...(Array.isArray(list) ? list : []), value];
      } else {
        values[name] = value;
      }
    }
  }
  const repeats = positionals.at(-1)?.endsWith('...') === true;
  if (found.length > positionals.length && !repeats) {
    const extra = found.slice(positionals.length).join(' ');
    throw new UsageError(
      positionals.length === 0
        ? `Unexpected argument ${extra}: this command takes options only.`
        : `Unexpected argument ${extra}.`,
    );
  }
  const missing = positionals.slice(found.length).filter((name) => !name.startsWith('['));
  if (missing.length > 0) {
    throw new UsageError(`Missing argument: ${missing.join(', ')}.`);
  }
  return { values: values as OptionValues<Table>, positionals: found };
}

function readValue(rawName: string, definition: OptionDefinition, text: string | undefined): unknown {
  const { kind, choices, least } = definition;
  if (kind === 'flag') {
    if (text !== undefined) {
      throw new UsageError(`${rawName} takes no value, and ${JSON.stringify(text)} was given.`);
    }
    return true;
  }
  if (text === undefined || text === '') {
    throw new UsageError(`${rawName} needs a value: ${rawName} ${definition.placeholder ?? 'VALUE'}.`);
  }
  if (choices !== undefined && !choices.includes(text)) {
    throw new UsageError(
      `${rawName} is one of ${choices.join(', ')}; ${JSON.stringify(text)} was given.${suggestion(text, choices, '')}`,
    );
  }
  if (kind === 'text' || kind === 'list') {
    return text;
  }
  const number = Number(text);
  const whole = kind === 'integer';
  if (text.trim() === '' || !Number.isFinite(number) || (whole && !Number.isSafeInteger(number))) {
    throw new UsageError(`${rawName} needs a ${whole ? 'whole ' : ''}number, and ${JSON.stringify(text)} was given.`);
  }
  if (least !== undefined && number < least) {
    throw new UsageError(`${rawName} must be at least ${least}, and ${text} was given.`);
  }
  return number;
}

/** ` Did you mean --epochs?`, or nothing when no word is near. */
export function suggestion(word: string, words: readonly string[], prefix: string): string {
  const near = nearest(word, words);
  return near === undefined ? '' : ` Did you mean ${prefix}${near}?`;
}

/** The options of a command as aligned help text. */
export function describeOptions(table: OptionTable, width = 100): string {
  const rows = Object.entries(table).map(([name, { kind, placeholder, alias, help, choices }]) => {
    const value = kind === 'flag' ? '' : ` ${placeholder ?? (choices === undefined ? 'N' : 'NAME')}`;
    return [`  --${name}${alias === undefined ? '' : `, --${alias}`}${value}`, help] as const;
  });
  const indent = Math.max(...rows.map(([left]) => left.length)) + 2;
  return rows
    .map(([left, help]) => left.padEnd(indent) + wrap(help, width - indent).join(`\n${' '.repeat(indent)}`))
    .join('\n');
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
