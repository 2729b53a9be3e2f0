import { nn } from '../../src';

function statisticsOf(values: readonly number[]): nn.ChannelStatistics {
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length);
  return { count: values.length, mean: [mean], variance: [variance] };
}

describe('mergeStatistics', () => {
  it.each([0, 1e6])('gives the statistics of the whole for parts of unequal size, shifted by %d', (shift) => {
    const values = Array.from({ length: 23 }, (_, index) => Math.sin(index * 12.9898) + shift);
    const parts = [values.slice(0, 1), values.slice(1, 8), [], values.slice(8)].map(statisticsOf);
    const [merged, whole] = [nn.mergeStatistics(parts), statisticsOf(values)];
    expect(merged.count).toBe(23);
    expect(merged.mean[0]).toBeCloseTo(whole.mean[0]!, 8);
    expect(merged.variance[0]).toBeCloseTo(whole.variance[0]!, 8);
  });

  it('refuses what has no statistics', () => {
    expect(() => nn.mergeStatistics([])).toThrow(/at least one/);
    expect(() => nn.mergeStatistics([statisticsOf([])])).toThrow(/empty/);
    expect(() => nn.mergeStatistics([{ count: 1, mean: [0], variance: [] }])).toThrow(/expected 1/);
    expect(() => nn.mergeStatistics([{ count: -1, mean: [0], variance: [0] }])).toThrow(/count/);
  });
});
