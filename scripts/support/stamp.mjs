// A stamp remembers what a build was made from: a hash of the contents of its sources. Contents, not times, because a
// checkout gives every file a new time.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './run.mjs';

// Beside cargo's output, so that `cargo clean` forgets the stamps too.
const stampFolder = join(root, 'target', 'evenkeel');

/** Every file below the given paths, in a fixed order; folders named in `except` are left out. */
export function filesBelow(paths, except = []) {
  const found = [];
  const visit = (path) => {
    if (!existsSync(join(root, path))) {
      return;
    }
    if (!statSync(join(root, path)).isDirectory()) {
      found.push(path);
      return;
    }
    for (const name of readdirSync(join(root, path)).sort()) {
      if (!except.includes(name)) {
        visit(`${path}/${name}`);
      }
    }
  };
  paths.forEach(visit);
  return found;
}

/** The hash of the names and contents of the files. */
export function fingerprint(files) {
  const hash = createHash('sha256');
  for (const file of files) {
    const content = readFileSync(join(root, file));
    hash.update(`${file}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

/** True when the build named `name` was made from sources with this hash and everything in `outputs` still exists. */
export function isFresh(name, hash, outputs) {
  const stamp = join(stampFolder, name);
  return (
    existsSync(stamp) &&
    readFileSync(stamp, 'utf8') === hash &&
    outputs.every((output) => existsSync(join(root, output)))
  );
}

/** Remembers that the build named `name` was made from sources with this hash. */
export function markFresh(name, hash) {
  mkdirSync(stampFolder, { recursive: true });
  writeFileSync(join(stampFolder, name), hash);
}
