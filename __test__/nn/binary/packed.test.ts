import {
  avgPool2d,
  concatenate,
  getThreads,
  globalAvgPool,
  manualSeed,
  memory,
  models,
  nn,
  noGrad,
  randn,
  scope,
  setThreads,
  slice,
  type Tensor,
} from '../../../src';

const names = ['xnornet18', 'birealnet18', 'reactnet18', 'reactnet20', 'reactnetA'] as const;

/** Statistics, shifts, slopes and gains away from where they start, so that nothing is folded that must not be. */
function disturb(model: nn.Module): void {
  for (const [name, held] of model.stateDict()) {
    if (held.rank !== 1) continue;
    const positive = /variance$/i.test(name);
    held.copyFrom(
      Float32Array.from({ length: held.size }, (_, index) => {
        const noise = Math.sin(index * 12.9898 + name.length * 78.233);
        return positive ? 1 + 0.5 * noise : (/gamma$|gain$/.test(name) ? 1 : 0) + 0.4 * noise;
      }),
    );
  }
}

function output(model: nn.Module, images: Tensor): Float32Array {
  return scope(() => noGrad(() => model.call(images).dataSync() as Float32Array));
}

type Network = nn.Module<Tensor, Tensor>;

/** A packed network's output and the model's, for the same images. */
function both(model: Network, shape: readonly [number, number, number, number]) {
  const [, ...imageShape] = shape;
  const packed = nn.binary.pack(model, { imageShape });
  const images = randn(shape);
  const outputs = { packed: output(packed, images), model: output(model.eval(), images) };
  images.dispose();
  return { ...outputs, network: packed };
}

describe('a packed network', () => {
  const cases = names.flatMap((name) => (['batch', 'bn-free', 'none'] as const).map((norm) => [name, norm] as const));
  test.each(cases)('%s with norm %s has the outputs of the model, bit for bit', (name, norm) => {
    manualSeed(7);
    const model = models.create(name, {
      norm,
      width: name === 'reactnetA' ? 8 : 12,
      classes: 7,
      modelOptions: { stem: 'cifar', ...(norm === 'batch' ? {} : { downsample: 'binary-weight' }) },
    });
    disturb(model);
    const { packed, model: wanted, network } = both(model, [3, 24, 20, 3]);
    expect(packed).toEqual(wanted);
    expect(new Set(packed).size).toBe(21);
    // Every binary convolution is one step, and nothing between two of them is left over.
    const convolutions = model.modules().filter((module) => module instanceof nn.BinaryConv2d).length;
    const kinds = network.graph.steps.map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === 'binary')).toHaveLength(convolutions);
    expect(kinds.filter((kind) => kind === 'add' || kind === 'concatenate')).toEqual([]);
    for (const held of [network, model]) held.dispose();
  });

  test("256 images of ImageNet's stem, of sizes it was not packed for, padding with +1 and −1", () => {
    for (const padding of ['plus', 'minus']) {
      manualSeed(8);
      const model = models.create('reactnet18', {
        norm: 'bn-free',
        width: 7,
        modelOptions: { stem: 'imagenet', padding, downsample: 'binary-weight' },
        classes: 5,
      });
      disturb(model);
      const packed = nn.binary.pack(model);
      for (const shape of [
        [256, 33, 39, 3],
        [1, 64, 40, 3],
        [0, 32, 32, 3],
      ] as const) {
        const images = randn(shape);
        expect(output(packed, images)).toEqual(output(model.eval(), images));
        images.dispose();
      }
      for (const held of [packed, model]) held.dispose();
    }
  });

  test('pooling comes before the normalization of the stem, unless a factor is negative', () => {
    for (const sign of [1, -1]) {
      manualSeed(11);
      const model = models.create('birealnet18', { norm: 'batch', width: 6, modelOptions: { stem: 'imagenet' } });
      disturb(model);
      const gamma = model.stateDict().get('stemNorm.gamma')!;
      gamma.copyFrom(Float32Array.from({ length: 6 }, (_, index) => (index === 2 ? sign * 0.5 : 0.5)));
      const { packed, model: wanted, network } = both(model, [2, 65, 70, 3]);
      expect(packed).toEqual(wanted);
      const kinds = network.graph.steps.map(({ kind }) => kind).slice(1, 3);
      expect(kinds).toEqual(sign === 1 ? ['maxPool', 'normalize'] : ['normalize', 'maxPool']);
      for (const held of [network, model]) held.dispose();
    }
  });

  test('any number of threads gives the same bits, and a single image those of its batch', async () => {
    const model = models.create('reactnet20', { norm: 'bn-free', width: 9 });
    disturb(model);
    const packed = nn.binary.pack(model);
    const images = randn([4, 16, 16, 3]);
    const [first] = [slice(images, { ends: [1] })];
    const threads = getThreads();
    try {
      const results = [1, 2, 3].map((count) => {
        setThreads(count);
        return output(packed, images);
      });
      expect(results[1]).toEqual(results[0]);
      expect(results[2]).toEqual(results[0]);
      expect(output(packed, first!)).toEqual(results[0]!.slice(0, 10));
      const labels = await packed.predict(images);
      const rows = labels.map((_, row) => [...results[0]!.subarray(10 * row, 10 * row + 10)]);
      expect(labels).toEqual(rows.map((row) => row.indexOf(Math.max(...row))));
    } finally {
      setThreads(threads);
    }
    for (const held of [packed, model, images, first!]) held.dispose();
  });
});

