import { inflateSync } from 'node:zlib';
import { niceTicks, renderChart, thin } from '../../src/training/report/chart';
import { frequentConfusions, renderConfusion } from '../../src/training/report/confusion';
import { encodePng } from '../../src/training/report/png';
import { type ReportContent, renderReport } from '../../src/training/report/report';
import type { EpochRow } from '../../src/training/run-directory';

const epochs: EpochRow[] = [1, 2, 3].map((epoch) => ({
  epoch,
  step: epoch * 57,
  learningRate: 0.1 / epoch,
  trainLoss: 2 / epoch,
  trainTop1: 0.3 * epoch,
  validationLoss: 2.5 / epoch,
  validationTop1: epoch === 2 ? 0.91 : 0.8,
  imagesPerSecond: 1000,
  seconds: 2,
}));

const content: ReportContent = {
  title: 'run <1> & "two"',
  status: 'finished',
  complete: true,
  epochs,
  steps: epochs.map(({ step, trainLoss, learningRate }) => ({ step, loss: trainLoss, learningRate })),
  configuration: { model: 'resnet20', batchSize: 4, labelSmoothing: 0.1, note: '</script><b>', nothing: undefined },
  layers: { heading: ['Layer', 'Kind', 'Output'], rows: [['stem', 'Conv2d', '[8, 8, 16]']], total: ['total', '', ''] },
  confusion: [
    [9, 1],
    [3, 7],
  ],
  classNames: ['cat & dog', 'ship'],
  mistakes: [
    {
      index: 5,
      label: 0,
      predicted: 1,
      confidence: 0.97,
      image: { width: 2, height: 1, channels: 1, pixels: new Uint8Array([0, 255]) },
    },
  ],
  footer: 'Evenkeel',
};

test('the report is one file that loads nothing from anywhere', () => {
  const html = renderReport(content);
  expect(html).not.toMatch(/https?:|\/\/[a-z]|url\(|@import|<link|<script[^>]*src|<iframe/i);
  const sources = [...html.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, source]) => source);
  expect(sources.length).toBe(1);
  expect(sources.every((source) => source?.startsWith('data:image/png;base64,'))).toBe(true);
});

test('the report shows the best epoch, every section, and escapes what users wrote', () => {
  const html = renderReport(content);
  expect(html).toContain('91.00 %');
  expect(html).toContain('in epoch 2 of 3');
  expect(html).toContain('run &lt;1&gt; &amp; &quot;two&quot;');
  expect(html).not.toContain('</script><b>');
  expect(html).toContain('label smoothing');
  expect(html).not.toContain('>nothing<');
  for (const heading of ['Loss', 'Accuracy', 'Learning rate', 'Confusion matrix', 'Accuracy by class', 'Epochs']) {
    expect(html).toContain(`${heading}<`);
  }
  expect(html.match(/<svg/g)).toHaveLength(5);
  for (const tag of ['div', 'section', 'figure', 'table', 'svg', 'script', 'main']) {
    expect(html.match(new RegExp(`<${tag}[ >]`, 'g'))?.length).toBe(html.match(new RegExp(`</${tag}>`, 'g'))?.length);
  }
});

test('a run without a single epoch has a report, too', () => {
  const empty: ReportContent = {
    title: 'x',
    status: 'interrupted',
    complete: false,
    epochs: [],
    steps: [],
    configuration: {},
    footer: '',
  };
  expect(renderReport(empty)).toContain('No epoch was finished');
  expect(renderReport(empty)).toContain('chip warn');
});

test('charts place values, carry them for hovering, and cannot end their script early', () => {
  const chart = renderChart({
    title: 'Loss',
    across: 'epoch',
    format: 'number',
    series: [
      {
        name: '</script>',
        colour: 'train',
        points: [
          [1, 4],
          [2, 2],
          [3, Number.NaN],
        ],
      },
      { name: 'empty', colour: 'validation', points: [] },
    ],
  });
  expect(chart.match(/<\/script>/g)).toHaveLength(1);
  const json = chart.slice(chart.indexOf('json">') + 6, chart.indexOf('</script>'));
  const { series } = JSON.parse(json);
  expect(series).toHaveLength(1);
  const [[, , x1, y1], [, , x2, y2]] = series[0].points;
  expect(x1).toBeLessThan(x2);
  expect(y1).toBeLessThan(y2);
  expect(renderChart({ title: '', across: '', format: 'number', series: [] })).toBe('');
});

test('ticks are round and cover the values', () => {
  expect(niceTicks(0, 1, 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
  expect(niceTicks(0.93, 0.97, 4)).toEqual([0.93, 0.94, 0.95, 0.96, 0.97]);
  expect(niceTicks(5, 5, 5)[0]).toBeLessThanOrEqual(5);
  expect(niceTicks(5, 5, 5).length).toBeGreaterThan(0);
});

test('long curves are averaged down', () => {
  const points = Array.from({ length: 4001 }, (_, index): [number, number] => [index, index]);
  const thinned = thin(points);
  expect(thinned.length).toBeLessThanOrEqual(400);
  expect(thinned[0]).toEqual([5, 5]);
});

test('confusions: counts as text for few classes, only occupied cells for many', () => {
  const few = renderConfusion(
    [
      [9, 1],
      [0, 7],
    ],
    ['a', 'b'],
  );
  expect(few.match(/<rect/g)).toHaveLength(4);
  expect(few).toContain('<title>a taken for b: 1 of 10</title>');
  const many = Array.from({ length: 100 }, (_, label) =>
    Array.from({ length: 100 }, (_, other) => (label === other ? 5 : 0)),
  );
  const names = many.map((_, label) => `class ${label}`);
  expect(renderConfusion(many, names).match(/<rect/g)).toHaveLength(100);
  expect(
    frequentConfusions(
      [
        [9, 1],
        [3, 7],
      ],
      5,
    ),
  ).toEqual([
    { label: 1, predicted: 0, examples: 3 },
    { label: 0, predicted: 1, examples: 1 },
  ]);
});

test('PNG: signature, sizes, filter bytes and pixels', () => {
  const png = encodePng({
    width: 2,
    height: 2,
    channels: 3,
    pixels: Uint8Array.from({ length: 12 }, (_, index) => index),
  });
  expect(png.subarray(1, 4).toString('latin1')).toBe('PNG');
  expect([png.readUInt32BE(16), png.readUInt32BE(20), png[24], png[25]]).toEqual([2, 2, 8, 2]);
  const start = png.indexOf('IDAT') + 4;
  const pixels = inflateSync(png.subarray(start, start + png.readUInt32BE(start - 8)));
  expect([...pixels]).toEqual([0, 0, 1, 2, 3, 4, 5, 0, 6, 7, 8, 9, 10, 11]);
});
