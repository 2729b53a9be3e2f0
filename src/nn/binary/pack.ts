import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { checkMethods } from '../check';
import type { Module } from '../module';
import { signBytes } from './packed-bits';
import type { BinaryStep, PackedActivation, PackedArray, PackedNormalization, PackedStep } from './packed-graph';
import { PackedNetwork } from './packed-network';
import { cutOf, foldFactor, scaleOfSigns } from './packed-numbers';
import { type TracedNode, type TracedOperation, type TracedValue, traceNetwork } from './packed-trace';
import { FLOAT_WEIGHTS, type FloatWeights, storeFloatWeights } from './packed-weights';

/** Options of {@link pack}. */
export interface PackOptions {
  /**
   * `[height, width, channels]` of an image: the network is run once on zeros of this shape. A packed network takes images of other sizes
   * as far as the model does. Default 64×64 with the channels of the first convolution.
   */
  readonly imageShape?: readonly [number, number, number];
  /** Names of the classes, for whoever reads the file. Default none. */
  readonly classNames?: readonly string[];
  /** How the numbers of an image become the network's input, for whoever reads the file. */
  readonly normalization?: PackedNormalization;
  /**
   * How the weights that are not binary (of the first convolution, of float shortcuts, of the classifier) are stored. `'int8'`, with one
   * scale for each output channel, makes networks with many classes about twice as small, and `'float16'` is in between; both change the
   * outputs a little. They are computed with as float32. Default `'float32'`.
   */
  readonly floatWeights?: FloatWeights;
}

const packOptions = optionNames<PackOptions>({
  imageShape: true,
  classNames: true,
  normalization: true,
  floatWeights: true,
});

type Arrays = Map<string, PackedArray>;
type Of<Kind extends TracedOperation['kind']> = TracedNode & { readonly operation: { readonly kind: Kind } };

/**
 * Turns a trained binary network into a {@link PackedNetwork}: weights of one bit, and each binary convolution with everything up to the
 * next sign in one pass.
 *
 * The data flow is read from one run in evaluation mode, so any model works whose operations a packed network knows. Nothing is
 * approximated, unless `floatWeights` asks for it: outputs have the bits of the model's own.
 *
 * @throws EvenkeelError INVALID_ARGUMENT or NON_FINITE for a float weight that `floatWeights` cannot hold.
 * @throws EvenkeelError UNSUPPORTED, naming the module, for an operation that packed networks do not know.
 */
export function pack(model: Module, options: PackOptions = {}): PackedNetwork {
  checkOptions('pack', options, packOptions);
  checkMethods('pack', 'model', model, ['call', 'modules'], 'a Module, such as models.create(…)');
  const { floatWeights = 'float32' } = options;
  if (!FLOAT_WEIGHTS.includes(floatWeights)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `pack: floatWeights is ${JSON.stringify(floatWeights)}; give one of ${FLOAT_WEIGHTS.join(', ')}`,
    );
  }
  const imageShape = options.imageShape ?? [64, 64, inputChannels(model)];
  const modes = model.modules().map((module) => [module, module.training] as const);
  model.eval();
  try {
    const { nodes, images, result } = traceNetwork(model, imageShape);
    const packer = new Packer(images, result);
    packer.pack(nodes);
    const { normalization, classNames = [] } = options;
    const bare = { imageShape, steps: packer.steps, result: packer.numberOf(result), classNames };
    const graph = normalization === undefined ? bare : { ...bare, normalization };
    if (floatWeights === 'float32') return new PackedNetwork(graph, packer.arrays);
    const stored = storeFloatWeights(graph, packer.arrays, floatWeights);
    return new PackedNetwork(stored.graph, stored.arrays);
  } finally {
    for (const [module, training] of modes) module.training = training;
  }
}

function inputChannels(model: Module): number {
  for (const module of model.modules()) {
    if ('inChannels' in module && typeof module.inChannels === 'number') return module.inChannels;
  }
  throw new EvenkeelError('INVALID_ARGUMENT', 'pack: give imageShape; the model has no convolution that tells it');
}

