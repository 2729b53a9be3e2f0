// `npm version` runs this: the crates take the version of package.json, because the loader refuses a native module of
// another version.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { version } from './support/packages.mjs';
import { program, root, runOrFail } from './support/run.mjs';

program(() => {
  const file = join(root, 'Cargo.toml');
  const before = readFileSync(file, 'utf8');
  writeFileSync(file, before.replace(/^version = ".*"$/m, `version = "${version}"`));
  runOrFail('cargo', ['update', '--workspace', '--offline'], '`cargo update --workspace` failed (see above).');
  runOrFail('git', ['add', 'Cargo.toml', 'Cargo.lock'], '`git add` failed (see above).');
});
