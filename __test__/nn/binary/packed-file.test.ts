import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { manualSeed, models, nn, randn, scope } from '../../../src';
import { PACKED_KEY } from '../../../src/nn/binary/packed-file';
import { type NamedValues, readSafetensors, writeSafetensors } from '../../../src/serialization/safetensors';

let folder = '';
let path = '';
let packed: nn.binary.PackedNetwork;
/** Float shortcuts and small float weights, in the files of these types. */
const types = ['int8', 'float16'] as const;
const pathOf = (type: (typeof types)[number]) => join(folder, `${type}.safetensors`);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'evenkeel-packed-'));
  path = join(folder, 'packed.safetensors');
  manualSeed(3);
  const modelOptions = { stem: 'cifar', downsample: 'binary-weight' };
  const model = models.create('reactnet20', { norm: 'batch', width: 5, classes: 3, modelOptions });
  packed = nn.binary.pack(model, {
    imageShape: [8, 8, 3],
    classNames: ['cat', 'dog', 'ship'],
    normalization: { maximum: 255, mean: [0.5, 0.5, 0.5], deviation: [0.2, 0.2, 0.2] },
  });
  await packed.save(path);
  for (const floatWeights of types) {
    const small = models.create('reactnet20', { norm: 'batch', width: 5, classes: 3, modelOptions: { stem: 'cifar' } });
    const network = nn.binary.pack(small, { imageShape: [8, 8, 3], floatWeights });
    await network.save(pathOf(floatWeights));
    for (const held of [small, network]) held.dispose();
  }
});

afterAll(() => {
  packed.dispose();
  rmSync(folder, { recursive: true, force: true });
});

// biome-ignore lint/suspicious/noExplicitAny: damage has no type
type Damage = any;

/** Writes the file again with its graph and tensors changed, checksums and offsets in order; returns the error of loading it. */
async function loadDamaged(
  damage: (graph: Damage, tensors: Map<string, NamedValues>) => void,
  from = path,
): Promise<unknown> {
  const { tensors, metadata } = await readSafetensors(from);
  const graph = JSON.parse(metadata.get(PACKED_KEY)!);
  const named = new Map(
    [...tensors].map(([name, { shape, values }]) => [name, { name, shape, values } as NamedValues] as const),
  );
  damage(graph, named);
  const other = join(folder, 'damaged.safetensors');
  const text = typeof graph.raw === 'string' ? graph.raw : JSON.stringify(graph);
  await writeSafetensors(other, named.values(), { [PACKED_KEY]: text });
  return failureOf(other);
}

async function failureOf(file: string): Promise<unknown> {
  try {
    const network = await nn.binary.PackedNetwork.load(file);
    network.dispose();
    return undefined;
  } catch (error) {
    return error;
  }
}

test('what was saved is loaded: the same graph, bits and scales, the same outputs, the same file', async () => {
  const loaded = await nn.binary.PackedNetwork.load(path);
  expect(loaded.graph).toEqual(packed.graph);
  expect([...loaded.arrays.keys()].sort()).toEqual([...packed.arrays.keys()].sort());
  for (const [name, values] of packed.arrays) expect(loaded.arrays.get(name)).toEqual(values);
  const images = randn([2, 8, 8, 3]);
  const [first, second] = [packed, loaded].map((network) => scope(() => network.call(images).dataSync()));
  expect(second).toEqual(first);
  const again = join(folder, 'again.safetensors');
  await loaded.save(again);
  expect(readFileSync(again)).toEqual(readFileSync(path));
  for (const held of [loaded, images]) held.dispose();
});

test('binary layers take a bit a weight and four bytes a number', async () => {
  const step = packed.graph.steps.find(({ kind }) => kind === 'binary') as Extract<
    nn.binary.PackedStep,
    { kind: 'binary' }
  >;
  const index = packed.graph.steps.indexOf(step);
  expect(packed.arrays.get(`${index}.weight`)!.byteLength).toBe(step.outChannels * 9 * Math.ceil(step.inChannels / 8));
  expect(packed.arrays.get(`${index}.scale`)!.byteLength).toBe(4 * step.outChannels);
});

