import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { main } from '../../src/cli/main';

jest.setTimeout(60_000);
const folder = mkdtempSync(join(tmpdir(), 'evenkeel-doctor-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function evenkeel(...args: string[]) {
  const written = { out: '', error: '' };
  const sink = (name: 'out' | 'error') => ({
    write(text: string) {
      written[name] += text;
    },
  });
  const code = await main(args, { out: sink('out'), error: sink('error') });
  return { code, ...written };
}

test('writes a table, advice and a page that needs nothing from outside', async () => {
  const html = join(folder, 'doctor.html');
  const { code, out } = await evenkeel(
    'doctor',
    '--model',
    'mlp',
    '--norm',
    'batch',
    '--batch-size',
    '8',
    '--html',
    html,
  );
  expect(code).toBe(0);
  expect(out).toMatch(/P1 %.*condition.*grad\/weight/);
  expect(out).toMatch(/warning: sample dependence: .*differ by .* %.*Advice: .*frn/);
  const page = readFileSync(html, 'utf8');
  expect(page).toContain('<svg');
  expect(page).toContain('sample dependence');
  expect(page).not.toMatch(/(src|href)=|https?:|@import|url\(/);
});

test('--json is one object, on a checkpoint too', async () => {
  const train = ['--model', 'mlp', '--norm', 'layer', '--epochs', '1', '--train-limit', '64'];
  expect((await evenkeel('train', ...train, '--out', folder, '--run', 'run')).code).toBe(0);
  const { code, out } = await evenkeel('doctor', join(folder, 'run'), '--batch-size', '16', '--json');
  expect(code).toBe(0);
  const found = JSON.parse(out);
  expect(found).toMatchObject({ model: 'mlp', norm: 'layer', data: 'digits', batchSize: 16 });
  expect(found.sampleDependence.maximumDifference).toBe(0);
  expect(found.layers.length).toBeGreaterThan(4);
  expect(found.checkpoint).toContain('.safetensors');
});

test.each<[string[], number, RegExp]>([
  [['run', '--model', 'mlp'], 2, /leave out --model/],
  [['a', 'b'], 2, /Unexpected argument b/],
  [['--batch-size', '0'], 2, /at least 1/],
  [['/nowhere/at/all'], 1, /no file or folder/],
])('doctor %j fails with %i', async (args, expected, message) => {
  const { code, error } = await evenkeel('doctor', ...args);
  expect(code).toBe(expected);
  expect(error).toMatch(message);
});