/** A binary convolution with the operations behind it that one pass can do. */
interface Fusion {
  readonly convolution: Of<'binary'>;
  /** Those that are done with it; the last one decides when the step runs. */
  readonly absorbed: Set<TracedNode>;
  factor: number;
  normalize: Of<'normalize'>['operation'] | undefined;
  residual: TracedValue | undefined;
  activation: (TracedOperation & { readonly kind: 'relu' | 'prelu' | 'rprelu' }) | undefined;
  /** What comes out of it. */
  value: TracedValue;
}

/** Signs of a value with the factor in front of them. */
interface SignReader {
  readonly signs: Of<'signs'>;
  /** The multiplication in between, if any. */
  readonly scale: Of<'scale'> | undefined;
}

function isNode<Kind extends TracedOperation['kind']>(node: TracedNode | undefined, kind: Kind): node is Of<Kind> {
  return node?.operation.kind === kind;
}

class Packer {
  readonly steps: PackedStep[] = [];
  readonly arrays: Arrays = new Map();
  readonly #numbers = new Map<TracedValue, number>();
  readonly #result: TracedValue;
  /** Operations that another one's step does. */
  readonly #absorbed = new Set<TracedNode>();
  /** Those of them that read a value only for its signs, which its own step makes. */
  readonly #onlySigns = new Set<TracedNode>();
  #next = 1;

  constructor(images: TracedValue, result: TracedValue) {
    this.#result = result;
    this.#numbers.set(images, 0);
    this.#emitSigns(images);
  }

