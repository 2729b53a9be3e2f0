import { inspect } from 'node:util';
import { EvenkeelError } from '../../src/errors';
import { Identity, Module, Parameter, Sequential, type StateSource } from '../../src/nn';
import { full, keep, memory, noGrad, ones, scope, Tensor, tensor, zeros } from '../../src/tensor';

/** A leaf with a parameter, a bias without decay, a buffer, and tensors that are none of these. */
class Leaf extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly running: Tensor;
  readonly cache: Tensor;
  readonly missing: Parameter | undefined;

  constructor(size: number, value = 1) {
    super();
    this.weight = new Parameter(full([size, 2], value));
    this.bias = new Parameter(zeros([2]), { decay: false });
    this.running = this.buffer('running', ones([2]));
    this.cache = keep(ones([1]));
  }

  override forward(input: Tensor): Tensor {
    full([5], 1);
    return input;
  }

  override describe(): string {
    return `size: ${this.weight.shape[0]}`;
  }
}

class Tree extends Module {
  readonly stem: Leaf;
  readonly blocks: readonly Leaf[];
  readonly nested: readonly (readonly Leaf[])[];
  readonly scale: Parameter;
  readonly head: Sequential;
  readonly shared: Leaf;

  constructor(value = 1) {
    super();
    this.scale = new Parameter(tensor([3]));
    this.shared = new Leaf(1, value);
    this.stem = this.shared;
    this.blocks = [new Leaf(2, value), new Leaf(3, value)];
    this.nested = [[new Leaf(4, value)]];
    this.head = new Sequential({
      first: new Leaf(5, value),
      second: new Sequential([new Identity(), new Leaf(6, value)]),
    });
  }

  override forward(input: Tensor): Tensor {
    return this.head.call(this.stem.call(input));
  }
}

