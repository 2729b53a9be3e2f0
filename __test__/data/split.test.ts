import { DataLoader, type Dataset, digits, fromArrays, split, subset, take } from '../../src/data';

/** Images of 1×2×1 whose label and pixels tell which image they are. */
function numbered(count: number, kind: 'bytes' | 'floats' = 'bytes'): Dataset {
  const values = Array.from({ length: count * 2 }, (_, index) => Math.floor(index / 2) * 2 + (index % 2));
  return fromArrays({
    images: kind === 'bytes' ? Uint8Array.from(values) : Float32Array.from(values),
    labels: Int32Array.from({ length: count }, (_, index) => index),
    shape: [1, 2, 1],
    mean: [3],
    std: [2],
    maximum: 1,
    split: 'train',
  });
}

function messageOf(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    return (error as Error).message;
  }
  return 'no error';
}

/** Whether each image still is that of its label. */
function intact({ images, labels }: Dataset): boolean {
  return labels.every((label, index) => images[2 * index] === 2 * label && images[2 * index + 1] === 2 * label + 1);
}

describe('subset', () => {
  it.each(['bytes', 'floats'] as const)('copies images at indices, of %s', (kind) => {
    const whole = numbered(5, kind);
    const part = subset(whole, [4, 0, 4]);
    expect(part).toMatchObject({ length: 3, classes: 5, mean: [3], std: [2], maximum: 1, split: 'train' });
    expect(Array.from(part.labels)).toEqual([4, 0, 4]);
    expect(Array.from(part.images)).toEqual([8, 9, 0, 1, 8, 9]);
    expect(part.images.constructor).toBe(whole.images.constructor);
    expect(Array.from(subset(whole, Uint32Array.of(2)).labels)).toEqual([2]);
  });

  it('refuses what are no indices', () => {
    const whole = numbered(3);
    expect(messageOf(() => subset(whole, [0, 3]))).toBe('subset: index 1 is 3; give whole numbers from 0 to 2');
    expect(messageOf(() => subset(whole, [-1]))).toContain('subset: index 0 is -1');
    expect(messageOf(() => subset(whole, [0.5]))).toContain('subset: index 0 is 0.5');
    expect(messageOf(() => subset(whole, ['1'] as never))).toContain("subset: index 0 is '1'");
    expect(messageOf(() => subset(whole, []))).toBe(
      'subset: indices are []; give an array of at least one whole number',
    );
    expect(messageOf(() => subset(whole, 2 as never))).toContain('subset: indices are 2;');
    expect(messageOf(() => subset(digits() as never, [0]))).toContain('; give one of its splits, such as .train');
    expect(messageOf(() => take(digits() as never, 1))).toContain('take: expected a data set');
  });
});

describe('split', () => {
  it('puts every image into one part', () => {
    const whole = numbered(101);
    const parts = split(whole, [0.7, 0.2, 0.1], { seed: 5 });
    expect(parts.map(({ length }) => length)).toEqual([71, 20, 10]);
    expect(parts.every(intact)).toBe(true);
    const labels = parts.flatMap((part) => Array.from(part.labels));
    expect([...labels].sort((a, b) => a - b)).toEqual(Array.from(whole.labels));
    expect(labels).not.toEqual(Array.from(whole.labels));
    for (const part of parts) expect(part).toMatchObject({ classes: 101, mean: [3], std: [2], split: 'train' });
  });

  it('follows from the seed', () => {
    const labels = (seed?: number) =>
      Array.from(split(numbered(50), [0.5, 0.5], seed === undefined ? {} : { seed })[0].labels);
    expect(labels(3)).toEqual(labels(3));
    expect(labels(3)).not.toEqual(labels(4));
    expect(labels()).toEqual(labels(0));
  });

  it('keeps the order where it is told to, and takes counts as shares', () => {
    const [first, second] = split(numbered(7), [5 / 7, 2 / 7], { shuffle: false });
    expect(Array.from(first.labels)).toEqual([0, 1, 2, 3, 4]);
    expect(Array.from(second.labels)).toEqual([5, 6]);
    expect(split(numbered(1), [1])[0].length).toBe(1);
  });

  it('gives what a loader takes', async () => {
    const [train, validation] = split(digits().train, [0.9, 0.1], { seed: 1 });
    expect([train.length, validation.length]).toEqual([1293, 144]);
    const loader = new DataLoader(validation, { batchSize: 100, normalize: false });
    const labels: number[] = [];
    let first: number[] = [];
    for await (const batch of loader) {
      if (labels.length === 0) first = Array.from(await batch.images.data()).slice(0, 64);
      labels.push(...(await batch.labels.data()));
    }
    expect(labels).toEqual(Array.from(validation.labels));
    expect(first).toEqual(Array.from(validation.images.subarray(0, 64), (value) => Math.fround(value / 16)));
  });

  it('refuses shares that are none', () => {
    const whole = numbered(10);
    expect(messageOf(() => split(whole, [8, 2]))).toBe(
      'split: shares are [8, 2]; give numbers above 0 that add up to 1, such as [0.9, 0.1] (counts divided by the 10 images there are, ' +
        'for counts)',
    );
    for (const shares of [[], [0.5, 0.4], [1, 0], [1.5, -0.5], ['0.5', '0.5'], 0.1, undefined]) {
      expect(messageOf(() => split(whole, shares as never))).toContain('split: shares are ');
    }
    expect(messageOf(() => split(whole, [0.99, 0.01]))).toBe(
      'split: part 1 with a share of 0.01 of 10 images has none; give it a larger share',
    );
    expect(messageOf(() => split(whole, [1], { seed: -1 }))).toContain('split: seed is -1');
    expect(messageOf(() => split(digits() as never, [1]))).toContain('split: expected a data set');
  });
});