test('ReActNet-18 is at least 20 times smaller than in float', async () => {
  const model = models.create('reactnet18', { norm: 'bn-free', classes: 10, modelOptions: { stem: 'cifar' } });
  const small = nn.binary.pack(model, { imageShape: [32, 32, 3] });
  const file = join(folder, 'reactnet18.safetensors');
  await small.save(file);
  const floatBytes = [...model.stateDict().values()].reduce((sum, held) => sum + held.byteLength, 0);
  expect(floatBytes / statSync(file).size).toBeGreaterThan(20);
  for (const held of [small, model]) held.dispose();
});

test.each(['float32', ...types] as const)('a %s file cut short anywhere is corrupt', async (type) => {
  const bytes = readFileSync(type === 'float32' ? path : pathOf(type));
  const header = Number(bytes.readBigUInt64LE()) + 8;
  const lengths = [0, 1, 7, 8, 9, 100, header - 1, header, header + 1, (header + bytes.length) >> 1, bytes.length - 1];
  const file = join(folder, 'cut.safetensors');
  for (const length of lengths) {
    writeFileSync(file, bytes.subarray(0, length));
    expect(await failureOf(file)).toMatchObject({ name: 'EvenkeelError', code: 'CORRUPT_FILE' });
  }
});

test.each(['float32', ...types] as const)('a flipped bit anywhere in a %s file is found', async (type) => {
  const bytes = readFileSync(type === 'float32' ? path : pathOf(type));
  const file = join(folder, 'flipped.safetensors');
  for (let at = 0; at < bytes.length; at += Math.ceil(bytes.length / 60)) {
    const flipped = Uint8Array.from(bytes);
    flipped[at] = flipped[at]! ^ 4;
    writeFileSync(file, flipped);
    expect(await failureOf(file)).toMatchObject({ name: 'EvenkeelError', code: 'CORRUPT_FILE' });
  }
});