describe('chains of layers', () => {
  const conv = (inChannels: number, outChannels: number, options: Partial<nn.BinaryConv2dOptions> = {}) =>
    new nn.BinaryConv2d({ inChannels, outChannels, kernelSize: 3, padding: 1, ...options });

  test('without residuals signs come from integer thresholds, for slopes and scales of either sign', () => {
    manualSeed(9);
    const model = new nn.Sequential([
      conv(3, 17, { activation: 'rsign' }),
      new nn.BatchNorm({ channels: 17 }),
      new nn.RPReLU({ channels: 17 }),
      conv(17, 33, { activation: 'rsign', paddingValue: 'plus', stride: 2 }),
      new nn.BatchNorm({ channels: 33, activation: 'relu' }),
      conv(33, 8, { activation: 'rsign', standardize: true }),
      new nn.PReLU({ channels: 8 }),
      new nn.RSign({ channels: 8 }),
      conv(8, 9, { activation: 'none' }),
      new nn.ReLU(),
      new nn.MaxPool2d({ kernelSize: 2 }),
      new nn.Flatten(),
      new nn.BinaryLinear({ inFeatures: 36, outFeatures: 40 }),
      new nn.BatchNorm({ channels: 40 }),
      new nn.BinaryLinear({ inFeatures: 40, outFeatures: 6 }),
    ]);
    disturb(model);
    const { packed, model: wanted, network } = both(model, [5, 8, 8, 3]);
    expect(packed).toEqual(wanted);
    expect(new Set(packed).size).toBeGreaterThan(5);
    const bitsAlone = network.graph.steps.filter((step) => step.kind === 'binary' && step.output === undefined);
    expect(bitsAlone).toHaveLength(4);
    for (const held of [network, model]) held.dispose();
  });

  test('a value with two kinds of signs, two readers and a shortcut that is the branch again', () => {
    class Fork extends nn.Module {
      readonly a = conv(8, 8, { activation: 'rsign' });
      readonly b = conv(8, 8, { activation: 'rsign' });
      readonly c = conv(8, 16, { activation: 'rsign', stride: 2 });
      readonly head = new nn.Linear({ inFeatures: 16, outFeatures: 4 });
      override forward(x: Tensor): Tensor {
        const left = this.a.call(x).mul(0.3);
        const right = this.b.call(x.mul(0.7)).add(left);
        const twice = right.add(right).add(left);
        const down = this.c.call(twice.mul(1.3));
        const passed = avgPool2d(concatenate([left, right], -1), { kernelSize: 2 });
        return this.head.call(globalAvgPool(down.add(passed)));
      }
    }
    manualSeed(10);
    const model = new Fork();
    disturb(model);
    const { packed, model: wanted, network } = both(model, [3, 6, 6, 8]);
    expect(packed).toEqual(wanted);
    for (const held of [network, model]) held.dispose();
  });

  test("bits are those of the weights without their filter's mean", () => {
    const layer = new nn.BinaryConv2d({ inChannels: 64, outChannels: 4, kernelSize: 3, standardize: true });
    const values = Float32Array.from(
      { length: layer.weight.size },
      (_, index) => 0.1 + 0.1 * Math.abs(Math.sin(index)),
    );
    layer.weight.copyFrom(values);
    const packed = nn.binary.pack(layer, { imageShape: [5, 5, 64] });
    const bytes = packed.arrays.get('1.weight') as Uint8Array;
    for (let output = 0; output < 4; output += 1) {
      const filter = Array.from({ length: 576 }, (_, index) => values[4 * index + output]!);
      const mean = filter.reduce((sum, value) => sum + value, 0) / 576;
      const bits = filter.map((_, index) => (bytes[72 * output + (index >> 3)]! >> (index & 7)) & 1);
      expect(bits).toEqual(filter.map((value) => (value < mean ? 1 : 0)));
      expect(bits.filter((bit) => bit === 1).length / 576).toBeGreaterThan(0.3);
    }
    for (const held of [packed, layer]) held.dispose();
  });

  test('what a packed network does not know is refused by name, and the modes stay as they were', () => {
    const model = new nn.Sequential([conv(3, 8), new nn.GroupNorm({ channels: 8, groups: 2 })]);
    expect(() => nn.binary.pack(model, { imageShape: [6, 6, 3] })).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(/1 \(GroupNorm\)/) }),
    );
    expect(model.modules().every((module) => module.training)).toBe(true);
    const floats = models.create('reactnet20', { width: 4, modelOptions: { weights: 'float' } });
    expect(() => nn.binary.pack(floats)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(/blocks\.0\.conv/) }),
    );
    expect(() => nn.binary.pack(new nn.Sequential([new nn.ReLU()]))).toThrow(/imageShape/);
    const small = nn.binary.pack(conv(3, 8), { imageShape: [6, 6, 3] });
    const wrong = randn([1, 6, 6, 4]);
    expect(() => small.call(wrong)).toThrow(expect.objectContaining({ code: 'SHAPE_MISMATCH' }));
    for (const held of [model, floats, small, wrong]) held.dispose();
  });

  test('nothing is left behind', () => {
    const model = models.create('reactnet20', { width: 4 });
    const images = randn([1, 8, 8, 3]);
    const before = memory().liveTensors;
    const packed = nn.binary.pack(model);
    output(packed, images);
    packed.dispose();
    expect(memory().liveTensors).toBe(before);
    for (const held of [model, images]) held.dispose();
  });
});
