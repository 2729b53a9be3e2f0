// `npm start`: everything that a fresh clone needs, then a training run to look at.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ensureBuilt } from './support/prepare.mjs';
import { program, root } from './support/run.mjs';

const demonstration = ['train', '--data', 'digits', '--model', 'resnet-tiny', '--norm', 'frn'];

program(() => {
  ensureBuilt();
  // Ctrl-C reaches the child, too, which saves its run and ends; this process only waits for it.
  process.on('SIGINT', () => undefined);
  const args = process.argv.length > 2 ? process.argv.slice(2) : demonstration;
  const { status } = spawnSync(process.execPath, [join(root, 'bin', 'evenkeel.js'), ...args], { stdio: 'inherit' });
  process.exitCode = status ?? 1;
});
