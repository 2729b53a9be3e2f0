/**
 * Finds the native module for this system and loads it.
 *
 * Order: the file that `NAPI_RS_NATIVE_LIBRARY_PATH` names; the file beside this one (a clone); the npm package of this platform,
 * such as `evenkeel-linux-x64-gnu` (an installation). The first that exists must load and must have the version of this package:
 * going on to another after a failure would hide the failure.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EvenkeelError } from '../errors';

/** What every build of the native module exports, whatever else it does. */
interface Versioned {
  version(): string;
}

/** What the loader needs to know of the system; a parameter so that tests can play other systems. */
export interface Host {
  readonly platform: string;
  readonly arch: string;
  /** The C library's short name in platform names: `gnu` or `musl`; only asked on Linux. */
  readonly libc: () => 'gnu' | 'musl';
  /** The value of `NAPI_RS_NATIVE_LIBRARY_PATH`, or undefined. */
  readonly libraryPath: string | undefined;
  /** The folder where a clone keeps its native module. */
  readonly folder: string;
  /** The version that the native module must have. */
  readonly version: string;
  readonly exists: (path: string) => boolean;
  readonly require: (id: string) => unknown;
}

/** Platform names by `process.platform` and `process.arch`; Linux adds its C library. */
const PLATFORMS: ReadonlyMap<string, string> = new Map([
  ['linux x64', 'linux-x64'],
  ['linux arm64', 'linux-arm64'],
  ['darwin x64', 'darwin-x64'],
  ['darwin arm64', 'darwin-arm64'],
  ['win32 x64', 'win32-x64-msvc'],
  ['win32 arm64', 'win32-arm64-msvc'],
]);

/** The system this process runs on. */
export function currentHost(): Host {
  return {
    platform: process.platform,
    arch: process.arch,
    libc: detectLibc,
    libraryPath: process.env['NAPI_RS_NATIVE_LIBRARY_PATH'],
    folder: __dirname,
    version: packageVersion(),
    exists: existsSync,
    require,
  };
}

/** This package's version; package.json is two folders up from `src/native` and from `dist/native` alike. */
function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(__dirname, '..', '..', 'package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}

/** Tells glibc from musl: by what `ldd` says of itself, and by the process report where there is no `ldd`. */
function detectLibc(): 'gnu' | 'musl' {
  try {
    return readFileSync('/usr/bin/ldd', 'utf8').includes('musl') ? 'musl' : 'gnu';
  } catch {
    const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
    return report.header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
  }
}

/**
 * Loads the native module for `host`.
 *
 * @throws an `EvenkeelError` with code `NATIVE_UNAVAILABLE` that says what was tried, what went wrong, and what to do about it.
 */
export function loadNativeModule(host: Host): unknown {
  const base = PLATFORMS.get(`${host.platform} ${host.arch}`);
  if (base === undefined && host.libraryPath === undefined) {
    throw failure(`there is no build for ${host.platform} on ${host.arch}`, [
      `Use one of: ${[...PLATFORMS.keys()].map((key) => key.replace(' ', ' on ')).join(', ')}.`,
      'Or build the native module yourself and set NAPI_RS_NATIVE_LIBRARY_PATH to its file.',
    ]);
  }
  const name = base !== undefined && host.platform === 'linux' ? `${base}-${host.libc()}` : base;
  const localFile = join(host.folder, `evenkeel.${name}.node`);
  if (host.libraryPath !== undefined) {
    return loadChecked(host, host.libraryPath, ['Correct or unset NAPI_RS_NATIVE_LIBRARY_PATH.']);
  }
  if (host.exists(localFile)) {
    return loadChecked(host, localFile, ['Build it again: npm run build:native']);
  }
  return loadChecked(host, `evenkeel-${name}`, installationAdvice(`evenkeel-${name}`, host.version));
}

function installationAdvice(packageName: string, version: string): string[] {
  return [
    'In a clone of the repository, build it (this needs Rust, https://rustup.rs): npm run build:native',
    'If npm was told to omit optional dependencies, install again with them: npm install --include=optional',
    `If the lockfile was made on another system, add this one's package: npm install --no-save ${packageName}@${version}`,
    'If node_modules came from another system, delete it and install again.',
  ];
}

function loadChecked(host: Host, id: string, advice: string[]): unknown {
  let loaded: unknown;
  try {
    loaded = host.require(id);
  } catch (cause) {
    throw failure(`${id}: ${firstLine(cause)}`, [...systemAdvice(cause), ...advice], cause);
  }
  const version = (loaded as Partial<Versioned>).version?.();
  if (version !== host.version) {
    throw failure(`${id} has version ${version ?? '(none)'}, but this package has version ${host.version}`, advice);
  }
  return loaded;
}

/** Advice for the ways in which a file that exists fails to load. */
function systemAdvice(cause: unknown): string[] {
  const message = String(cause);
  const glibc = /version [`']GLIBC_([\d.]+)' not found/.exec(message);
  if (glibc !== null) {
    return [`This system's C library is too old: glibc ${glibc[1]} or newer is needed.`];
  }
  if ((cause as { code?: unknown }).code === 'ERR_DLOPEN_DISABLED') {
    return ['Node.js was started with --no-addons: start it without.'];
  }
  return [];
}

function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split('\n', 1)[0] ?? message;
}

function failure(problem: string, advice: string[], cause?: unknown): EvenkeelError {
  const message = [
    `Evenkeel could not load its native module: ${problem} (Node.js ${process.version}).`,
    'Possible solutions:',
    ...advice.map((line) => `  - ${line}`),
  ].join('\n');
  return new EvenkeelError('NATIVE_UNAVAILABLE', message, { cause });
}