const binaryAt = (graph: Damage) => graph.steps.findIndex((step: Damage) => step.kind === 'binary');
const hostile: readonly (readonly [string, (graph: Damage, tensors: Map<string, NamedValues>) => void])[] = [
  ['no JSON', (graph) => Object.assign(graph, { raw: '{"format":' })],
  ['a list', (graph) => Object.assign(graph, { raw: '[]' })],
  ['null', (graph) => Object.assign(graph, { raw: 'null' })],
  ['another format', (graph) => Object.assign(graph, { format: 'other' })],
  ['another version', (graph) => Object.assign(graph, { version: 2 })],
  ['an unknown field', (graph) => Object.assign(graph, { extra: 1 })],
  ['no steps', (graph) => Object.assign(graph, { steps: [] })],
  ['steps that are no list', (graph) => Object.assign(graph, { steps: { length: 1e9 } })],
  ['an unknown kind of step', (graph) => Object.assign(graph.steps[0], { kind: 'constructor' })],
  ['an unknown field of a step', (graph) => Object.assign(graph.steps[0], { path: '/etc/passwd' })],
  ['a step that reads itself', (graph) => Object.assign(graph.steps[0], { inputs: [1] })],
  ['a step that reads the future', (graph) => Object.assign(graph.steps[1], { inputs: [9] })],
  ['a negative value number', (graph) => Object.assign(graph.steps[0], { inputs: [-1] })],
  ['results out of order', (graph) => Object.assign(graph.steps[0], { output: 5 })],
  ['a result that nothing makes', (graph) => Object.assign(graph, { result: 1e6 })],
  ['images as result', (graph) => Object.assign(graph, { result: 0 })],
  ['a huge image', (graph) => Object.assign(graph, { imageShape: [1e9, 1e9, 3] })],
  ['no channels', (graph) => Object.assign(graph, { imageShape: [8, 8, 0] })],
  ['an image too small for the filters', (graph) => Object.assign(graph.steps[0], { padding: [0, 0], kernel: [9, 9] })],
  ['a stride of 0', (graph) => Object.assign(graph.steps[0], { stride: [0, 1] })],
  ['a kernel of half a pixel', (graph) => Object.assign(graph.steps[0], { kernel: [0.5, 3] })],
  ['channels that do not fit', (graph) => Object.assign(graph.steps[0], { inChannels: 4 })],
  ['more channels than bytes', (graph) => Object.assign(graph.steps[binaryAt(graph)], { outChannels: 6 })],
  ['a hostile number of channels', (graph) => Object.assign(graph.steps[binaryAt(graph)], { outChannels: 1 << 24 })],
  ['a number too large to count', (graph) => Object.assign(graph.steps[binaryAt(graph)], { outChannels: 2 ** 60 })],
  ['a factor that is no number', (graph) => Object.assign(graph.steps[binaryAt(graph)], { factor: '1' })],
  ['a factor beside a normalization', (graph) => Object.assign(graph.steps[binaryAt(graph)], { factor: 0.5 })],
  ['an unknown padding', (graph) => Object.assign(graph.steps[binaryAt(graph)], { paddingValue: 'one' })],
  ['groups that do not divide', (graph) => Object.assign(graph.steps[0], { groups: 2 })],
  ['too few class names', (graph) => graph.classNames.pop()],
  ['a class name that is no text', (graph) => Object.assign(graph.classNames, { 0: 7 })],
  ['a name that moves the cursor', (graph) => Object.assign(graph.steps[0], { module: '\u001b[2J' })],
  ['a deviation of 0', (graph) => Object.assign(graph.normalization.deviation, { 0: 0 })],
  ['a missing mean', (graph) => graph.normalization.mean.pop()],
  ['a missing tensor', (_, tensors) => tensors.delete('0.weight')],
  ['one tensor too many', (_, tensors) => tensors.set('x', { name: 'x', shape: [1], values: new Float32Array(1) })],
  [
    'a tensor of another type',
    (graph, tensors) => {
      const name = `${binaryAt(graph)}.scale`;
      tensors.set(name, { name, shape: [5], values: new Int32Array(5) });
    },
  ],
  [
    'a tensor of another shape',
    (graph, tensors) => {
      const name = `${binaryAt(graph)}.scale`;
      tensors.set(name, { name, shape: [5, 1], values: new Float32Array(5) });
    },
  ],
  ['a NaN', (graph, tensors) => tensors.get(`${binaryAt(graph)}.cut`)!.values.fill(Number.NaN)],
  [
    'an infinite scale',
    (graph, tensors) => tensors.get(`${binaryAt(graph)}.scale`)!.values.fill(Number.POSITIVE_INFINITY),
  ],
  ['bits past the last channel', (graph, tensors) => tensors.get(`${binaryAt(graph)}.weight`)!.values.fill(0x20, 0, 1)],
];

test.each(hostile)('%s is refused before anything is made of it', async (_, damage) => {
  const error = await loadDamaged(damage);
  expect(error).toMatchObject({ name: 'EvenkeelError', code: 'CORRUPT_FILE' });
  expect(String(error)).toMatch(/damaged/);
});

