import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { manualSeed, models, nn, randn, scope, type Tensor, tensor } from '../../../src';
import { digits } from '../../../src/data';
import { expandWeight, storeFloatWeights, toInt8 } from '../../../src/nn/binary/packed-weights';
import { fromFloat16Bits } from '../../../src/serialization/float16';
import { readSafetensorsHeader } from '../../../src/serialization/safetensors';

let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'evenkeel-packed-weights-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const types = ['float16', 'int8'] as const;
const output = (network: nn.Module<Tensor, Tensor>, images: Tensor) => scope(() => network.call(images).dataSync());

/** Weights of many magnitudes: f32s whose quotients by a scale fall everywhere, ties included. */
function weightsOf(outputs: number, rows: number): Float32Array {
  return Float32Array.from({ length: rows * outputs }, (_, index) => {
    const magnitude = 10 ** ((index % outputs) * 4 - 32);
    return Math.sin(index * 12.9898) * magnitude;
  });
}

describe('int8 weights', () => {
  test.each([1, 3, 7, 16, 17])('of %i outputs are no further than half a scale away', (outputs) => {
    for (const rows of [2, 15, 65]) {
      const weight = weightsOf(outputs, rows);
      const stored = toInt8(weight, outputs);
      const expanded = expandWeight(stored.weight, stored.weightScale);
      const used = new Set<number>();
      for (const [index, value] of weight.entries()) {
        const scale = stored.weightScale[index % outputs]!;
        expect(Math.abs(value - expanded[index]!)).toBeLessThanOrEqual(scale / 2);
        // Expanding rounds nothing.
        expect(expanded[index]).toBe(stored.weight[index]! * scale);
        if (Math.abs(stored.weight[index]!) === 127) used.add(index % outputs);
      }
      // The whole range is used: each output's largest weight is the largest integer.
      expect(used.size).toBe(outputs);
    }
  });

  test('are rounded to even, keep the sign of what they are, and are 0 where all are', () => {
    const weight = Float32Array.from(
      [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5, 127, 0.501].flatMap((x) => [x, 0]),
    );
    const { weight: stored, weightScale } = toInt8(weight, 2);
    expect([...weightScale]).toEqual([1, 0]);
    expect([...stored].filter((_, index) => index % 2 === 0)).toEqual([0, 2, 2, 0, -2, -2, 126, -126, 127, 1]);
    expect([...stored].filter((_, index) => index % 2 === 1).every((value) => value === 0)).toBe(true);
  });

  test('of the smallest numbers there are keep the bound', () => {
    const weight = Float32Array.of(1e-45, -3e-45, 7e-42, 1e-40);
    const { weight: stored, weightScale } = toInt8(weight, 1);
    for (const [index, value] of expandWeight(stored, weightScale).entries()) {
      expect(Math.abs(value - weight[index]!)).toBeLessThanOrEqual(weightScale[0]! / 2);
    }
  });
});