  pack(nodes: readonly TracedNode[]): void {
    const order = new Map(nodes.map((node, index) => [node, index]));
    // Fused steps run where the last of their operations did: by then what they add is there.
    const endings = new Map<TracedNode, Fusion>();
    for (const node of nodes) {
      if (!isNode(node, 'binary') || this.#absorbed.has(node)) continue;
      const fusion = this.#fuse(node);
      const last = [...fusion.absorbed].reduce((a, b) => (order.get(a)! > order.get(b)! ? a : b));
      endings.set(last, fusion);
      for (const absorbed of fusion.absorbed) this.#absorbed.add(absorbed);
    }
    for (const node of nodes) {
      const fusion = endings.get(node);
      if (fusion !== undefined) this.#emitBinary(fusion);
      else if (!this.#absorbed.has(node)) this.#emitFloat(node);
    }
  }

  numberOf(value: TracedValue): number {
    const number = this.#numbers.get(value);
    if (number !== undefined) return number;
    const module = value.source?.module ?? 'the model';
    throw new EvenkeelError(
      'UNSUPPORTED',
      `pack: the signs of module ${module} are used as real values; a packed network keeps them as bits for binary layers`,
    );
  }

  #fuse(convolution: Of<'binary'>): Fusion {
    const fusion: Fusion = {
      convolution,
      absorbed: new Set([convolution]),
      factor: 1,
      normalize: undefined,
      residual: undefined,
      activation: undefined,
      value: convolution.output,
    };
    while (fusion.value.readers.length === 1 && fusion.value !== this.#result) {
      const next = fusion.value.readers[0]!;
      if (!absorb(fusion, next)) break;
      fusion.absorbed.add(next);
      fusion.value = next.output;
    }
    return fusion;
  }

  #emitBinary(fusion: Fusion): void {
    const { weight, scale, geometry, paddingValue } = fusion.convolution.operation;
    const index = this.steps.length;
    const put = (name: string, values: Float32Array | Uint8Array) => this.arrays.set(`${index}.${name}`, values);
    const { inChannels, outChannels, kernel } = geometry;
    put('weight', signBytes(weight, kernel[0] * kernel[1], inChannels, outChannels));
    const folded = foldFactor(scale, fusion.factor);
    put('scale', folded ?? scale);
    if (fusion.normalize !== undefined) {
      for (const name of ['center', 'factor', 'offset'] as const) put(name, fusion.normalize[name]);
    }
    const { activation } = fusion;
    if (activation !== undefined && activation.kind !== 'relu') this.#putActivation(index, activation);
    const reader = this.#signReader(fusion.value, outChannels);
    if (reader !== undefined) {
      put('cut', cutOfReader(reader, outChannels));
      this.#absorbSigns(reader);
    }
    const inputs = [this.#numberOfBits(fusion.convolution.inputs[0]!)];
    if (fusion.residual !== undefined) inputs.push(this.numberOf(this.#withoutCopies(fusion.residual)));
    const { value } = fusion;
    // A residual or a pooling of another step reads it, too.
    const wantsFloat = value === this.#result || value.readers.some((node) => !this.#onlySigns.has(node));
    const outputs: Pick<BinaryStep, 'output' | 'signs'> = {
      ...(wantsFloat || reader === undefined ? { output: this.#number(value) } : {}),
      ...(reader === undefined ? {} : { signs: this.#number(reader.signs.output) }),
    };
    this.steps.push({
      kind: 'binary',
      module: fusion.convolution.module,
      inputs,
      ...outputs,
      ...geometry,
      paddingValue: (['zero', 'plus', 'minus'] as const)[paddingValue]!,
      factor: folded === undefined ? fusion.factor : 1,
      normalize: fusion.normalize !== undefined,
      activation: (activation?.kind ?? 'none') as PackedActivation,
    });
  }

  /** A residual that is one value twice side by side is read as that value, repeated. */
  #withoutCopies(residual: TracedValue): TracedValue {
    const { source } = residual;
    if (!isNode(source, 'concatenate') || !this.#absorbed.has(source)) return residual;
    return source.inputs[0]!;
  }

  #putActivation(
    index: number,
    { kind: _, ...tensors }: { readonly kind: string; readonly slope: Float32Array },
  ): void {
    for (const [name, values] of Object.entries(tensors)) this.arrays.set(`${index}.${name}`, values as Float32Array);
  }

  #emitFloat(node: TracedNode): void {
    const { operation, module } = node;
    if (operation.kind === 'signs') {
      // Of a value whose signs no other step makes, or with another shift than there; signs of signs are those.
      const known = this.#numbers.has(node.output) || signsBefore(node.output) !== undefined;
      if (!known) this.#emitOneSigns(node.inputs[0]!, { signs: node as Of<'signs'>, scale: undefined });
      return;
    }
    if (operation.kind === 'unpack') return;
    const inputs = node.inputs.map((input) => this.numberOf(input));
    const index = this.steps.length;
    const put = (name: string, values: Float32Array | Uint8Array) => this.arrays.set(`${index}.${name}`, values);
    const output = this.#number(node.output);
    const base = { module, inputs, output };
    switch (operation.kind) {
      case 'convolution': {
        const { weight, bias, geometry, groups } = operation;
        const { kernel, inChannels, outChannels } = geometry;
        const scale = scaleOfSigns(weight, outChannels);
        const binaryWeights = scale !== undefined;
        if (binaryWeights) {
          put('weight', signBytes(weight, kernel[0] * kernel[1], inChannels / groups, outChannels));
          put('scale', scale);
        } else put('weight', weight);
        if (bias !== undefined) put('bias', bias);
        this.steps.push({
          kind: 'convolution',
          ...base,
          ...geometry,
          groups,
          binaryWeights,
          bias: bias !== undefined,
        });
        break;
      }
      case 'linear': {
        const { weight, bias, inFeatures, outFeatures } = operation;
        put('weight', weight);
        if (bias !== undefined) put('bias', bias);
        this.steps.push({ kind: 'linear', ...base, inFeatures, outFeatures, bias: bias !== undefined });
        break;
      }
      case 'normalize': {
        for (const name of ['center', 'factor', 'offset'] as const) put(name, operation[name]);
        const { activation } = operation;
        this.steps.push({ kind: 'normalize', ...base, channels: operation.center.length, activation });
        break;
      }
      case 'relu':
        this.steps.push({ kind: 'activation', ...base, channels: 0, activation: 'relu' });
        break;
      case 'prelu':
      case 'rprelu':
        this.#putActivation(index, operation);
        this.steps.push({ kind: 'activation', ...base, channels: operation.slope.length, activation: operation.kind });
        break;
      case 'binary':
        throw new EvenkeelError('INTERNAL', `pack: a binary layer of ${module} was not fused`);
      default:
        this.steps.push({ ...operation, ...base });
    }
    this.#emitSigns(node.output);
  }

  /** The bits of a float value, right behind it. */
  #emitSigns(value: TracedValue): void {
    const reader = this.#signReader(value, undefined);
    if (reader === undefined) return;
    this.#absorbSigns(reader);
    this.#emitOneSigns(value, reader);
  }

  #absorbSigns({ signs, scale }: SignReader): void {
    const through = scale !== undefined && scale.output.readers.length === 1 ? [signs, scale] : [signs];
    for (const node of through) {
      this.#absorbed.add(node);
      this.#onlySigns.add(node);
    }
  }

  #emitOneSigns(value: TracedValue, reader: SignReader): void {
    const { channels } = reader.signs.operation;
    this.arrays.set(`${this.steps.length}.cut`, cutOfReader(reader, channels));
    const signs = this.#number(reader.signs.output);
    const { module } = reader.signs;
    this.steps.push({ kind: 'signs', module, inputs: [this.numberOf(value)], signs, channels });
  }

  /** Whoever takes the signs of a value, perhaps behind a positive factor; with `channels`, of rows of as many. */
  #signReader(value: TracedValue, channels: number | undefined): SignReader | undefined {
    for (const node of value.readers) {
      const scaled = isNode(node, 'scale') && node.operation.factor > 0 && node.output !== this.#result;
      for (const reader of scaled ? node.output.readers : [node]) {
        if (!isNode(reader, 'signs') || isNode(reader.inputs[0]!.source, 'unpack')) continue;
        if (channels !== undefined && reader.operation.channels !== channels) continue;
        if (this.#numbers.has(reader.output)) continue;
        return { signs: reader, scale: scaled ? (node as Of<'scale'>) : undefined };
      }
    }
    return undefined;
  }

  /** The number of a value of bits. */
  #numberOfBits(bits: TracedValue): number {
    return this.numberOf(signsBefore(bits) ?? bits);
  }

  #number(value: TracedValue): number {
    const number = this.#next++;
    this.#numbers.set(value, number);
    return number;
  }
}

