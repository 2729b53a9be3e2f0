// What has to exist before anything runs in a clone: npm dependencies, the native module, compiled TypeScript. Each function
// does nothing, in a few milliseconds, when its result is up to date.
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { binaryFile, cargoLibraryFile, platforms } from './platforms.mjs';
import { npm, root, run, runOrFail, SetupError, say } from './run.mjs';
import { filesBelow, fingerprint, isFresh, markFresh } from './stamp.mjs';

const nativeSources = ['Cargo.toml', 'Cargo.lock', '.cargo', 'crates'];
const typescriptSources = ['package-lock.json', 'tsconfig.json', 'tsconfig.build.json', 'src'];

/** Runs `npm ci` unless node_modules holds what package-lock.json asks for. */
export function ensureDependencies() {
  if (!dependenciesAreInstalled()) {
    say('Installing development dependencies (npm ci) ...');
    runOrFail(
      npm(),
      ['ci', '--no-audit', '--no-fund', '--loglevel=error'],
      '`npm ci` failed (see above): check the network connection and the registry (`npm config get registry`), then run this again.',
    );
  }
}

function dependenciesAreInstalled() {
  // npm writes what it installed into this hidden lockfile.
  const installed = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installed)) {
    return false;
  }
  const have = JSON.parse(readFileSync(installed, 'utf8')).packages;
  const want = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(want).every(
    ([path, { version, optional }]) => path === '' || optional || have[path]?.version === version,
  );
}

/** Builds src/native/evenkeel.<platform>.node with cargo unless it was built from these sources. */
export function ensureNative() {
  const hash = fingerprint(filesBelow(nativeSources, ['tests', 'benches', 'target']));
  const target = hostTarget();
  if (target !== undefined && isFresh('native', hash, [nativeModule(target)])) {
    return;
  }
  buildNative(requireRust());
  markFresh('native', hash);
}

/** The Rust target that the native module was built for, or undefined before the first build. */
export function hostTarget() {
  const host = join(root, 'target', 'evenkeel', 'host');
  return existsSync(host) ? readFileSync(host, 'utf8') : undefined;
}

/** The path of the native module in a clone. */
function nativeModule(target) {
  return `src/native/${binaryFile(target)}`;
}

/** Checks that a good Rust is there and gives its host target. */
function requireRust() {
  const version = run('rustc', ['-vV'], { capture: true });
  if (version.missing || version.status !== 0) {
    throw new SetupError(
      'building the native module needs Rust, and there is no `rustc` here: install it from https://rustup.rs and run this again.',
    );
  }
  const host = /^host: (.+)$/m.exec(version.stdout)?.[1];
  const release = /^release: (\d+)\.(\d+)/m.exec(version.stdout);
  const needed = /^rust-version = "(\d+)\.(\d+)/m.exec(readFileSync(join(root, 'Cargo.toml'), 'utf8'));
  if (host === undefined || !(host in platforms)) {
    throw new SetupError(`Evenkeel has no native module for ${host}; it knows ${Object.keys(platforms).join(', ')}.`);
  }
  if (
    release &&
    needed &&
    Number(release[1]) * 1000 + Number(release[2]) < Number(needed[1]) * 1000 + Number(needed[2])
  ) {
    throw new SetupError(
      `Rust ${release[1]}.${release[2]} is too old, ${needed[1]}.${needed[2]} or newer is needed: run \`rustup update\` and run this again.`,
    );
  }
  return host;
}

function buildNative(target) {
  say('Building the native module (cargo build --release; the first time takes a minute or two) ...');
  runOrFail(
    'cargo',
    ['build', '--release', '--locked', '--package', 'evenkeel-node'],
    '`cargo build` failed (see above): if it could not download crates, check the network connection, then run this again.',
  );
  const metadata = runOrFail(
    'cargo',
    ['metadata', '--format-version', '1', '--no-deps'],
    '`cargo metadata` failed (see above).',
    {
      capture: true,
    },
  );
  const library = join(JSON.parse(metadata.stdout).target_directory, 'release', cargoLibraryFile());
  replaceFile(library, join(root, nativeModule(target)));
  markFresh('host', target);
}

/** Copies a file through a rename: a running program keeps the old native module instead of crashing in a half-written one. */
function replaceFile(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, `${to}.new`);
  renameSync(`${to}.new`, to);
}

/** Compiles src/ to dist/ unless that was done from these sources. Needs the dependencies and the native module. */
export function ensureTypeScript() {
  const sources = filesBelow(typescriptSources);
  const hash = fingerprint(sources);
  if (isFresh('typescript', hash, ['dist'])) {
    return;
  }
  say('Compiling TypeScript (tsc) ...');
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  runOrFail(
    process.execPath,
    [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '--project', 'tsconfig.build.json'],
    'the TypeScript sources do not compile (see above).',
  );
  // The native module and embedded data go beside the code that loads them.
  for (const file of sources.filter((file) => file.startsWith('src/') && !file.endsWith('.ts'))) {
    cpSync(join(root, file), join(root, file.replace(/^src/, 'dist')));
  }
  markFresh('typescript', hash);
}

/** Everything: after this `dist/` runs. */
export function ensureBuilt() {
  requireNode();
  // First, because a machine without Rust should hear of it before it downloads anything.
  ensureNative();
  ensureDependencies();
  ensureTypeScript();
}

/** Checks that this Node.js is new enough. */
export function requireNode() {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const [major = 0, minor = 0] = engines.node.replace('>=', '').split('.').map(Number);
  const [hereMajor = 0, hereMinor = 0] = process.versions.node.split('.').map(Number);
  if (hereMajor < major || (hereMajor === major && hereMinor < minor)) {
    throw new SetupError(
      `Node.js ${process.versions.node} is too old, ${major}.${minor} or newer is needed: install one from https://nodejs.org.`,
    );
  }
}
