import { argmax, FindingsCollector, MetricTotals, softmaxRow } from '../../src/training/metrics';

test('loss is averaged over examples, not over batches', () => {
  const totals = new MetricTotals();
  totals.add(1, [1, 0, 0, 1, 0, 1], [0, 1, 1]);
  totals.add(3, [0, 1], [0]);
  expect(totals.values()).toEqual({ examples: 4, loss: 1.5, top1: 0.75 });
});

test('top-5 appears from six classes on and counts ranks', () => {
  const totals = new MetricTotals();
  const logits = [6, 5, 4, 3, 2, 1];
  totals.add(0, [...logits, ...logits, ...logits], [0, 4, 5]);
  expect(totals.values()).toMatchObject({ top1: 1 / 3, top5: 2 / 3 });
});

test('of equal outputs the first class wins, in rank and in argmax', () => {
  const totals = new MetricTotals();
  totals.add(0, [1, 1, 1, 1], [0, 1]);
  expect(totals.values().top1).toBe(0.5);
  expect(argmax([0, 2, 2, 1], 0, 4)).toBe(1);
});

test('NaN outputs and labels out of range are never right', () => {
  const totals = new MetricTotals();
  totals.add(0, [NaN, NaN, 1, NaN, 1, 0], [0, 0, 7]);
  expect(totals.values().top1).toBe(0);
});

test('sums survive a round trip through JSON exactly', () => {
  const totals = new MetricTotals();
  totals.add(0.1 + 0.2, [1, 0, 0, 1, 0, 1], [0, 1, 1]);
  const copy = new MetricTotals();
  copy.loadState(JSON.parse(JSON.stringify(totals.state())));
  totals.add(1e-9, [0, 1], [1]);
  copy.add(1e-9, [0, 1], [1]);
  expect(copy.values()).toEqual(totals.values());
});

test('an empty batch changes nothing', () => {
  const totals = new MetricTotals();
  totals.add(NaN, [], []);
  totals.add(2, [1, 0], [0]);
  expect(totals.values()).toEqual({ examples: 1, loss: 2, top1: 1 });
});

test('findings count confusions and keep the most confident mistakes with their positions', () => {
  const collector = new FindingsCollector(2, 2);
  collector.add([5, 0, 0, 1], [0, 0]);
  collector.add([9, 0, 2, 0, 0, 3], [1, 1, 1]);
  const { confusion, mistakes } = collector.findings();
  expect(confusion).toEqual([
    [1, 1],
    [2, 1],
  ]);
  expect(mistakes.map(({ index, label, predicted }) => [index, label, predicted])).toEqual([
    [2, 1, 0],
    [3, 1, 0],
  ]);
  expect(mistakes[0]!.confidence).toBeCloseTo(1 / (1 + Math.exp(-9)), 12);
});

test('softmax of large outputs does not overflow', () => {
  expect(softmaxRow([1000, 1000], 0, 2)).toEqual([0.5, 0.5]);
});
