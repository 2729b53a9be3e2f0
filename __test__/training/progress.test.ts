import {
  formatDuration,
  formatInteger,
  formatNumber,
  formatPercent,
  formatScaled,
  formatSeconds,
  formatTable,
} from '../../src/training/format';
import { listenForSignals } from '../../src/training/interruption';
import { ProgressBar, type ProgressState, renderProgress } from '../../src/training/progress';

const state: ProgressState = {
  epoch: 3,
  epochs: 30,
  batch: 50,
  batches: 100,
  loss: 0.41234,
  top1: 0.9,
  imagesPerSecond: 4096.4,
  phase: 'train',
  secondsLeft: 83,
};

test('the bar fits its width at every width, and keeps the loss longest', () => {
  for (let width = 40; width <= 160; width += 1) {
    expect(renderProgress(state, width).length).toBeLessThanOrEqual(width);
  }
  const wide = renderProgress(state, 120);
  expect(wide).toMatch(
    /^epoch {2}3\/30 train ━+─+ {2}loss 0.4123 {2}accuracy 90.00 % {2}4,096 images\/s {2}1:23 left$/,
  );
  expect(wide.split('━')).toHaveLength(wide.split('─').length);
  expect(renderProgress(state, 50)).toContain('loss 0.4123');
  expect(renderProgress(state, 50)).not.toContain('images/s');
});

test('a terminal gets a bar that is not redrawn too often; a file gets whole lines only', () => {
  const written: string[] = [];
  let time = 0;
  const terminal = { write: (text: string) => written.push(text), isTTY: true, columns: 100 };
  const bar = new ProgressBar(terminal, () => time);
  bar.update(state);
  time = 10;
  bar.update(state);
  expect(written).toHaveLength(1);
  time = 200;
  bar.update(state);
  bar.line('done');
  expect(written.slice(1)).toEqual([expect.stringContaining('epoch'), '\r\u001b[K', 'done\n']);

  const plain: string[] = [];
  const quiet = new ProgressBar({ write: (text) => plain.push(text) });
  quiet.update(state);
  quiet.line('epoch 1');
  quiet.clear();
  expect(plain).toEqual(['epoch 1\n']);
});

test('formats', () => {
  expect([7, 185, 7384, NaN, -1].map(formatDuration)).toEqual(['0:07', '3:05', '2:03:04', '-:--', '0:00']);
  expect([0.04, 4.2, 59.96, 60].map(formatSeconds)).toEqual(['0.0 s', '4.2 s', '1:00', '1:00']);
  expect([0, 999, 1000, 1234567].map(formatInteger)).toEqual(['0', '999', '1,000', '1,234,567']);
  expect([12, 999, 1230, 40_600_000, 1.2e9].map(formatScaled)).toEqual(['12', '999', '1.23 k', '40.6 M', '1.20 G']);
  expect([0.975, undefined, NaN].map(formatPercent)).toEqual(['97.50 %', '-', '-']);
  expect([0.1, 1e-5, 123456, 0, undefined].map(formatNumber)).toEqual(['0.1', '1.000e-5', '1.235e+5', '0', '-']);
});

test('tables line numbers up to the right and words to the left', () => {
  const table = formatTable([
    ['layer', 'parameters'],
    ['conv', '1,000'],
    ['a', '7'],
  ]);
  expect(table.split('\n')).toEqual([
    'layer   parameters',
    '──────────────────',
    'conv         1,000',
    'a                7',
  ]);
});

test('the first signal asks, the second ends, and afterwards nobody listens', () => {
  const handlers = new Map<string, () => void>();
  const exits: unknown[] = [];
  const target = {
    on: (signal: string, handler: () => void) => handlers.set(signal, handler),
    off: (signal: string) => handlers.delete(signal),
    exit: (code: number) => exits.push(code),
  };
  const asked: string[] = [];
  const listener = listenForSignals((signal) => asked.push(signal), target as unknown as NodeJS.Process);
  handlers.get('SIGTERM')!();
  expect(asked).toEqual(['SIGTERM']);
  expect(exits).toEqual([]);
  handlers.get('SIGINT')!();
  expect(exits).toEqual([130]);
  expect(listener.received).toBe('SIGINT');
  listener.close();
  expect(handlers.size).toBe(0);
});