function errorOf(body: () => unknown): EvenkeelError {
  try {
    body();
  } catch (error) {
    if (error instanceof EvenkeelError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('Module', () => {
  it('names parts by their path, parents first, in the order in which classes declare them', () => {
    const tree = new Tree();
    expect(tree.namedParameters().map(([name]) => name)).toEqual([
      'scale',
      'stem.weight',
      'stem.bias',
      'blocks.0.weight',
      'blocks.0.bias',
      'blocks.1.weight',
      'blocks.1.bias',
      'nested.0.0.weight',
      'nested.0.0.bias',
      'head.first.weight',
      'head.first.bias',
      'head.second.1.weight',
      'head.second.1.bias',
    ]);
    expect(tree.namedBuffers().map(([name]) => name)).toEqual([
      'stem.running',
      'blocks.0.running',
      'blocks.1.running',
      'nested.0.0.running',
      'head.first.running',
      'head.second.1.running',
    ]);
    expect(tree.namedModules().map(([name]) => name)).toEqual([
      '',
      'stem',
      'blocks.0',
      'blocks.1',
      'nested.0.0',
      'head',
      'head.first',
      'head.second',
      'head.second.0',
      'head.second.1',
    ]);
    expect(tree.namedChildren().map(([name]) => name)).toEqual([
      'stem',
      'blocks.0',
      'blocks.1',
      'nested.0.0',
      'head',
      'shared',
    ]);
    expect(tree.parameterCount()).toBe(1 + (2 + 4 + 6 + 8 + 10 + 12) + 6 * 2);
  });

  it('switches the whole tree between training and evaluation', () => {
    const tree = new Tree();
    expect(tree.modules().every((module) => module.training)).toBe(true);
    expect(tree.eval()).toBe(tree);
    expect(tree.modules().some((module) => module.training)).toBe(false);
    tree.train();
    expect(tree.modules().every((module) => module.training)).toBe(true);
  });

  it('frees in call what forward made and did not return, and tells listeners', () => {
    const leaf = new Leaf(1);
    const input = ones([1]);
    const seen: unknown[] = [];
    const remove = leaf.onCall((module, given, returned) => seen.push(module, given, returned));
    const before = memory().liveTensors;
    expect(leaf.call(input)).toBe(input);
    expect(input.isDisposed).toBe(false);
    expect(memory().liveTensors).toBe(before);
    expect(seen).toEqual([leaf, input, input]);
    remove();
    leaf.call(input);
    expect(seen).toHaveLength(3);
  });

  it('keeps parameters and buffers that are made inside a scope', () => {
    const leaf = scope(() => new Leaf(2));
    const isDisposed = () => [...leaf.stateDict().values()].map((part) => part.isDisposed);
    expect(isDisposed()).toEqual([false, false, false]);
    expect(leaf.weight.dataSync()).toEqual(new Float32Array([1, 1, 1, 1]));
    leaf.dispose();
    expect(isDisposed()).toEqual([true, true, true]);
  });

  it('clears and freezes', () => {
    const leaf = new Leaf(1);
    leaf.bias.backward(ones([2]));
    expect(leaf.bias.grad?.dataSync()).toEqual(new Float32Array([1, 1]));
    leaf.zeroGrad();
    expect(leaf.bias.grad).toBeUndefined();
    const frozen = leaf.setRequiresGrad(false).parameters();
    expect(frozen.map((parameter) => parameter.requiresGrad)).toEqual([false, false]);
  });

  it('draws the tree', () => {
    const model = new Sequential([new Leaf(1), new Sequential([new Identity()])]);
    const drawn = ['Sequential(', '  (0): Leaf(size: 1)', '  (1): Sequential(', '    (0): Identity()', '  )', ')'].join(
      '\n',
    );
    expect(model.toString()).toBe(drawn);
    expect(inspect(model)).toBe(drawn);
  });
});

describe('Parameter', () => {
  it('takes a tensor over', () => {
    const value = tensor([1, 2, 3]);
    const parameter = new Parameter(value, { decay: false });
    expect(value.isDisposed).toBe(true);
    expect(parameter.dataSync()).toEqual(new Float32Array([1, 2, 3]));
    expect(parameter).toBeInstanceOf(Tensor);
    expect([parameter.decay, parameter.requiresGrad]).toEqual([false, true]);
    expect(new Parameter(ones([1]), { requiresGrad: false }).requiresGrad).toBe(false);
  });
});

describe('state', () => {
  it('goes from one model to another', () => {
    const source = new Tree(7);
    source.blocks[1]?.running.copyFrom(new Float32Array([5, 6]));
    const target = new Tree(0);
    expect(target.loadStateDict(source.stateDict())).toEqual({ missing: [], unexpected: [] });
    for (const [name, value] of source.stateDict()) {
      expect([name, target.stateDict().get(name)?.dataSync()]).toEqual([name, value.dataSync()]);
    }
    source.stem.weight.copyFrom(new Float32Array([0, 0]));
    expect(target.stem.weight.dataSync()).toEqual(new Float32Array([7, 7]));
  });

  it('comes from arrays', () => {
    const leaf = new Leaf(1);
    const state: StateSource = new Map([
      ['weight', { shape: [1, 2], values: [1, 2] }],
      ['bias', { shape: [2], values: [3, 4] }],
      ['running', { shape: [2], values: [5, 6] }],
    ]);
    leaf.loadStateDict(state);
    expect([...leaf.stateDict().values()].map((part) => [...part.dataSync()])).toEqual([
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
  });

  it('lists everything that does not fit, and then writes nothing', () => {
    const leaf = new Leaf(1);
    const state: StateSource = new Map([
      ['weight', { shape: [2, 1], values: [9, 9] }],
      ['bias', { shape: [2], values: [9, 9, 9] }],
      ['gamma', { shape: [1], values: [9] }],
    ]);
    const error = errorOf(() => leaf.loadStateDict(state));
    expect(error.code).toBe('SHAPE_MISMATCH');
    expect(error.message).toContain('weight: given [2, 1], expected [1, 2]');
    expect(error.message).toContain('bias: given [2] with 3 values');
    expect(error.message).toContain('missing: running');
    expect(error.message).toContain('unexpected: gamma');
    expect(leaf.weight.dataSync()).toEqual(new Float32Array([1, 1]));
    expect(errorOf(() => leaf.loadStateDict(new Map())).code).toBe('INVALID_ARGUMENT');
    const wrongType = new Map([['bias', { shape: [2], values: new Int32Array(2) }]]);
    expect(errorOf(() => leaf.loadStateDict(wrongType, { strict: false })).code).toBe('DTYPE_MISMATCH');
  });

  it('loads what both sides have, if asked to', () => {
    const leaf = new Leaf(1);
    const state: StateSource = new Map([
      ['bias', { shape: [2], values: [9, 9] }],
      ['gamma', { shape: [1], values: [9] }],
    ]);
    expect(leaf.loadStateDict(state, { strict: false })).toEqual({
      missing: ['weight', 'running'],
      unexpected: ['gamma'],
    });
    expect(leaf.bias.dataSync()).toEqual(new Float32Array([9, 9]));
  });
});

describe('Sequential', () => {
  class Append extends Module {
    readonly digit: number;
    constructor(digit: number) {
      super();
      this.digit = digit;
    }
    override forward(input: Tensor): Tensor {
      return noGrad(() => tensor([input.itemSync() * 10 + this.digit]));
    }
  }

  it('runs layers in order', () => {
    const model = new Sequential([new Append(1), new Append(2), new Append(3)]);
    expect(model.call(tensor([0])).itemSync()).toBe(123);
    expect([model.length, model.at(-1)?.constructor.name]).toEqual([3, 'Append']);
  });

  it('is a list of its layers', () => {
    const layers = [new Append(1), new Sequential([]), new Append(3)] as const;
    const model = new Sequential({ first: layers[0], second: layers[1], third: layers[2] });
    const seen: Module[] = [];
    for (const layer of model) seen.push(layer);
    expect(seen).toEqual([...layers]);
    expect(seen[1]).toBe(layers[1]);
    expect([...model].length).toBe(model.length);
    expect([...new Sequential([])]).toEqual([]);
    expect(new Sequential([...model].slice(0, 1)).call(tensor([0])).itemSync()).toBe(1);
  });

  it('refuses what is no module', () => {
    expect(errorOf(() => new Sequential([{} as Module])).message).toContain('layer 0 is no Module');
  });
});
