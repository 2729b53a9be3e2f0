import { type Batch, DataLoader, type DataLoaderOptions, type Dataset, digits, fromArrays } from '../../src/data';
import { shuffled } from '../../src/data/shuffle';
import { memory, scope, setThreads, synchronize } from '../../src/tensor';
import { run } from '../../src/tensor/tensor';

/** Images of 2×3×1 whose pixels tell which image and pixel they are: 10 * image + pixel. */
function numbered(count: number): Dataset {
  return fromArrays({
    images: Uint8Array.from({ length: count * 6 }, (_, index) => 10 * Math.floor(index / 6) + (index % 6)),
    labels: Int32Array.from({ length: count }, (_, index) => index),
    shape: [2, 3, 1],
    mean: [0],
    std: [1],
    maximum: 1,
  });
}

interface Values {
  readonly images: readonly number[];
  readonly labels: readonly number[];
}

async function valuesOf({ images, labels }: Batch): Promise<Values> {
  const values = { images: Array.from(await images.data()), labels: Array.from(await labels.data()) };
  images.dispose();
  labels.dispose();
  return values;
}

async function epochOf(loader: DataLoader): Promise<Values[]> {
  const batches: Values[] = [];
  for await (const batch of loader) batches.push(await valuesOf(batch));
  return batches;
}

async function labelsOf(loader: DataLoader): Promise<number[]> {
  return (await epochOf(loader)).flatMap(({ labels }) => labels);
}

const augmented: DataLoaderOptions = {
  batchSize: 4,
  shuffle: true,
  seed: 2 ** 40 + 3,
  augment: { crop: 1, flip: true },
};

