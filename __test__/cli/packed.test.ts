import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nn, tensor } from '../../src';
import { main } from '../../src/cli/main';
import { digits } from '../../src/data';

let folder = '';
let checkpoint = '';

async function evenkeel(...args: string[]) {
  let out = '';
  let error = '';
  const code = await main(args, {
    out: { write: (text) => (out += text) },
    error: { write: (text) => (error += text) },
  });
  return { code, out, error };
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'evenkeel-packed-'));
  checkpoint = join(folder, 'run');
  const network = ['--model', 'reactnet20', '--norm', 'batch', '--width', '4', '--epochs', '1', '--train-limit', '200'];
  const { code, error } = await evenkeel(
    'train',
    '--data',
    'digits',
    ...network,
    '--out',
    folder,
    '--run',
    'run',
    '--json',
  );
  expect([code, error]).toEqual([0, expect.any(String)]);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('a run is exported, shown and run on images, as the checkpoint sees them', async () => {
  const file = join(folder, 'digits.packed.safetensors');
  const exported = await evenkeel('export', '--packed', checkpoint, '--out', file, '--json');
  expect(exported.error).toBe('');
  const { bytes, floatBytes, binaryWeights } = JSON.parse(exported.out);
  expect(bytes).toBe(statSync(file).size);
  expect(binaryWeights).toBe(6 * 16 * 9 + (32 + 5 * 64) * 9 + (128 + 5 * 256) * 9);
  expect(floatBytes).toBeGreaterThan(4 * binaryWeights);

  const shown = await evenkeel('inspect', file);
  expect(shown.out).toMatch(/packed binary network/);
  expect(shown.out).toMatch(/binary 3×3 conv → norm → \+residual → rprelu → float, bits/);
  expect(shown.out).toMatch(/first layer: its input is the image/);
  expect(shown.out).toMatch(/classes: 0, 1, 2/);
  const { layers } = JSON.parse((await evenkeel('inspect', file, '--json')).out);
  expect(layers.at(-1).whyNotBinary).toMatch(/classifier/);

  const { test } = digits();
  const image = join(folder, 'image.raw');
  writeFileSync(image, Uint8Array.from(test.images.subarray(0, 64)));
  const [packed, float] = await Promise.all([
    evenkeel('predict', file, image, '--json'),
    evenkeel('predict', checkpoint, '--file', image, '--json'),
  ]);
  expect(packed.code).toBe(0);
  expect(packed.out).toBe(float.out);
  expect(JSON.parse(packed.out).image).toBe(image);
});

test('float weights are stored smaller when that is asked for', async () => {
  const sizes = [];
  for (const type of ['float32', 'float16', 'int8']) {
    const file = join(folder, `${type}.packed.safetensors`);
    const { out } = await evenkeel('export', '--packed', checkpoint, '--float-weights', type, '--out', file, '--json');
    expect(JSON.parse(out)).toMatchObject({ floatWeights: type, bytes: statSync(file).size });
    sizes.push(statSync(file).size);
    const shown = await evenkeel('inspect', file);
    expect(shown.out).toMatch(new RegExp(`float linear +\\[10\\] +${type}`));
  }
  // So few weights that the names of the scales outweigh what int8 saves over float16.
  expect(Math.max(...sizes.slice(1))).toBeLessThan(sizes[0]!);
  const wrong = await evenkeel('export', '--packed', checkpoint, '--float-weights', 'int4', '--out', 'x');
  expect([wrong.code, wrong.error]).toEqual([2, expect.stringMatching(/--float-weights is one of/)]);
});

test('wrong use says what to do', async () => {
  const file = join(folder, 'other.packed.safetensors');
  expect((await evenkeel('export', checkpoint, '--out', file)).error).toMatch(/--packed/);
  expect((await evenkeel('export', '--packed', checkpoint)).error).toMatch(/--out FILE/);
  await evenkeel('export', '--packed', checkpoint, '--out', file);
  const byIndex = await evenkeel('predict', file, '--index', '3');
  expect([byIndex.code, byIndex.error]).toEqual([2, expect.stringMatching(/no test data/)]);
  writeFileSync(file, readFileSync(file).subarray(0, 1000));
  const cut = await evenkeel('predict', file, 'x.raw', '--json');
  expect([cut.code, JSON.parse(cut.out).code]).toEqual([1, 'CORRUPT_FILE']);
});

test('the example of a packed network reads digits', async () => {
  const { out } = await evenkeel('predict', 'examples/packed/digits.packed.safetensors', 'examples/packed/seven.raw');
  expect(out).toMatch(/seven\.raw +7 /);
  const network = await nn.binary.PackedNetwork.load('examples/packed/digits.packed.safetensors');
  const { test: images } = digits();
  const pixels = Float32Array.from(
    images.images,
    (value) => (value / images.maximum - images.mean[0]!) / images.std[0]!,
  );
  const input = tensor(pixels, { shape: [images.length, 8, 8, 1] });
  const predicted = await network.predict(input);
  const right = predicted.filter((label, index) => label === images.labels[index]).length;
  expect(right / images.length).toBeCloseTo(0.9722, 3);
  input.dispose();
  network.dispose();
});
