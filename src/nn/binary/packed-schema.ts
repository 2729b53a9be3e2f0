import { kernelWordCount } from './packed-bits';
import { type PackedGraph, type PackedStep, resultsOf, shapesBehind, tensorsOf, type ValueShape } from './packed-graph';

const FORMAT = 'evenkeel-packed';
const VERSION = 1;

/** The most that a size, a step or a count may be: larger ones are damage, and every product of a few of them is exact. */
const LARGEST = 1 << 24;
const MOST_STEPS = 100_000;
/** The most values that one step may expand to on the device. */
const MOST_VALUES = 2 ** 31;

type Fields = Readonly<Record<string, unknown>>;

/** Reads fields of JSON objects and fails with `fail` at the first that is not what it must be. */
class Reader {
  readonly #fail: (problem: string) => Error;

  constructor(fail: (problem: string) => Error) {
    this.#fail = fail;
  }

  fail(where: string, problem: string): never {
    throw this.#fail(`${where}: ${problem}`);
  }

  object(where: string, value: unknown, names: readonly string[]): Fields {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) this.fail(where, 'it is not an object');
    const unknown = Object.keys(value).find((name) => !names.includes(name));
    if (unknown !== undefined) this.fail(where, `there is no field ${JSON.stringify(unknown)}`);
    return value as Fields;
  }

  list(where: string, value: unknown, least: number, most: number): readonly unknown[] {
    if (!Array.isArray(value) || value.length < least || value.length > most) {
      this.fail(where, `it is not a list of ${least} to ${most} items`);
    }
    return value;
  }

  integer(where: string, value: unknown, least: number, most = LARGEST): number {
    if (!Number.isInteger(value) || (value as number) < least || (value as number) > most) {
      this.fail(where, `${JSON.stringify(value)} is not a whole number of ${least} to ${most}`);
    }
    return value as number;
  }

  number(where: string, value: unknown): number {
    if (typeof value !== 'number' || !Number.isFinite(value))
      this.fail(where, `${JSON.stringify(value)} is not a number`);
    return value;
  }

  flag(where: string, value: unknown): boolean {
    if (typeof value !== 'boolean') this.fail(where, `${JSON.stringify(value)} is not true or false`);
    return value;
  }

  text(where: string, value: unknown): string {
    // Control characters would reach the terminal of whoever inspects the file.
    if (typeof value !== 'string' || /\p{Cc}/u.test(value))
      this.fail(where, `${JSON.stringify(value)} is not a plain text`);
    return value;
  }

  choice<Name extends string>(where: string, value: unknown, names: readonly Name[]): Name {
    if (!names.includes(value as Name)) this.fail(where, `${JSON.stringify(value)} is none of ${names.join(', ')}`);
    return value as Name;
  }

  sizes(where: string, value: unknown, least: number): readonly [number, number] {
    const [a, b] = this.list(where, value, 2, 2);
    return [this.integer(where, a, least), this.integer(where, b, least)];
  }
}

const BASE = ['kind', 'module', 'inputs'];
const WINDOW = ['kernel', 'stride', 'padding'];
const FIELDS: Readonly<Record<PackedStep['kind'], readonly string[]>> = {
  convolution: [
    'output',
    ...WINDOW,
    'inChannels',
    'outChannels',
    'dilation',
    'groups',
    'binaryWeights',
    'floatWeights',
    'bias',
  ],
  linear: ['output', 'inFeatures', 'outFeatures', 'floatWeights', 'bias'],
  maxPool: ['output', ...WINDOW, 'ceilMode', 'countIncludePadding'],
  averagePool: ['output', ...WINDOW, 'ceilMode', 'countIncludePadding'],
  globalPool: ['output'],
  normalize: ['output', 'channels', 'activation'],
  scale: ['output', 'factor'],
  add: ['output', 'activation'],
  activation: ['output', 'channels', 'activation'],
  concatenate: ['output'],
  signs: ['signs', 'channels'],
  binary: [
    'output',
    'signs',
    ...WINDOW,
    'inChannels',
    'outChannels',
    'dilation',
    'paddingValue',
    'factor',
    'normalize',
    'activation',
  ],
};

/** The graph as JSON, its fields always in the same order: what is loaded and saved again is the same file. */
export function formatGraph({ imageShape, steps, result, classNames, normalization }: PackedGraph): string {
  const ordered = steps.map((step) => {
    const fields = new Map<string, unknown>(Object.entries(step));
    return Object.fromEntries([...BASE, ...FIELDS[step.kind]].map((name) => [name, fields.get(name)]));
  });
  const given = normalization === undefined ? {} : { normalization };
  return JSON.stringify({ format: FORMAT, version: VERSION, imageShape, result, classNames, ...given, steps: ordered });
}

