// `npm run verify:pack`: packs the root package and this machine's platform package as a release does, installs both into an
// empty project without network, npm cache or Rust, and uses them from plain Node.js. Jest cannot prove this: it resolves
// modules itself.
//
// `--tarballs FOLDER --platform NAME` takes tarballs that were packed before, as the release does on each platform.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { platformPackage, version, writePlatformPackage, writeRootPackage } from './support/packages.mjs';
import { binaryFile, platforms } from './support/platforms.mjs';
import { ensureBuilt, hostTarget } from './support/prepare.mjs';
import { npm, program, root, run, runOrFail, SetupError, say } from './support/run.mjs';

const programs = join(root, 'scripts', 'verify-pack');

/** Packs a package folder and checks what got into the tarball. */
function pack(folder, destination, forbidden) {
  const { stdout } = runOrFail(
    npm(),
    ['pack', folder, '--json', '--loglevel=error', '--pack-destination', destination],
    'npm pack failed.',
    {
      capture: true,
    },
  );
  const [{ filename, files, size }] = JSON.parse(stdout);
  const wrong = files.map((file) => file.path).filter((path) => forbidden.test(path));
  if (wrong.length > 0) {
    throw new SetupError(`${filename} must not contain ${wrong.join(', ')}.`);
  }
  say(`Packed ${filename}: ${files.length} files, ${(size / 1024).toFixed(0)} kB.`);
  return join(destination, filename);
}

function packBoth(folder) {
  ensureBuilt();
  const target = hostTarget();
  writeRootPackage(join(folder, 'root'));
  writePlatformPackage(target, join(root, 'src', 'native', binaryFile(target)), join(folder, 'platform'));
  return [
    pack(join(folder, 'root'), folder, /\.node$|(?<!\.d)\.ts$|(^|\/)__test__\//),
    pack(join(folder, 'platform'), folder, /\.(js|ts)$/),
  ];
}

function findTarballs(folder, platform) {
  const target = Object.keys(platforms).find((key) => platforms[key].name === platform);
  const wanted = [`evenkeel-${version}.tgz`, `${platformPackage(target)}-${version}.tgz`];
  const missing = wanted.filter((file) => !existsSync(join(folder, file)));
  if (missing.length > 0) {
    throw new SetupError(`${folder} lacks ${missing.join(', ')}; it has ${readdirSync(folder).join(', ')}.`);
  }
  return wanted.map((file) => resolve(folder, file));
}

/** A PATH that has this Node.js but neither cargo nor rustc. */
function pathWithoutRust(folder) {
  const name = process.platform === 'win32' ? '.exe' : '';
  const withoutRust = (process.env.PATH ?? '')
    .split(delimiter)
    .filter((entry) => !existsSync(join(entry, `cargo${name}`)) && !existsSync(join(entry, `rustc${name}`)));
  if (process.platform !== 'win32') {
    mkdirSync(folder);
    symlinkSync(process.execPath, join(folder, 'node'));
    withoutRust.unshift(folder);
  }
  return withoutRust.join(delimiter);
}

function verify(folder, tarballs) {
  const project = join(folder, 'project');
  const options = { cwd: project, env: { PATH: pathWithoutRust(join(folder, 'bin')) } };
  // The project needs a package.json of its own, or npm installs into a parent folder that has one.
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "name": "consumer", "private": true }\n');
  if (!run('cargo', ['--version'], { ...options, capture: true }).missing) {
    throw new SetupError('cargo is still reachable, so this would not prove that users can do without Rust.');
  }
  runOrFail(
    npm(),
    [
      'install',
      '--offline',
      '--cache',
      join(folder, 'cache'),
      '--no-audit',
      '--no-fund',
      '--loglevel=error',
      ...tarballs,
    ],
    'the packed tarballs do not install without network.',
    options,
  );
  cpSync(programs, project, { recursive: true });
  for (const name of readdirSync(programs).sort()) {
    say(`Running ${name} ...`);
    runOrFail(process.execPath, [name], `${name} failed in a project that installed the packed tarballs.`, options);
  }
}

program(() => {
  const { values } = parseArgs({ options: { tarballs: { type: 'string' }, platform: { type: 'string' } } });
  const folder = mkdtempSync(join(tmpdir(), 'evenkeel-pack-'));
  try {
    const ready = values.tarballs !== undefined && values.platform !== undefined;
    verify(folder, ready ? findTarballs(values.tarballs, values.platform) : packBoth(folder));
    say('The packed packages install and run without network and without Rust.');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
