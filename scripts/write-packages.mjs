// `node scripts/write-packages.mjs FOLDER`: makes npm/ from the native modules in FOLDER (searched with its subfolders): one
// package per platform and the root package. Every platform must be there: a release without one would break its users.
import { rmSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { platformPackage, targets, writePlatformPackage, writeRootPackage } from './support/packages.mjs';
import { binaryFile } from './support/platforms.mjs';
import { ensureDependencies, ensureTypeScript } from './support/prepare.mjs';
import { program, root, SetupError, say } from './support/run.mjs';
import { filesBelow } from './support/stamp.mjs';

program(() => {
  const folder = process.argv[2];
  if (folder === undefined) {
    throw new SetupError('usage: node scripts/write-packages.mjs FOLDER');
  }
  const found = new Map(filesBelow([relative(root, folder)]).map((file) => [basename(file), join(root, file)]));
  const missing = targets.map(binaryFile).filter((file) => !found.has(file));
  if (missing.length > 0) {
    throw new SetupError(`${folder} lacks ${missing.join(', ')}: build these first.`);
  }
  ensureDependencies();
  ensureTypeScript();
  rmSync(join(root, 'npm'), { recursive: true, force: true });
  for (const target of targets) {
    writePlatformPackage(target, found.get(binaryFile(target)), join(root, 'npm', platformPackage(target)));
  }
  writeRootPackage(join(root, 'npm', 'evenkeel'));
  say(`Wrote ${targets.length} platform packages and the root package to npm/.`);
});