/** How many values each kind of step reads: the least and the most. */
const INPUTS: Readonly<Partial<Record<PackedStep['kind'], readonly [number, number]>>> = {
  normalize: [1, 2],
  add: [2, 2],
  concatenate: [1, 1024],
  binary: [1, 2],
};

function readStep(reader: Reader, where: string, value: unknown): PackedStep {
  const kinds = Object.keys(FIELDS) as PackedStep['kind'][];
  const anything = typeof value === 'object' && value !== null ? (value as Fields) : {};
  const kind = reader.choice(`${where}.kind`, anything['kind'], kinds);
  const fields = reader.object(where, value, [...BASE, ...FIELDS[kind]]);
  const at = (name: string) => `${where}.${name}`;
  const integer = (name: string, least = 1) => reader.integer(at(name), fields[name], least);
  const flag = (name: string) => reader.flag(at(name), fields[name]);
  const sizes = (name: string, least = 1) => reader.sizes(at(name), fields[name], least);
  const activation = <Name extends string>(...names: readonly Name[]) =>
    reader.choice(at('activation'), fields['activation'], names);
  const base = {
    module: reader.text(at('module'), fields['module']),
    inputs: reader
      .list(at('inputs'), fields['inputs'], ...(INPUTS[kind] ?? [1, 1]))
      .map((input) => reader.integer(at('inputs'), input, 0)),
  };
  const floatWeights = () =>
    fields['floatWeights'] === undefined
      ? {}
      : { floatWeights: reader.choice(at('floatWeights'), fields['floatWeights'], ['float16', 'int8'] as const) };
  const window = () => ({ kernel: sizes('kernel'), stride: sizes('stride'), padding: sizes('padding', 0) });
  switch (kind) {
    case 'convolution': {
      const step = {
        kind,
        ...base,
        output: integer('output'),
        ...window(),
        inChannels: integer('inChannels'),
        outChannels: integer('outChannels'),
        dilation: sizes('dilation'),
        groups: integer('groups'),
        binaryWeights: flag('binaryWeights'),
        ...floatWeights(),
        bias: flag('bias'),
      };
      if (step.inChannels % step.groups !== 0 || step.outChannels % step.groups !== 0) {
        reader.fail(where, `${step.groups} groups do not divide its channels`);
      }
      if (step.binaryWeights && step.floatWeights !== undefined) {
        reader.fail(where, 'its weights are both bits and floats');
      }
      return step;
    }
    case 'linear':
      return {
        kind,
        ...base,
        output: integer('output'),
        inFeatures: integer('inFeatures'),
        outFeatures: integer('outFeatures'),
        ...floatWeights(),
        bias: flag('bias'),
      };
    case 'maxPool':
    case 'averagePool': {
      const step = {
        kind,
        ...base,
        output: integer('output'),
        ...window(),
        ceilMode: flag('ceilMode'),
        countIncludePadding: flag('countIncludePadding'),
      };
      if (step.padding.some((padding, axis) => padding > Math.floor(step.kernel[axis]! / 2))) {
        reader.fail(where, 'its padding is more than half its kernel');
      }
      if (kind === 'maxPool' && step.kernel[0] * step.kernel[1] > 256) reader.fail(where, 'its window is too large');
      return step;
    }
    case 'globalPool':
    case 'concatenate':
      return { kind, ...base, output: integer('output') };
    case 'normalize':
      return {
        kind,
        ...base,
        output: integer('output'),
        channels: integer('channels'),
        activation: activation('none', 'relu'),
      };
    case 'scale':
      return { kind, ...base, output: integer('output'), factor: reader.number(at('factor'), fields['factor']) };
    case 'add':
      return { kind, ...base, output: integer('output'), activation: activation('none', 'relu') };
    case 'activation': {
      const name = activation('relu', 'prelu', 'rprelu');
      const channels = integer('channels', name === 'relu' ? 0 : 1);
      return { kind, ...base, output: integer('output'), channels, activation: name };
    }
    case 'signs':
      return { kind, ...base, signs: integer('signs'), channels: integer('channels') };
    case 'binary': {
      const step = {
        kind,
        ...base,
        ...(fields['output'] === undefined ? {} : { output: integer('output') }),
        ...(fields['signs'] === undefined ? {} : { signs: integer('signs') }),
        ...window(),
        inChannels: integer('inChannels'),
        outChannels: integer('outChannels'),
        dilation: sizes('dilation'),
        paddingValue: reader.choice(at('paddingValue'), fields['paddingValue'], ['zero', 'plus', 'minus'] as const),
        factor: reader.number(at('factor'), fields['factor']),
        normalize: flag('normalize'),
        activation: activation('none', 'relu', 'prelu', 'rprelu'),
      };
      if (resultsOf(step).length === 0) reader.fail(where, 'it has neither an output nor signs');
      if (step.normalize && step.factor !== 1) reader.fail(where, 'it has both a factor and a normalization');
      return step;
    }
  }
}