const linearAt = (graph: Damage) => graph.steps.findIndex((step: Damage) => step.kind === 'linear');
const set = (
  tensors: Map<string, NamedValues>,
  name: string,
  shape: readonly number[],
  values: NamedValues['values'],
) => tensors.set(name, { name, shape, values });
const hostileWeights: readonly (readonly [
  string,
  (typeof types)[number],
  (graph: Damage, tensors: Map<string, NamedValues>) => void,
])[] = [
  ['an unknown type of weights', 'int8', (graph) => Object.assign(graph.steps[0], { floatWeights: 'int4' })],
  ['a type of weights that is no text', 'int8', (graph) => Object.assign(graph.steps[0], { floatWeights: ['int8'] })],
  [
    'int8 weights in the place of halves',
    'int8',
    (graph) => Object.assign(graph.steps[0], { floatWeights: 'float16' }),
  ],
  [
    'halves in the place of int8 weights',
    'float16',
    (graph) => Object.assign(graph.steps[0], { floatWeights: 'int8' }),
  ],
  ['int8 weights in the place of floats', 'int8', (graph) => delete graph.steps[0].floatWeights],
  [
    'a type of weights for a step that has none',
    'int8',
    (graph) => Object.assign(graph.steps[binaryAt(graph)], { floatWeights: 'int8' }),
  ],
  ['weights of bits and int8', 'int8', (graph) => Object.assign(graph.steps[0], { binaryWeights: true })],
  ['missing scales', 'int8', (graph, tensors) => tensors.delete(`${linearAt(graph)}.weightScale`)],
  ['scales of halves', 'float16', (_, tensors) => set(tensors, '0.weightScale', [5], new Float32Array(5))],
  ['a scale too few', 'int8', (_, tensors) => set(tensors, '0.weightScale', [4], new Float32Array(4))],
  ['a scale too many', 'int8', (_, tensors) => set(tensors, '0.weightScale', [6], new Float32Array(6))],
  ['scales of int32', 'int8', (_, tensors) => set(tensors, '0.weightScale', [5], new Int32Array(5))],
  ['weights of bytes', 'int8', (_, tensors) => set(tensors, '0.weight', [3, 3, 3, 5], new Uint8Array(135))],
  ['weights of another shape', 'int8', (_, tensors) => set(tensors, '0.weight', [3, 3, 5, 3], new Int8Array(135))],
  ['a row of weights too few', 'float16', (_, tensors) => set(tensors, '0.weight', [3, 3, 2, 5], new Uint16Array(90))],
  ['a weight of -128', 'int8', (_, tensors) => tensors.get('0.weight')!.values.fill(-128, 7, 8)],
  ['a scale that is no number', 'int8', (_, tensors) => tensors.get('0.weightScale')!.values.fill(Number.NaN, 2, 3)],
  ['an infinite weight scale', 'int8', (_, tensors) => tensors.get('0.weightScale')!.values.fill(Infinity, 4)],
  ['a negative weight scale', 'int8', (_, tensors) => tensors.get('0.weightScale')!.values.fill(-0.5, 0, 1)],
  [
    'a scale that makes infinite weights',
    'int8',
    (_, tensors) => tensors.get('0.weightScale')!.values.fill(3e38, 0, 1),
  ],
  ['an infinite half', 'float16', (_, tensors) => tensors.get('0.weight')!.values.fill(0xfc00, 134)],
  ['a half that is no number', 'float16', (_, tensors) => tensors.get('0.weight')!.values.fill(0x7c01, 0, 1)],
  [
    'a hostile number of outputs',
    'int8',
    (graph) => Object.assign(graph.steps[linearAt(graph)], { outFeatures: 1 << 24 }),
  ],
];

test.each(hostileWeights)('%s (%s) is refused before anything is made of it', async (_, type, damage) => {
  const error = await loadDamaged(damage, pathOf(type));
  expect(error).toMatchObject({ name: 'EvenkeelError', code: 'CORRUPT_FILE' });
  expect(String(error)).toMatch(/damaged/);
});

test('the damage above is what is refused: untouched, the copies load', async () => {
  for (const file of [path, ...types.map(pathOf)]) expect(await loadDamaged(() => undefined, file)).toBeUndefined();
});

test('other safetensors files are no packed networks', async () => {
  const other = join(folder, 'other.safetensors');
  await writeSafetensors(other, [{ name: 'x', shape: [1], values: new Float32Array(1) }]);
  expect(await failureOf(other)).toMatchObject({ code: 'INVALID_ARGUMENT' });
  expect(await failureOf(join(folder, 'none'))).toMatchObject({ code: 'FILE_NOT_FOUND' });
});
