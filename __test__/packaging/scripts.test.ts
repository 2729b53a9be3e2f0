import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(__dirname, '..', '..');

/** Runs an ES module in plain Node.js: jest does not load those. */
function evaluate(code: string, folder = root): unknown {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', code], {
    cwd: folder,
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout.slice(stdout.lastIndexOf('\n', stdout.length - 2) + 1));
}

describe('the report of npm test', () => {
  const report = (steps: string) =>
    evaluate(`
      import { Report } from './scripts/support/report.mjs';
      const report = new Report();
      ${steps}
      console.log(JSON.stringify({ last: String(report).split('\\n').at(-1), succeeded: report.succeeded }));
    `);

  test('adds up what its steps return', () => {
    const steps = "report.step('a', () => ({ passed: 2, skipped: 1 })); report.step('b', () => ({ passed: 3 }));";
    expect(report(steps)).toEqual({ last: '5 passed, 0 failed', succeeded: true });
  });

  test('counts a step that throws as a failure and goes on', () => {
    const steps =
      "report.step('a', () => { throw new Error('x'); }); report.step('b', () => ({ passed: 3, failed: 1 }));";
    expect(report(steps)).toEqual({ last: '3 passed, 2 failed', succeeded: false });
  });

  test('does not take nothing for success', () => {
    expect(report('')).toEqual({ last: '0 passed, 0 failed', succeeded: false });
  });
});

describe('in a copy of the scripts', () => {
  let folder = '';

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'evenkeel-scripts-'));
    cpSync(join(root, 'scripts'), join(folder, 'scripts'), { recursive: true });
    cpSync(join(root, 'package.json'), join(folder, 'package.json'));
    mkdirSync(join(folder, 'src'));
    writeFileSync(join(folder, 'src', 'a.ts'), 'one');
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  test('a build is fresh until a source changes, moves or its output is gone', () => {
    const fresh = evaluate(
      `
      import { renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
      import { filesBelow, fingerprint, isFresh, markFresh } from './scripts/support/stamp.mjs';
      const hash = () => fingerprint(filesBelow(['src', 'absent']));
      const fresh = () => isFresh('test', hash(), ['output']);
      const seen = [fresh()];
      writeFileSync('output', '');
      markFresh('test', hash());
      seen.push(fresh());
      utimesSync('src/a.ts', 1, 1);
      seen.push(fresh());
      writeFileSync('src/a.ts', 'two');
      seen.push(fresh());
      markFresh('test', hash());
      renameSync('src/a.ts', 'src/b.ts');
      seen.push(fresh());
      markFresh('test', hash());
      seen.push(fresh());
      rmSync('output');
      seen.push(fresh());
      console.log(JSON.stringify(seen));
      `,
      folder,
    );
    expect(fresh).toEqual([false, true, true, false, false, true, false]);
  });

  test('a machine without Rust gets one sentence that says so', () => {
    writeFileSync(join(folder, 'Cargo.toml'), '[workspace.package]\nrust-version = "1.89"\n');
    const { status, stderr } = spawnSync(process.execPath, ['scripts/ensure-native.mjs'], {
      cwd: folder,
      env: { PATH: join(folder, 'empty') },
      encoding: 'utf8',
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^evenkeel: .*needs Rust.*https:\/\/rustup\.rs.*\n$/);
  });

  test('packages are not written without the native module of every platform', () => {
    const { status, stderr } = spawnSync(process.execPath, ['scripts/write-packages.mjs', 'src'], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^evenkeel: src lacks evenkeel\.linux-x64-gnu\.node, .*win32-arm64-msvc\.node: build these first\.\n$/,
    );
  });
});

test('the command of an incomplete installation says so', () => {
  const folder = mkdtempSync(join(tmpdir(), 'evenkeel-bin-'));
  try {
    cpSync(join(root, 'bin'), join(folder, 'bin'), { recursive: true });
    const { status, stderr } = spawnSync(process.execPath, ['bin/evenkeel.js'], { cwd: folder, encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^evenkeel: this installation is incomplete .*\n$/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