/** What a step's weights expand to on the device. */
function expandedValues(step: PackedStep, index: number): number {
  const sizes = tensorsOf(step, index).map(({ shape }) => shape.reduce((product, size) => product * size, 1));
  if (step.kind === 'binary') {
    sizes.push(kernelWordCount(step.kernel[0] * step.kernel[1], step.inChannels, step.outChannels));
  } else if (step.kind === 'convolution') {
    sizes.push(step.kernel[0] * step.kernel[1] * (step.inChannels / step.groups) * step.outChannels);
  }
  return Math.max(0, ...sizes);
}

/** The shapes of all values of a graph for one image, or why a step does not fit. */
export function inferShapes(
  graph: PackedGraph,
): readonly ValueShape[] | { readonly step: number; readonly problem: string } {
  const shapes: ValueShape[] = [{ bits: false, shape: graph.imageShape }];
  for (const [index, step] of graph.steps.entries()) {
    const behind = shapesBehind(step, shapes);
    if (typeof behind === 'string') return { step: index, problem: behind };
    const numbers = resultsOf(step);
    if (numbers.some((number, at) => number !== shapes.length + at)) {
      return { step: index, problem: `its results must be numbered from ${shapes.length}` };
    }
    shapes.push(...behind);
  }
  return shapes;
}

/**
 * Reads a graph and checks all of it: fields and their ranges, that every step reads what an earlier one makes, and that the shapes fit.
 *
 * @param fail - Makes the error for a problem.
 */
export function parseGraph(text: string, fail: (problem: string) => Error): PackedGraph {
  const reader: Reader = new Reader(fail);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw fail('it is not JSON');
  }
  const names = ['format', 'version', 'imageShape', 'steps', 'result', 'classNames', 'normalization'];
  const fields = reader.object('graph', parsed, names);
  if (fields['format'] !== FORMAT) reader.fail('format', `${JSON.stringify(fields['format'])} is not ${FORMAT}`);
  if (fields['version'] !== VERSION) {
    reader.fail('version', `${JSON.stringify(fields['version'])} is not ${VERSION}, the one this release reads`);
  }
  const shape = reader.list('imageShape', fields['imageShape'], 3, 3);
  const [height, width, channels] = shape.map((size) => reader.integer('imageShape', size, 1)) as [
    number,
    number,
    number,
  ];
  const steps = reader
    .list('steps', fields['steps'], 1, MOST_STEPS)
    .map((step, index) => readStep(reader, `steps.${index}`, step));
  const graph: PackedGraph = {
    imageShape: [height, width, channels],
    steps,
    result: reader.integer('result', fields['result'], 1),
    classNames: reader
      .list('classNames', fields['classNames'], 0, LARGEST)
      .map((name) => reader.text('classNames', name)),
    ...readNormalization(reader, fields['normalization'], channels),
  };
  for (const [index, step] of steps.entries()) {
    if (!(expandedValues(step, index) < MOST_VALUES)) reader.fail(`steps.${index}`, 'its weights are too many');
  }
  const shapes = inferShapes(graph);
  if ('problem' in shapes) reader.fail(`steps.${shapes.step}`, shapes.problem);
  const result = (shapes as readonly ValueShape[])[graph.result];
  if (result === undefined || result.bits) reader.fail('result', 'no step makes this value in floats');
  if (graph.classNames.length > 0 && graph.classNames.length !== result.shape[result.shape.length - 1]) {
    reader.fail('classNames', `${graph.classNames.length} names for ${result.shape[result.shape.length - 1]} classes`);
  }
  return graph;
}

function readNormalization(reader: Reader, value: unknown, channels: number): Pick<PackedGraph, 'normalization'> {
  if (value === undefined) return {};
  const fields = reader.object('normalization', value, ['maximum', 'mean', 'deviation']);
  const numbers = (name: string) =>
    reader
      .list(`normalization.${name}`, fields[name], channels, channels)
      .map((item) => reader.number(`normalization.${name}`, item));
  const deviation = numbers('deviation');
  if (deviation.some((value) => value <= 0)) reader.fail('normalization.deviation', 'a deviation is not positive');
  const maximum = reader.number('normalization.maximum', fields['maximum']);
  if (maximum <= 0) reader.fail('normalization.maximum', `${maximum} is not positive`);
  return { normalization: { maximum, mean: numbers('mean'), deviation } };
}
