import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { main } from '../../src/cli/main';
import { read } from '../../src/training/checkpoint';

let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'evenkeel-binary-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the command line inside this process. */
async function evenkeel(...args: string[]) {
  const texts = { out: '', error: '' };
  const writer = (key: 'out' | 'error') => ({
    write(text: string) {
      texts[key] += text;
    },
  });
  const code = await main(args, { out: writer('out'), error: writer('error') });
  return { code, ...texts };
}

const DATA = ['--data', 'digits', '--train-limit', '96', '--batch-size', '16', '--epochs', '2', '--no-augment'];
const NETWORK = ['--model', 'reactnet20', '--width', '3'];

const RECIPE = [
  ...['--norm', 'bn-free', '--optimizer', 'adam', '--lr', '0.001', '--schedule', 'linear', '--warmup', '0'],
  ...['--label-smoothing', '0'],
];

const train = (run: string, ...more: string[]) =>
  evenkeel('train-binary', ...DATA, ...NETWORK, '--out', folder, '--run', run, ...more);

/** The weights of a checkpoint by name. */
async function weights(...path: string[]): Promise<Record<string, readonly number[]>> {
  const { model } = await read(join(folder, ...path));
  return Object.fromEntries([...model].map(([name, { values }]) => [name, [...values]]));
}

/** The flip ratios of the epochs. */
function flips(...path: string[]): (string | undefined)[] {
  const [heading, ...rows] = readFileSync(join(folder, ...path, 'metrics.csv'), 'utf8')
    .trim()
    .split('\n');
  const column = heading?.split(',').indexOf('flip_ratio') ?? -1;
  return rows.map((row) => row.split(',')[column]);
}

const config = (...path: string[]) => JSON.parse(readFileSync(join(folder, ...path, 'config.json'), 'utf8'));

describe('evenkeel train-binary', () => {
  test('shows the defaults of its recipe, not those of train', async () => {
    const { out } = await evenkeel('train-binary', '--help');
    const text = out.replace(/\s+/g, ' ');
    for (const value of ['cifar10', 'reactnet20', 'bn-free', 'adam', '0.001', '0.00001', 'linear']) {
      expect(text).toContain(` Default ${value}. --`);
    }
    expect(text).toMatch(/--warmup EPOCHS [^-]* Default 0\. --label-smoothing N [^-]* Default 0\. --/);
    expect(text).not.toMatch(/Default (digits|batch|sgd|cosine)/);
  });

  test('trains two steps with the recipe of each', async () => {
    expect((await train('whole')).code).toBe(0);
    expect(config('whole', 'step1')).toMatchObject({
      modelOptions: { weights: 'float' },
      norm: 'bn-free',
      weightDecay: 1e-5,
      optimizer: 'adam',
      schedule: 'linear',
      warmupEpochs: 0,
    });
    expect(config('whole', 'step2')).toMatchObject({
      modelOptions: { weights: 'binary' },
      weightDecay: 0,
      initialWeights: join(folder, 'whole', 'step1', 'best.safetensors'),
    });
    const [first, second] = [
      await weights('whole', 'step1', 'best.safetensors'),
      await weights('whole', 'step2', 'last.safetensors'),
    ];
    expect(Object.keys(second)).toEqual(Object.keys(first));
    expect(second).not.toEqual(first);
    const { code, out } = await evenkeel('eval', join(folder, 'whole', 'step2'), '--json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toHaveProperty('top1');
    // The folder of both steps is no run; whoever takes it for one is told which to give.
    const [step1, step2] = ['step1', 'step2'].map((step) => join(folder, 'whole', step));
    expect((await evenkeel('eval', join(folder, 'whole'))).error).toContain(`give ${step2}.`);
    expect((await evenkeel('compare', join(folder, 'whole'))).error).toContain(`give ${step1} or ${step2}`);
  });

  test('goes on bit for bit after a stop in either step', async () => {
    expect((await train('parts', '--max-steps', '5')).code).toBe(0);
    // The two steps are two runs of evenkeel train with these options: here, the rest of the first and a part of the second.
    const parts = join(folder, 'parts');
    const single = (run: string, ...more: string[]) =>
      evenkeel('train', ...DATA, ...NETWORK, ...RECIPE, '--out', parts, '--run', run, ...more);
    const step1 = await single('step1', '--weight-decay', '1e-5', '--model-option', 'weights=float', '--resume');
    expect(step1.code).toBe(0);
    const best = join(parts, 'step1', 'best.safetensors');
    const begin = ['--weight-decay', '0', '--model-option', 'weights=binary', '--from', best];
    expect((await single('step2', ...begin, '--max-steps', '7')).code).toBe(0);
    expect((await train('parts', '--resume')).code).toBe(0);
    for (const step of ['step1', 'step2']) {
      expect(await weights('parts', step, 'last.safetensors')).toEqual(
        await weights('whole', step, 'last.safetensors'),
      );
      expect(flips('parts', step)).toEqual(flips('whole', step));
    }
    expect(flips('whole', 'step1')).toEqual(['', '']);
    expect(
      flips('whole', 'step2')
        .map(Number)
        .every((ratio) => ratio > 0 && ratio < 1),
    ).toBe(true);
  });

  test('begins both steps anew with --overwrite', async () => {
    const last = join(folder, 'parts', 'step2', 'last.safetensors');
    expect(existsSync(last)).toBe(true);
    expect((await train('parts', '--overwrite', '--max-steps', '5')).code).toBe(0);
    expect(existsSync(last)).toBe(false);
  });

  test('learns from a teacher, whose path is kept for resuming', async () => {
    const teacher = join(folder, 'teacher');
    const float = ['train', ...DATA, '--model', 'resnet-tiny', '--width', '2', '--out', folder, '--run', 'teacher'];
    expect((await evenkeel(...float)).code).toBe(0);
    expect((await train('student', '--teacher', teacher)).code).toBe(0);
    expect(config('student', 'step2')).toMatchObject({ teacher });
    expect(await weights('student', 'step1', 'last.safetensors')).not.toEqual(
      await weights('whole', 'step1', 'last.safetensors'),
    );
    const wrong = await train('student', '--resume');
    expect([wrong.code, wrong.error]).toEqual([2, expect.stringContaining('teacher was')]);
    const other = await evenkeel(
      'train',
      '--data',
      'cifar10',
      '--data-dir',
      folder,
      '--teacher',
      teacher,
      '--out',
      folder,
    );
    expect([other.code, other.error]).toEqual([2, expect.stringContaining('was trained on digits')]);
    const smooth = await train('smooth', '--teacher', teacher, '--label-smoothing', '0.1');
    expect([smooth.code, smooth.error]).toEqual([2, expect.stringContaining('no labels')]);
  });

  test('refuses weights that do not fit, with their names', async () => {
    const { code, error } = await evenkeel(
      ...['train', ...DATA, ...NETWORK, '--norm', 'batch', '--out', folder, '--run', 'other'],
      ...['--from', join(folder, 'whole', 'step1', 'best.safetensors')],
    );
    expect(code).toBe(1);
    expect(error).toContain('cannot start from');
    expect(error).toMatch(/missing: .*blocks\.0\.norm\.gamma/);
    expect(error).toMatch(/unexpected: .*blocks\.0\.conv\.gain/);
  });

  test('leaves the choice of weights to the steps', async () => {
    const { code, error } = await train('choice', '--model-option', 'weights=float');
    expect([code, error]).toEqual([2, expect.stringContaining('weights=float for step 1')]);
  });
});
