#!/usr/bin/env node
// The `evenkeel` command. An installed package runs what it brought; a clone first builds what changed.
'use strict';

const { spawnSync } = require('node:child_process');
const { existsSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');
const program = join(root, 'dist', 'cli', 'main.js');
const build = join(root, 'scripts', 'ensure-built.mjs');

if (existsSync(build)) {
  const { status } = spawnSync(process.execPath, [build], { stdio: ['ignore', 2, 'inherit'] });
  if (status !== 0) {
    process.exit(1);
  }
}
if (!existsSync(program)) {
  process.stderr.write(
    'evenkeel: this installation is incomplete (dist/cli/main.js is missing): install the package again.\n',
  );
  process.exit(1);
}
// Run as the main module, so that the program sees the same arguments as with `node dist/cli/main.js`.
process.argv[1] = program;
require('node:module').runMain();