describe('a packed network with small float weights', () => {
  const build = (norm: 'batch' | 'bn-free') => {
    manualSeed(5);
    // Float shortcuts, a bias in the classifier, odd numbers of channels.
    return models.create('reactnet18', { norm, width: 7, classes: 5, modelOptions: { stem: 'cifar' } });
  };

  test.each(types)(
    'in %s is the same in memory as from its file, and the file as that of what was loaded',
    async (type) => {
      for (const norm of ['batch', 'bn-free'] as const) {
        const model = build(norm);
        const packed = nn.binary.pack(model, { imageShape: [16, 16, 3], floatWeights: type });
        const path = join(folder, `${type}.safetensors`);
        await packed.save(path);
        const loaded = await nn.binary.PackedNetwork.load(path);
        expect(loaded.graph).toEqual(packed.graph);
        expect(new Map([...loaded.arrays].sort())).toEqual(new Map([...packed.arrays].sort()));
        const images = randn([3, 16, 16, 3]);
        const result = output(packed, images);
        expect(output(loaded, images)).toEqual(result);
        const exact = nn.binary.pack(model, { imageShape: [16, 16, 3] });
        expect(output(exact, images)).not.toEqual(result);
        const again = join(folder, 'again.safetensors');
        await loaded.save(again);
        expect(readFileSync(again).equals(readFileSync(path))).toBe(true);
        const { tensors } = await readSafetensorsHeader(path);
        const dtypes = new Map(tensors.map(({ name, elementType }) => [name, elementType]));
        expect(dtypes.get('0.weight')).toBe(type === 'int8' ? 'I8' : 'F16');
        expect(dtypes.get('0.weightScale')).toBe(type === 'int8' ? 'F32' : undefined);
        for (const held of [packed, loaded, exact, model, images]) held.dispose();
      }
    },
  );

  test('has the nearest half to every weight, and the other numbers untouched', () => {
    const model = build('bn-free');
    const exact = nn.binary.pack(model, { imageShape: [16, 16, 3] });
    const packed = nn.binary.pack(model, { imageShape: [16, 16, 3], floatWeights: 'float16' });
    let halves = 0;
    for (const [name, values] of exact.arrays) {
      const stored = packed.arrays.get(name)!;
      if (!(stored instanceof Uint16Array)) {
        expect(stored).toEqual(values);
        continue;
      }
      halves += 1;
      for (const [index, value] of fromFloat16Bits(stored).entries()) {
        const error = Math.abs(value - values[index]!);
        expect(error).toBeLessThanOrEqual(Math.max(2 ** -25, 2 ** -11 * Math.abs(values[index]!)));
      }
    }
    // The stem, three shortcuts and the classifier.
    expect(halves).toBe(5);
    const reduced = packed.graph.steps.filter((step) => 'floatWeights' in step).map(({ kind }) => kind);
    expect(reduced).toEqual(['convolution', 'convolution', 'convolution', 'convolution', 'linear']);
    for (const held of [exact, packed, model]) held.dispose();
  });

  test('is told to people: the type of each layer and its bytes', () => {
    const model = build('bn-free');
    const packed = nn.binary.pack(model, { imageShape: [16, 16, 3], floatWeights: 'int8' });
    const rows = nn.binary.describePacked(packed.graph);
    const head = rows.find(({ kernel }) => kernel === 'float linear')!;
    // 56 by 5 weights, 5 scales, 5 biases.
    expect([head.weightType, head.bytes, head.floats]).toEqual(['int8', 56 * 5 + 4 * 5 + 4 * 5, 56 * 5 + 10]);
    expect(rows.find(({ kernel }) => kernel.startsWith('binary'))!.weightType).toBe('bits');
    const bytes = [...packed.arrays.values()].reduce((sum, values) => sum + values.byteLength, 0);
    expect(rows.reduce((sum, row) => sum + row.bytes, 0)).toBe(bytes);
    for (const held of [packed, model]) held.dispose();
  });

  test('leaves binary weights as they are, and single weights of an output in float', () => {
    const model = models.create('reactnet18', {
      norm: 'bn-free',
      width: 8,
      classes: 5,
      modelOptions: { stem: 'cifar', downsample: 'binary-weight' },
    });
    const packed = nn.binary.pack(model, { imageShape: [16, 16, 3], floatWeights: 'int8' });
    const shortcuts = packed.graph.steps.filter((step) => step.kind === 'convolution' && step.binaryWeights);
    expect(shortcuts).toHaveLength(3);
    expect(shortcuts.some((step) => 'floatWeights' in step)).toBe(false);
    const single = nn.binary.pack(
      new nn.Sequential([new nn.Conv2d({ inChannels: 1, outChannels: 3, kernelSize: 1 })]),
      { imageShape: [4, 4, 1], floatWeights: 'int8' },
    );
    expect(single.arrays.get('0.weight')).toBeInstanceOf(Float32Array);
    for (const held of [packed, single, model]) held.dispose();
  });

  test.each([
    ['float16', 65_520, 'INVALID_ARGUMENT', /classifier \(Linear\) is 65520, too large for float16/],
    ['int8', Math.fround(3.4028234e38), 'INVALID_ARGUMENT', /too large for int8/],
    ['float16', Number.NaN, 'NON_FINITE', /weight 3 of module classifier .*is NaN/],
    ['int8', Number.NEGATIVE_INFINITY, 'NON_FINITE', /is -Infinity/],
  ] as const)('%s refuses the weight %d', (floatWeights, value, code, message) => {
    const model = build('bn-free');
    const weight = model.stateDict().get('classifier.weight')!;
    const values = weight.dataSync().slice() as Float32Array;
    values[3] = value;
    weight.copyFrom(values);
    const pack = () => nn.binary.pack(model, { imageShape: [16, 16, 3], floatWeights });
    expect(pack).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
    model.dispose();
  });

  test('of another type is refused by name', () => {
    const model = build('bn-free');
    expect(() => nn.binary.pack(model, { floatWeights: 'int4' as 'int8' })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(/"int4".*float16, int8/) }),
    );
    model.dispose();
  });
});

test.each(['reactnet18', 'birealnet18', 'xnornet18'])(
  '%s with 1000 classes is 20 times smaller than in float',
  async (name) => {
    for (const norm of ['batch', 'bn-free'] as const) {
      const model = models.create(name, { norm, classes: 1000, modelOptions: { stem: 'imagenet' } });
      const packed = nn.binary.pack(model, { floatWeights: 'int8' });
      const path = join(folder, `${name}.safetensors`);
      await packed.save(path);
      const floatBytes = [...model.stateDict().values()].reduce((sum, held) => sum + held.byteLength, 0);
      expect(floatBytes).toBeGreaterThan(46e6);
      expect(floatBytes / statSync(path).size).toBeGreaterThanOrEqual(20);
      for (const held of [packed, model]) held.dispose();
    }
  },
);

test.each([
  ['float16', 0.99],
  ['int8', 0.98],
] as const)('a trained network that reads digits keeps its answers in %s', async (type, share) => {
  const exact = await nn.binary.PackedNetwork.load('examples/packed/digits.packed.safetensors');
  const { graph, arrays } = storeFloatWeights(exact.graph, exact.arrays, type);
  const small = new nn.binary.PackedNetwork(graph, arrays);
  const { test: images } = digits();
  const pixels = Float32Array.from(
    images.images,
    (value) => (value / images.maximum - images.mean[0]!) / images.std[0]!,
  );
  const input = tensor(pixels, { shape: [images.length, 8, 8, 1] });
  const [wanted, found] = [await exact.predict(input), await small.predict(input)];
  const same = found.filter((label, index) => label === wanted[index]).length / images.length;
  const right = (labels: readonly number[]) =>
    labels.filter((label, index) => label === images.labels[index]).length / images.length;
  expect(same).toBeGreaterThanOrEqual(share);
  expect(right(found)).toBeGreaterThan(right(wanted) - 0.01);
  for (const held of [input, exact, small]) held.dispose();
});
