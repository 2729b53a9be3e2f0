import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { main } from '../../src/cli/main';
import { groupRuns, impliedSettings, readRuns } from '../../src/experiments/compare-runs';
import { comparisonChart } from '../../src/experiments/comparison-chart';

let folder: string;

async function makeRun(
  name: string,
  norm: string,
  batchSize: number,
  seed: number,
  accuracies: number[],
  options: object = {},
): Promise<string> {
  const path = join(folder, name);
  await mkdir(path);
  const config = { model: 'resnet20', norm, batchSize, learningRate: 0.1, seed, ...options };
  await writeFile(join(path, 'config.json'), JSON.stringify(config));
  const header =
    'epoch,step,learning_rate,train_loss,train_top1,train_top5,validation_loss,validation_top1,validation_top5,images_per_second,seconds';
  const rows = accuracies.map((accuracy, index) => `${index + 1},${10 * (index + 1)},0.1,1,0.5,,1,${accuracy},,1000,1`);
  await writeFile(join(path, 'metrics.csv'), `${[header, ...rows].join('\n')}\n`);
  return path;
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'evenkeel-compare-'));
});

afterEach(() => rm(folder, { recursive: true }));

it('puts seeds together, with their mean and sample deviation', async () => {
  const paths = [
    await makeRun('a', 'frn', 4, 1, [0.3, 0.6]),
    await makeRun('b', 'frn', 4, 2, [0.8, 0.7]),
    await makeRun('c', 'batch', 4, 1, [0.2, 0.5]),
    await makeRun('d', 'batch', 128, 1, [0.2, 0.9]),
  ];
  const groups = groupRuns(await readRuns(paths));
  expect(groups.map(({ norm, batchSize, runs }) => [norm, batchSize, runs.length])).toEqual([
    ['batch', 128, 1],
    ['frn', 4, 2],
    ['batch', 4, 1],
  ]);
  expect(groups[1]?.mean).toBeCloseTo(0.65, 12);
  expect(groups[1]?.deviation).toBeCloseTo(Math.sqrt(0.005), 12);
  expect(groups[1]?.runs[1]?.bestTop1).toBe(0.8);
  const picture = comparisonChart(groups, 'a < b');
  expect(picture.match(/<polyline/g)).toHaveLength(3);
  expect(picture).toContain('a &lt; b');
  expect(picture).toContain('frn 65.0 %');
});

it('names runs by the options in which they differ, and only those', async () => {
  const modelOptions = { weights: 'binary' };
  const arm = (name: string, seed: number, normOptions?: object) =>
    makeRun(name, 'bn-free', 4, seed, [0.5], { modelOptions, ...(normOptions === undefined ? {} : { normOptions }) });
  const paths = [
    await arm('a', 1),
    await arm('b', 2),
    await arm('c', 1, { clipping: 0 }),
    await arm('d', 1, { alpha: 1, beta: 'none' }),
    await makeRun('e', 'batch', 4, 1, [0.5], { modelOptions }),
  ];
  const groups = groupRuns(await readRuns(paths));
  expect(Object.fromEntries(groups.map(({ label, runs }) => [label, runs.length]))).toEqual({
    batch: 1,
    'bn-free': 2,
    'bn-free alpha=1 beta=none': 1,
    'bn-free clipping=0': 1,
  });
  expect(comparisonChart(groups, 'arms')).toContain('bn-free alpha=1 beta=none 50.0 %');
  const other = await makeRun('f', 'batch', 4, 1, [0.5], { model: 'mlp' });
  const models = groupRuns(await readRuns([paths[4] ?? '', other]));
  expect(models.map(({ label }) => label).sort()).toEqual(['mlp batch', 'resnet20 batch weights=binary']);
});

