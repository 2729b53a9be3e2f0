import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The version in the package's own `package.json`, two folders above both `src/cli` and `dist/cli`. */
export function version(): string {
  const text = readFileSync(join(__dirname, '..', '..', 'package.json'), 'utf8');
  const manifest: unknown = JSON.parse(text);
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : '?';
}