describe('DataLoader', () => {
  it('gives every image once, in order', async () => {
    const loader = new DataLoader(numbered(7), { batchSize: 3 });
    expect(loader.length).toBe(3);
    const batches = await epochOf(loader);
    expect(batches.map(({ labels }) => labels)).toEqual([[0, 1, 2], [3, 4, 5], [6]]);
    expect(batches[2]!.images).toEqual([60, 61, 62, 63, 64, 65]);
    expect(loader.epoch).toBe(1);
  });

  it('can leave out a last batch that is not full', async () => {
    const loader = new DataLoader(numbered(7), { batchSize: 3, dropLast: true });
    expect(loader.length).toBe(2);
    expect(await labelsOf(loader)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('shuffles by seed and epoch alone', async () => {
    const orders = async (seed: number, batchSize: number) => {
      const loader = new DataLoader(numbered(20), { batchSize, shuffle: true, seed });
      return [await labelsOf(loader), await labelsOf(loader)];
    };
    const [first, second] = await orders(1, 4);
    expect(first).not.toEqual(second);
    for (const order of [first!, second!]) {
      expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index));
    }
    expect(await orders(1, 7)).toEqual([first, second]);
    expect((await orders(2, 4))[0]).not.toEqual(first);
  });

  it('normalizes by the data set, by given numbers, or not at all', async () => {
    const images = Uint8Array.of(0, 51, 102, 255);
    const set = fromArrays({ images, labels: [0], shape: [1, 2, 2], mean: [0.2, 0.5], std: [0.5, 0.25] });
    const close = async (options: Partial<DataLoaderOptions>, expected: readonly number[]) => {
      const [batch] = await epochOf(new DataLoader(set, { batchSize: 1, ...options }));
      for (const [index, value] of expected.entries()) expect(batch!.images[index]).toBeCloseTo(value, 5);
    };
    await close({}, [-0.4, -1.2, 0.4, 2]);
    await close({ normalize: false }, [0, 0.2, 0.4, 1]);
    await close({ normalize: { mean: [0, 1], std: [1, 2] } }, [0, -0.4, 0.4, 0]);
  });

  it('gives the same augmented images in any batch, on any number of threads, and others in the next epoch', async () => {
    const byLabel = async (options: DataLoaderOptions) => {
      const loader = new DataLoader(numbered(20), options);
      const found = new Map<string, readonly number[]>();
      for (const epoch of [0, 1]) {
        for (const { images, labels } of await epochOf(loader)) {
          for (const [at, label] of labels.entries()) found.set(`${epoch}.${label}`, images.slice(at * 6, at * 6 + 6));
        }
      }
      return found;
    };
    const found = await byLabel(augmented);
    expect(found.size).toBe(40);
    setThreads(1);
    expect(await byLabel({ ...augmented, batchSize: 7, shuffle: false })).toEqual(found);
    setThreads(3);
    expect(await byLabel(augmented)).toEqual(found);
    const changed = Array.from(
      { length: 20 },
      (_, label) => `${found.get(`0.${label}`)}` !== `${found.get(`1.${label}`)}`,
    );
    expect(changed.filter(Boolean).length).toBeGreaterThan(10);
    // With a padding of 1, a shifted image is part of the original and black pixels.
    for (const [key, pixels] of found) {
      const label = Number(key.split('.')[1]);
      for (const pixel of pixels) {
        if (pixel !== 0) expect(Math.floor(pixel / 10)).toBe(label);
      }
    }
  });

  it('goes on in the middle of an epoch, bit for bit', async () => {
    const set = numbered(18);
    const straight = new DataLoader(set, augmented);
    const expected = [...(await epochOf(straight)), ...(await epochOf(straight))];
    const stopped = new DataLoader(set, augmented);
    const before: Values[] = [];
    let saved = '';
    for await (const batch of stopped) {
      before.push(await valuesOf(batch));
      if (before.length === 2) {
        saved = JSON.stringify(stopped.state());
        break;
      }
    }
    expect(JSON.parse(saved)).toMatchObject({ epoch: 0, position: 2 });
    const resumed = new DataLoader(set, augmented);
    resumed.loadState(JSON.parse(saved));
    expect([...before, ...(await epochOf(resumed)), ...(await epochOf(resumed))]).toEqual(expected);
    // The one that was left early goes on as well.
    expect(await epochOf(stopped)).toEqual(expected.slice(2, 5));
  });

  it('stands at the next epoch as soon as the last batch is handed out', async () => {
    const loader = new DataLoader(numbered(4), { batchSize: 2 });
    const states = [];
    for await (const batch of loader) {
      await valuesOf(batch);
      states.push([loader.state().epoch, loader.state().position]);
    }
    expect(states).toEqual([
      [0, 1],
      [1, 0],
    ]);
  });

  it('restarts, and ends an iteration when another begins', async () => {
    const loader = new DataLoader(numbered(6), { batchSize: 1 });
    const old = loader[Symbol.asyncIterator]();
    await valuesOf((await old.next()).value!);
    loader.restart();
    expect((await old.next()).done).toBe(true);
    expect(await labelsOf(loader)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('leaves no tensor behind, and no batch that was made ahead', async () => {
    const loader = new DataLoader(digits().train, { batchSize: 100, shuffle: true });
    const before = memory().liveTensors;
    for await (const { images, labels } of loader) {
      scope(() => images.dispose());
      labels.dispose();
      if (loader.state().position === 3) break;
    }
    await epochOf(loader);
    expect(memory().liveTensors).toBe(before);
  });

  it('reports the error of an update in place', async () => {
    const epoch = async () => {
      for await (const { images, labels } of new DataLoader(numbered(4), { batchSize: 1 })) {
        // An update whose operands do not fit, as a bug would make it.
        run('accumulate', [], images, labels);
        images.dispose();
        labels.dispose();
      }
    };
    await expect(epoch()).rejects.toMatchObject({ code: 'DTYPE_MISMATCH' });
    await synchronize().catch(() => undefined);
  });

  it.each<[string, () => unknown]>([
    ['batchSize 0', () => new DataLoader(numbered(4), { batchSize: 0 })],
    ['a negative seed', () => new DataLoader(numbered(4), { batchSize: 1, seed: -1 })],
    ['a crop beyond the image', () => new DataLoader(numbered(4), { batchSize: 1, augment: { crop: 3 } })],
    ['no whole batch', () => new DataLoader(numbered(4), { batchSize: 5, dropLast: true })],
    [
      'means of other channels',
      () => new DataLoader(numbered(4), { batchSize: 1, normalize: { mean: [0, 0], std: [1, 1] } }),
    ],
    ['std 0', () => new DataLoader(numbered(4), { batchSize: 1, normalize: { mean: [0], std: [0] } })],
    ['no state', () => new DataLoader(numbered(4), { batchSize: 1 }).loadState(null)],
    ['a position beyond', () => new DataLoader(numbered(4), { batchSize: 1 }).loadState({ epoch: 0, position: 4 })],
    ['half a position', () => new DataLoader(numbered(4), { batchSize: 1 }).loadState({ epoch: 0, position: 0.5 })],
    [
      "another loader's state",
      () =>
        new DataLoader(numbered(4), { batchSize: 1 }).loadState(new DataLoader(numbered(4), { batchSize: 2 }).state()),
    ],
  ])('refuses %s', (_what, body) => {
    expect(body).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});

describe('shuffled', () => {
  it('is uniform: every image comes first about equally often', () => {
    const counts = new Array<number>(8).fill(0);
    for (let epoch = 0; epoch < 8000; epoch++) counts[shuffled(8, 5, epoch)[0]!]!++;
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  it('stays the same for ever: resumed runs rely on it', () => {
    expect(Array.from(shuffled(10, 1, 0))).toEqual([4, 3, 5, 8, 6, 2, 9, 1, 0, 7]);
  });
});