it('keeps runs apart that differ in any setting but the seed', async () => {
  const common = { data: 'cifar10', epochs: 30, momentum: 0.9, evaluationBatchSize: 256, initialWeights: 'a/best' };
  const paths = [
    await makeRun('a', 'frn', 4, 1, [0.5], common),
    await makeRun('b', 'frn', 4, 2, [0.5], { ...common, evaluationBatchSize: 128, initialWeights: 'b/best' }),
    await makeRun('c', 'frn', 4, 1, [0.5], { ...common, epochs: 2 }),
    await makeRun('d', 'frn', 4, 1, [0.5], { ...common, trainLimit: 100 }),
    await makeRun('e', 'frn', 4, 1, [0.5], { ...common, normOptions: { momentum: 0.9 } }),
  ];
  const groups = groupRuns(await readRuns(paths));
  expect(Object.fromEntries(groups.map(({ label, runs }) => [label, runs.length]))).toEqual({
    'frn epochs=30': 2,
    'frn epochs=2': 1,
    'frn epochs=30 trainLimit=100': 1,
    'frn epochs=30 momentum=0.9': 1,
  });
});

it('names only one of the settings that change together, and lists the others', async () => {
  const digits = { data: 'digits', epochs: 30, weightDecay: 0.002, schedule: 'cosine' };
  const cifar = { data: 'cifar10', epochs: 9, weightDecay: 0.0005, schedule: 'cosine' };
  const paths = [
    await makeRun('a', 'frn', 4, 1, [0.3], digits),
    await makeRun('b', 'batch', 4, 1, [0.4], digits),
    await makeRun('c', 'frn', 4, 1, [0.2], cifar),
  ];
  const runs = await readRuns(paths);
  expect(groupRuns(runs).map(({ label }) => label)).toEqual([
    'batch data=digits',
    'frn data=digits',
    'frn data=cifar10',
  ]);
  expect(impliedSettings(runs)).toEqual(['epochs', 'weightDecay']);
  let out = '';
  await main(['compare', ...paths], { out: { write: (text: string) => (out += text) }, error: { write: () => true } });
  expect(out).toContain('The rows also differ in epochs, weightDecay: see config.json of the runs.');

  // A norm is what is compared: what changes with it is always shown.
  const unfair = await readRuns(paths.slice(1));
  expect(groupRuns(unfair).map(({ label }) => label)).toEqual(['batch data=digits', 'frn data=cifar10']);
  expect(impliedSettings(unfair)).toEqual(['epochs', 'weightDecay']);
});

it('says where a row counts a seed more than once', async () => {
  const [a, b, c] = await Promise.all([1, 1, 2].map((seed, index) => makeRun(`s${index}`, 'frn', 4, seed, [0.5])));
  const compare = async (...paths: string[]) => {
    let out = '';
    await main(['compare', ...paths], {
      out: { write: (text: string) => (out += text) },
      error: { write: () => true },
    });
    return out;
  };
  expect(await compare(a ?? '', b ?? '')).toContain('Some rows count a seed more than once');
  expect(await compare(a ?? '', c ?? '')).not.toContain('more than once');
});

it('names a run by its folder where its configuration says nothing', async () => {
  const path = await makeRun('mine', 'frn', 4, 1, [0.25]);
  await writeFile(join(path, 'config.json'), '{}');
  const groups = groupRuns(await readRuns([path]));
  expect(groups.map(({ label }) => label)).toEqual(['mine']);
  const picture = comparisonChart(groups, 'one');
  expect(picture).toContain('mine 25.0 %');
  let out = '';
  await main(['compare', path], { out: { write: (text: string) => (out += text) }, error: { write: () => true } });
  expect(`${out}${picture}`).not.toMatch(/NaN|undefined/);
});

it('says which directory is no run and which has no epoch yet', async () => {
  await expect(readRuns([join(folder, 'none')])).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
  await expect(readRuns([await makeRun('new', 'frn', 4, 1, [])])).rejects.toMatchObject({ code: 'CORRUPT_FILE' });
});

it('is a command: a table, a picture, and an error without runs', async () => {
  let out = '';
  const console = { out: { write: (text: string) => (out += text) }, error: { write: () => true } };
  const run = await makeRun('a', 'frn', 4, 1, [0.3, 0.6]);
  const svg = join(folder, 'picture.svg');
  expect(await main(['compare', run, '--svg', svg], console)).toBe(0);
  expect(out).toContain('60.00');
  expect(out).toContain(svg);
  expect(await main(['compare'], console)).toBe(2);
});
