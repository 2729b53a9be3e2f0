import { EvenkeelError } from '../errors';
import { checkFunction } from '../options';
import { checkOptions, optionNames } from './operations/check';
import { type RecordedCommand, stream, type TimedCommand } from './stream';

/** Time and traffic of a group of commands. */
export interface ProfileRow {
  /** The operation's or the layer's name. */
  readonly name: string;
  /** Commands. */
  readonly calls: number;
  /** Seconds on the compute thread. */
  readonly seconds: number;
  /** Share of all time, 0 to 1. */
  readonly share: number;
  /** Billions of floating-point operations a second (a multiply-add is two); 0 where the operation's count is not known. */
  readonly gigaflops: number;
  /** Billions of bytes a second, of the tensors read and written, each counted once a command. */
  readonly gigabytes: number;
  /** The most bytes that were live when one of them was called. */
  readonly peakBytes: number;
}

/** Where the time of some work went. */
export interface Profile<T> {
  /** What the work returned. */
  readonly result: T;
  /** Seconds on the compute thread, without the gaps. */
  readonly seconds: number;
  readonly byOperation: readonly ProfileRow[];
  readonly byLayer: readonly ProfileRow[];
  /** The table that people read. */
  toString(): string;
  /** The trace in the Trace Event format, which Perfetto and chrome://tracing open. */
  toTrace(): string;
}

/** Options of {@link profile}. */
export interface ProfileOptions {
  /** Names for the modules that call operations: `new Map(model.namedModules().map(([name, module]) => [module, name]))`. */
  readonly layers?: ReadonlyMap<object, string>;
}

const profileOptions = optionNames<ProfileOptions>({ layers: true });

/** Counts the floating-point operations of a command from its arguments. */
export type FlopCounter = (command: RecordedCommand) => number;

const flopCounters = new Map<string, FlopCounter>();

/** Says how many floating-point operations `operation` does; operation files with arithmetic of their own call it. */
export function countFlops(operation: string, counter: FlopCounter): void {
  flopCounters.set(operation, counter);
}

let layers: ReadonlyMap<object, string> | undefined;

/** Runs `body` with names for the modules that {@link attribute} sees. For traces. */
export function withLayers<T>(names: ReadonlyMap<object, string>, body: () => T): T {
  const before = layers;
  layers = names;
  try {
    return body();
  } finally {
    layers = before;
  }
}

/** Runs `body`; while a profile is taken, the commands it enqueues belong to the layer `owner`. For `Module.call`. */
export function attribute<T>(owner: object, body: () => T): T {
  const name = layers?.get(owner);
  if (name === undefined) return body();
  const device = stream();
  const before = device.label;
  device.label = name;
  try {
    return body();
  } finally {
    device.label = before;
  }
}

function group(commands: readonly TimedCommand[], total: number, key: (command: TimedCommand) => string): ProfileRow[] {
  const groups = new Map<string, { calls: number; seconds: number; flops: number; bytes: number; peakBytes: number }>();
  for (const command of commands) {
    const name = key(command);
    const sums = groups.get(name) ?? { calls: 0, seconds: 0, flops: 0, bytes: 0, peakBytes: 0 };
    groups.set(name, sums);
    sums.calls++;
    sums.seconds += command.duration;
    sums.flops += flopCounters.get(command.operation)?.(command) ?? 0;
    sums.bytes += command.bytes;
    sums.peakBytes = Math.max(sums.peakBytes, command.liveBytes);
  }
  return [...groups]
    .map(([name, { calls, seconds, flops, bytes, peakBytes }]) => ({
      name,
      calls,
      seconds,
      share: total > 0 ? seconds / total : 0,
      gigaflops: seconds > 0 ? flops / seconds / 1e9 : 0,
      gigabytes: seconds > 0 ? bytes / seconds / 1e9 : 0,
      peakBytes,
    }))
    .sort((a, b) => b.seconds - a.seconds);
}

function formatTable(title: string, rows: readonly ProfileRow[]): string {
  const cells = [
    [title, 'calls', 'ms', 'share', 'GFLOP/s', 'GB/s', 'live MB'],
    ...rows.map((row) => [
      row.name,
      String(row.calls),
      (row.seconds * 1e3).toFixed(2),
      `${(row.share * 100).toFixed(1)} %`,
      row.gigaflops > 0 ? row.gigaflops.toFixed(0) : '',
      row.gigabytes.toFixed(1),
      (row.peakBytes / 1e6).toFixed(1),
    ]),
  ];
  const widths = cells[0]?.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0))) ?? [];
  return cells
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  '),
    )
    .join('\n');
}

/**
 * Runs `body` and tells where its time went: by operation, and by layer where `layers` names them (a layer's backward pass
 * counts as a layer of its own, `name (backward)`).
 *
 * @throws EvenkeelError INVALID_ARGUMENT where a profile is being taken already.
 */
export async function profile<T>(body: () => T | Promise<T>, options: ProfileOptions = {}): Promise<Profile<T>> {
  checkFunction('profile', 'body', body);
  checkOptions('profile', options, profileOptions);
  const device = stream();
  if (device.profiling) throw new EvenkeelError('INVALID_ARGUMENT', 'profile: one is being taken already');
  device.startProfile();
  layers = options.layers;
  let result: T;
  let commands: TimedCommand[] = [];
  try {
    result = await body();
  } finally {
    layers = undefined;
    commands = await device.stopProfile();
  }
  const timed = commands.filter((command) => command.operation !== 'free');
  const seconds = timed.reduce((sum, command) => sum + command.duration, 0);
  const byOperation = group(timed, seconds, (command) => command.operation);
  const byLayer = group(timed, seconds, (command) => command.label || '(outside layers)');
  return {
    result,
    seconds,
    byOperation,
    byLayer,
    toString: () => `${formatTable('operation', byOperation)}\n\n${formatTable('layer', byLayer)}`,
    toTrace: () =>
      JSON.stringify({
        displayTimeUnit: 'ms',
        traceEvents: timed.map((command) => ({
          name: command.operation,
          cat: command.label || 'operation',
          ph: 'X',
          pid: 1,
          tid: 1,
          ts: command.start * 1e6,
          dur: command.duration * 1e6,
          args: { layer: command.label, bytes: command.bytes, liveBytes: command.liveBytes },
        })),
      }),
  };
}
