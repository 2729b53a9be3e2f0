// The npm packages of a release: one small package per platform that holds only a native module, and the root package that
// lists them as optional dependencies, so that npm downloads the one that fits.
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { binaryFile, platforms } from './platforms.mjs';
import { root } from './run.mjs';

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** The version of this package. */
export const version = manifest.version;

/** The Rust targets that a release is made for. */
export const targets = manifest.napi.targets;

/** The npm package of a Rust target. */
export function platformPackage(target) {
  return `${manifest.name}-${platforms[target].name}`;
}

/** Writes the package of one platform to `folder`. */
export function writePlatformPackage(target, binary, folder) {
  const { os, cpu, libc } = platforms[target];
  mkdirSync(folder, { recursive: true });
  copyFileSync(binary, join(folder, binaryFile(target)));
  copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));
  const description = `The native module of ${manifest.name} for ${platforms[target].name}`;
  writeFileSync(
    join(folder, 'README.md'),
    `# ${platformPackage(target)}\n\n${description}: install \`${manifest.name}\`, which brings it.\n`,
  );
  writeManifest(folder, {
    name: platformPackage(target),
    version: manifest.version,
    description,
    license: manifest.license,
    repository: manifest.repository,
    main: binaryFile(target),
    files: [binaryFile(target)],
    engines: manifest.engines,
    os: [os],
    cpu: [cpu],
    ...(libc === undefined ? {} : { libc: [libc] }),
  });
}

/** Writes the root package as it is published to `folder`: what `files` names, and the platform packages it depends on. */
export function writeRootPackage(folder) {
  mkdirSync(folder, { recursive: true });
  const documents = ['README.md', 'LICENSE'].filter((name) => existsSync(join(root, name)));
  for (const name of [...manifest.files.filter((name) => !name.startsWith('!')), ...documents]) {
    cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  const { devDependencies, napi, scripts, ...published } = manifest;
  writeManifest(folder, {
    ...published,
    optionalDependencies: Object.fromEntries(targets.map((target) => [platformPackage(target), manifest.version])),
  });
}

function writeManifest(folder, content) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(content, null, 2)}\n`);
}
