import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Host, loadNativeModule } from '../../src/native/loader';

const root = join(__dirname, '..', '..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');

interface Manifest {
  readonly version: string;
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>;
  readonly files: readonly string[];
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly napi: { readonly targets: readonly string[] };
}

interface Platform {
  readonly name: string;
  readonly os: string;
  readonly cpu: string;
  readonly libc?: 'glibc' | 'musl';
}

const manifest = JSON.parse(read('package.json')) as Manifest;

/** The table that the scripts use; they are ES modules, which jest does not load. */
const platforms = JSON.parse(
  execFileSync(
    process.execPath,
    [
      '--input-type=module',
      '--eval',
      "import { platforms } from './scripts/support/platforms.mjs'; console.log(JSON.stringify(platforms));",
    ],
    { cwd: root, encoding: 'utf8' },
  ),
) as Record<string, Platform>;

test('an installation runs no scripts and brings no other packages', () => {
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare', 'prepublish']) {
    expect(manifest.scripts).not.toHaveProperty(script);
  }
  expect(manifest.dependencies).toBeUndefined();
  // The platform packages are added where the packages are written, with the version of the moment.
  expect(manifest.optionalDependencies).toBeUndefined();
});

test('every entry point has a source', () => {
  for (const [name, entry] of Object.entries(manifest.exports)) {
    if (typeof entry === 'object') {
      expect(existsSync(join(root, entry.default.replace('./dist/', 'src/').replace('.js', '.ts')))).toBe(true);
      expect(entry.types).toBe(entry.default.replace('.js', '.d.ts'));
    } else {
      expect(name).toBe('./package.json');
    }
  }
});

test('the crates have the version of the package', () => {
  expect(/^version = "(.*)"$/m.exec(read('Cargo.toml'))?.[1]).toBe(manifest.version);
  const locked = /name = "evenkeel-node"\nversion = "(.*)"/.exec(read('Cargo.lock'))?.[1];
  expect(locked).toBe(manifest.version);
});

test('the scripts know every platform that a release is made for', () => {
  expect(Object.keys(platforms)).toEqual(manifest.napi.targets);
});

test('a release builds and tests every platform', () => {
  const workflow = read('.github/workflows/release.yml');
  for (const [target, { name }] of Object.entries(platforms)) {
    expect(workflow).toContain(`target: ${target},`);
    // Nobody offers machines with musl on ARM; the other rows cover its code.
    if (target !== 'aarch64-unknown-linux-musl') {
      expect(workflow).toContain(`platform: ${name},`);
    }
  }
});

test.each(Object.entries(platforms))(
  'on %s the loader looks for the package that is published for it',
  (_, platform) => {
    const asked: string[] = [];
    const host: Host = {
      platform: platform.os,
      arch: platform.cpu,
      libc: () => (platform.libc === 'musl' ? 'musl' : 'gnu'),
      libraryPath: undefined,
      folder: '/nowhere',
      version: manifest.version,
      exists: () => false,
      require: (id) => {
        asked.push(id);
        return { version: () => manifest.version };
      },
    };
    loadNativeModule(host);
    expect(asked).toEqual([`evenkeel-${platform.name}`]);
  },
);

test('TypeScript stays on the last version that ts-node and ts-jest can use', () => {
  const { version } = JSON.parse(read('node_modules/typescript/package.json')) as { version: string };
  expect(version).toMatch(/^6\./);
});
