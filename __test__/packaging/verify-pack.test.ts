import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(__dirname, '..', '..');

test('the packed packages install and run without network and without Rust', () => {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/verify-pack.mjs'], { cwd: root, encoding: 'utf8' });
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
}, 300_000);
