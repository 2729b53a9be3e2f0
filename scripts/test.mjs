// `npm test`: builds what is stale, then runs every check and test there is, and ends with a table and one line
// `N passed, N failed`. A check (formatting, lint, types) counts as one; a failure does not stop what comes after it.
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ensureBuilt } from './support/prepare.mjs';
import { Report } from './support/report.mjs';
import { root, run } from './support/run.mjs';

const denyWarnings = ['--', '-D', 'warnings'];
const rustTests = ['test', '--locked', '--no-fail-fast', '--workspace', '--exclude', 'evenkeel-node'];

/** Colours only where somebody looks: jest takes CI for a terminal. */
const plain = process.stderr.isTTY ? {} : { FORCE_COLOR: '0' };

/** A check that passes or fails as a whole. */
function check(command, args) {
  const { status } = run(command, args);
  return status === 0 ? { passed: 1 } : { failed: 1, note: `${[command, ...args].join(' ')} failed` };
}

/** A cargo subcommand that a minimal toolchain may lack. */
function cargoCheck(component, args) {
  if (run('cargo', [args[0], '--version'], { capture: true }).status !== 0) {
    return { skipped: 1, note: `no ${component} here: rustup component add ${component}` };
  }
  return check('cargo', args);
}

/** A tool of node_modules. */
function tool(script, args) {
  const { status } = run(process.execPath, [join('node_modules', script), ...args]);
  return status === 0 ? { passed: 1 } : { failed: 1, note: 'see above' };
}

/** Runs cargo's tests and adds up the counts of its test programs. */
function cargoTest(args, env) {
  const { status, stdout } = run('cargo', args, { capture: true, env });
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  for (const [, ok, bad, ignored] of stdout.matchAll(/^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored/gm)) {
    passed += Number(ok);
    failed += Number(bad);
    skipped += Number(ignored);
  }
  if (status === 0 && failed === 0) {
    return { passed, failed, skipped };
  }
  process.stdout.write(stdout);
  // A program that does not compile, or dies, has no line of counts.
  return { passed, failed: Math.max(failed, 1), skipped, note: 'see above' };
}

/** The instruction sets below the best one, which a plain run does not reach. A processor without AVX2 repeats its best one. */
function lowerInstructionSets() {
  return process.arch === 'x64' ? ['avx2', 'portable'] : ['portable'];
}

function jest() {
  const file = join(root, 'target', 'evenkeel', 'jest.json');
  mkdirSync(join(root, 'target', 'evenkeel'), { recursive: true });
  rmSync(file, { force: true });
  run(process.execPath, [join('node_modules', 'jest', 'bin', 'jest.js'), '--ci', '--json', `--outputFile=${file}`], {
    env: plain,
  });
  const result = JSON.parse(readFileSync(file, 'utf8'));
  return {
    passed: result.numPassedTests,
    // A file that does not even load has no tests to count.
    failed: result.numFailedTests + result.numRuntimeErrorTestSuites,
    skipped: result.numPendingTests + result.numTodoTests,
  };
}

const report = new Report();
const built = report.step('build', () => {
  ensureBuilt();
  return {};
});
report.step('cargo fmt', () => cargoCheck('rustfmt', ['fmt', '--all', '--check']));
report.step('cargo clippy', () =>
  cargoCheck('clippy', [
    'clippy',
    '--locked',
    '--workspace',
    '--exclude',
    'evenkeel-node',
    '--all-targets',
    ...denyWarnings,
  ]),
);
// Not with --all-targets: a test build of this crate registers nothing with Node.js, so that everything in it looks unused.
report.step('cargo clippy, the addon', () =>
  cargoCheck('clippy', ['clippy', '--locked', '--package', 'evenkeel-node', ...denyWarnings]),
);
report.step('cargo test', () => cargoTest(rustTests, {}));
report.step('cargo test, the addon', () => cargoTest(['test', '--locked', '--package', 'evenkeel-node', '--lib'], {}));
for (const level of lowerInstructionSets()) {
  report.step(`cargo test on ${level}`, () => cargoTest([...rustTests, '--lib', '--tests'], { EVENKEEL_ISA: level }));
}
if (built) {
  report.step('tsc', () => tool('typescript/bin/tsc', ['--noEmit']));
  report.step('biome', () => tool('@biomejs/biome/bin/biome', ['ci', '--colors=off', '.']));
  report.step('jest', jest);
}
process.stdout.write(`\n${report}\n`);
process.exitCode = report.succeeded ? 0 : 1;
