import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(__dirname, '..', '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');

it('shows the example that is in the examples folder', () => {
  const [, code] = /```ts\n([\s\S]*?)```/.exec(readme) ?? [];
  expect(code).toBe(readFileSync(join(root, 'examples', 'digits.ts'), 'utf8'));
});

it('shows a loop of its own that is in the examples folder', () => {
  const training = readFileSync(join(root, 'docs', 'training.md'), 'utf8');
  const [, code] = /## A loop of your own[\s\S]*?```ts\n([\s\S]*?)```/.exec(training) ?? [];
  expect(code).toBe(readFileSync(join(root, 'examples', 'own-loop.ts'), 'utf8'));
});

it.each(['digits', 'own-loop'])(
  'has an example that learns to read digits: %s',
  (name) => {
    // The examples import `evenkeel` as a user does, so this runs the built package.
    const output = execFileSync(process.execPath, ['-r', 'ts-node/register/transpile-only', `examples/${name}.ts`], {
      cwd: root,
      encoding: 'utf8',
    });
    expect(Number(/([\d.]+) % of the test digits/.exec(output)?.[1])).toBeGreaterThan(93);
  },
  120_000,
);