function cutOfReader({ signs, scale }: SignReader, channels: number): Float32Array {
  return cutOf(signs.operation.shift, scale?.operation.factor, channels);
}

/** The bits that signs were unpacked from, where `bits` are the signs of those: an RSign in front of a layer that takes ±1. */
function signsBefore(bits: TracedValue): TracedValue | undefined {
  const { source } = bits;
  if (!isNode(source, 'signs') || source.operation.shift !== undefined) return undefined;
  const unpack = source.inputs[0]!.source;
  return isNode(unpack, 'unpack') ? unpack.inputs[0] : undefined;
}

/** Whether `node` can be done in the same pass, behind what is there; notes it. */
function absorb(fusion: Fusion, node: TracedNode): boolean {
  const { operation } = node;
  const before = fusion.residual === undefined && fusion.activation === undefined;
  const scaled = fusion.factor !== 1 || fusion.normalize !== undefined;
  switch (operation.kind) {
    case 'scale':
      if (!before || scaled) return false;
      fusion.factor = operation.factor;
      return true;
    case 'normalize': {
      const [input, residual] = node.inputs;
      if (!before || scaled || input !== fusion.value || residual === fusion.value) return false;
      fusion.normalize = operation;
      fusion.residual = residual;
      if (operation.activation === 'relu') fusion.activation = { kind: 'relu' };
      break;
    }
    case 'add': {
      const other = node.inputs.find((input) => input !== fusion.value);
      if (!before || other === undefined) return false;
      fusion.residual = other;
      if (operation.activation === 'relu') fusion.activation = { kind: 'relu' };
      break;
    }
    case 'relu':
    case 'prelu':
    case 'rprelu':
      if (fusion.activation !== undefined) return false;
      fusion.activation = operation;
      return true;
    default:
      return false;
  }
  const copies = fusion.residual?.source;
  if (isNode(copies, 'concatenate') && copies.output.readers.length === 1) {
    const [first, ...others] = copies.inputs;
    if (others.every((input) => input === first)) fusion.absorbed.add(copies);
  }
  return true;
}
