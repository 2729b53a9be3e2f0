import { ones, profile, scope } from '../../src/tensor';
import { attribute } from '../../src/tensor/profile';
import { allocate, run } from '../../src/tensor/tensor';

it('times commands by operation and layer and writes a trace', async () => {
  const layer = {};
  const taken = await profile(
    () =>
      scope(() => {
        const x = ones([1000]);
        attribute(layer, () => run('copy', [allocate('copy', [1000])], x));
        return 7;
      }),
    { layers: new Map([[layer, 'first']]) },
  );
  expect(taken.result).toBe(7);
  expect(taken.seconds).toBeGreaterThan(0);
  expect(taken.byOperation.map((row) => row.name).sort()).toEqual(['copy', 'fill']);
  const copy = taken.byOperation.find((row) => row.name === 'copy');
  expect(copy).toMatchObject({ calls: 1, peakBytes: 8000 });
  expect((copy?.gigabytes ?? 0) * (copy?.seconds ?? 0)).toBeCloseTo(8000 / 1e9, 12);
  expect(taken.byLayer.map((row) => row.name).sort()).toEqual(['(outside layers)', 'first']);
  expect(taken.byLayer.reduce((sum, row) => sum + row.share, 0)).toBeCloseTo(1, 6);
  const trace = JSON.parse(taken.toTrace()) as { traceEvents: { name: string; ph: string; ts: number; dur: number }[] };
  expect(trace.traceEvents.map((event) => event.name)).toEqual(['fill', 'copy']);
  expect(taken.toString()).toContain('first');
});

it('takes one profile at a time, and ends it when the work throws', async () => {
  await expect(
    profile(async () => {
      await expect(profile(() => 1)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      throw new Error('no');
    }),
  ).rejects.toThrow('no');
  expect((await profile(() => 2)).result).toBe(2);
});
