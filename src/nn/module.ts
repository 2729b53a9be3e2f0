import { inspect } from 'node:util';
import { EvenkeelError } from '../errors';
import { checkBoolean, checkFunction, checkNoOptions, checkOptions, describe, optionNames } from '../options';
import { keep, scope, Tensor } from '../tensor';
import { attribute } from '../tensor/profile';
import { findHiddenPart } from './hidden-parts';
import { Parameter } from './parameter';
import type { StateSource } from './state';
import { checkState, writeState } from './state';

export { Parameter } from './parameter';
export type { StateArray, StateSource, StateValue } from './state';

/** A module of any input and output, for code that only walks the tree. */
export type AnyModule = Module<never, unknown>;

/**
 * Called after a module's `forward`, inside the scope of the call: the tensors may be read, but must not be held longer
 * without `keep`.
 */
export type CallListener = (module: AnyModule, input: unknown, output: unknown) => void;

/** Options of {@link Module.loadStateDict}. */
export interface LoadStateOptions {
  /** Whether missing and unexpected names are errors. Default `true`. */
  readonly strict?: boolean;
}

const loadStateOptions = optionNames<LoadStateOptions>({ strict: 'boolean' });

/** What {@link Module.loadStateDict} did not find a partner for. Both are empty after a strict load. */
export interface StateDifference {
  /** Names the model has and the state lacks. */
  readonly missing: readonly string[];
  /** Names the state has and the model lacks. */
  readonly unexpected: readonly string[];
}

type Part =
  | { readonly kind: 'parameter'; readonly name: string; readonly value: Parameter }
  | { readonly kind: 'buffer'; readonly name: string; readonly value: Tensor }
  | { readonly kind: 'module'; readonly name: string; readonly value: AnyModule };

/**
 * The base of every layer, model and loss: a tree of parameters, buffers and modules with a `forward`.
 *
 * A module's parts are found by looking at its properties, in the order in which the class declares them: {@link Parameter}s,
 * buffers announced with {@link Module.buffer}, modules, and arrays of these. Names are the property path, joined by dots:
 * `blocks.0.conv1.weight`. A part reached on two ways (shared weights) is reported once, under its first name.
 *
 * Maps, sets, plain objects and objects of other classes are not looked into, nor are `#private` fields (which is where to keep what
 * does not belong to the module). When parameters are asked for the first time, parts that are in a map, set or plain object alone are
 * refused, as are tensors that require a gradient and are no parameters; later, plain tensors in the place of parameters.
 *
 * @typeParam Input - What `forward` takes; mostly one tensor.
 * @typeParam Output - What `forward` returns; mostly one tensor.
 */
export abstract class Module<Input = Tensor, Output = Tensor> {
  /** Whether the module is in training mode. Set it for a whole tree with {@link Module.train} and {@link Module.eval}. */
  training = true;

  readonly #bufferNames = new Set<string>();
  readonly #listeners = new Set<CallListener>();
  /** The properties that were parameters when they were first gathered. */
  #parameterNames: ReadonlySet<string> | undefined;

  constructor();
  /** What a class without a constructor is given arrives here. */
  constructor(...given: readonly unknown[]) {
    checkNoOptions(new.target.name, given);
  }

  /** Computes the output. Write this in a subclass; use {@link Module.call} to run it. */
  abstract forward(input: Input): Output;

  /**
   * Runs `forward` in a scope: every tensor made inside that is neither returned nor needed by the backward pass is freed
   * when the call ends.
   */
  call(input: Input): Output {
    return scope(() => {
      const output = attribute(this, () => this.forward(input));
      for (const listener of this.#listeners) listener(this as AnyModule, input, output);
      return output;
    });
  }

  /**
   * Lets `listener` see every later {@link Module.call} of this module (not of its children). Returns the function that
   * takes it away again.
   */
  onCall(listener: CallListener): () => void {
    checkFunction('onCall', 'listener', listener);
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /**
   * Trainable parameters of the whole tree, in definition order.
   *
   * @throws EvenkeelError `INVALID_ARGUMENT` where a part is kept where it is not found: in a map, a set or a plain object, or as a
   * tensor that is no parameter.
   */
  parameters(): Parameter[] {
    return [...gather(this as AnyModule)];
  }

  /** Trainable parameters of the whole tree with their dotted names, in definition order. Throws as {@link Module.parameters}. */
  namedParameters(): [string, Parameter][] {
    return collect(this as AnyModule, ['parameter']) as [string, Parameter][];
  }

  /** Buffers of the whole tree (state that is saved but not trained, such as running statistics), in definition order. */
  buffers(): Tensor[] {
    return this.namedBuffers().map(([, buffer]) => buffer);
  }

  /** Buffers of the whole tree with their dotted names, in definition order. */
  namedBuffers(): [string, Tensor][] {
    return collect(this as AnyModule, ['buffer']);
  }

  /** This module and every module below it, parents first. */
  modules(): AnyModule[] {
    return this.namedModules().map(([, module]) => module);
  }

  /** This module (named `''`) and every module below it with their dotted names, parents first. */
  namedModules(): [string, AnyModule][] {
    const found: [string, AnyModule][] = [];
    visitModules(this as AnyModule, '', new Set(), (name, module) => found.push([name, module]));
    return found;
  }

  /** The modules directly below this one. */
  children(): AnyModule[] {
    return this.namedChildren().map(([, module]) => module);
  }

  /** The modules directly below this one with their names. */
  namedChildren(): [string, AnyModule][] {
    const found: [string, AnyModule][] = [];
    for (const part of partsOf(this as AnyModule)) if (part.kind === 'module') found.push([part.name, part.value]);
    return found;
  }

  /**
   * Puts the whole tree into training mode (the default) or, with `false`, into evaluation mode: batch statistics give way to
   * running statistics and dropout stops. Returns the module.
   */
  train(mode = true): this {
    checkBoolean('train', 'mode', mode);
    for (const module of this.modules()) module.training = mode;
    return this;
  }

  /** Puts the whole tree into evaluation mode: `train(false)`. Returns the module. */
  eval(): this {
    return this.train(false);
  }

  /**
   * Every parameter and buffer by its dotted name, in definition order. The tensors are the live ones, not copies: read them
   * (or save them) before the next training step, and do not dispose of them.
   */
  stateDict(): Map<string, Tensor> {
    return new Map(collect(this as AnyModule, ['parameter', 'buffer']));
  }

  /**
   * Overwrites parameters and buffers in place with the values of `state`: tensors, or arrays with a shape. Everything is
   * checked before anything is written, so a failed load leaves the model as it was.
   *
   * @param state - Values by dotted name, as {@link Module.stateDict} returns them or a checkpoint holds them.
   * @returns The names without a partner; empty lists after a strict load.
   * @throws EvenkeelError `SHAPE_MISMATCH` or `DTYPE_MISMATCH` when a value does not fit its tensor, `INVALID_ARGUMENT` when
   * `strict` and names are missing or unexpected. The message lists every offending name.
   */
  loadStateDict(state: StateSource, options: LoadStateOptions = {}): StateDifference {
    checkOptions('loadStateDict', options, loadStateOptions);
    const own = this.stateDict();
    const difference = checkState(this.constructor.name, own, state, options.strict ?? true);
    for (const [name, tensor] of own) {
      const value = state.get(name);
      if (value !== undefined) writeState(tensor, value);
    }
    return difference;
  }

  /** Frees the gradients of all parameters. */
  zeroGrad(): void {
    for (const parameter of this.parameters()) {
      parameter.grad?.dispose();
      parameter.grad = undefined;
    }
  }

  /** Marks all parameters of the tree as trained (`true`) or frozen (`false`). Returns the module. */
  setRequiresGrad(requiresGrad: boolean): this {
    checkBoolean('setRequiresGrad', 'requiresGrad', requiresGrad);
    for (const parameter of this.parameters()) parameter.requiresGrad = requiresGrad;
    return this;
  }

  /** Number of trainable values in the whole tree. */
  parameterCount(): number {
    return this.parameters().reduce((sum, parameter) => sum + parameter.size, 0);
  }

  /**
   * Multiply-adds of this module's own arithmetic for one call, without its children's. Only layers with weights count
   * (convolution, linear), as is customary; everything else is 0.
   */
  multiplyAdds(_input: unknown, _output: unknown): number {
    return 0;
  }

  /** Frees all parameters, gradients and buffers of the tree. The module cannot be used afterwards. */
  dispose(): void {
    this.zeroGrad();
    for (const module of this.modules()) module.release();
    for (const tensor of this.stateDict().values()) tensor.dispose();
  }

  /** Same as {@link Module.dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What {@link Module.toString} shows between the parentheses of a leaf; layers override it with their options. */
  describe(): string {
    return '';
  }

  /** The tree of modules with their options, one line each. */
  toString(): string {
    return drawTree(this as AnyModule);
  }

  /** `console.log(model)` shows the tree of {@link Module.toString}. */
  [inspect.custom](): string {
    return this.toString();
  }

  /**
   * The named parts of this module, in order. {@link Sequential} overrides it to name its layers by position; everything else
   * keeps the properties.
   */
  parts(): Iterable<readonly [name: string, value: unknown]> {
    return Object.entries(this);
  }

  /** Frees what this module holds besides its state, without its children; {@link Module.dispose} calls it for the whole tree. */
  protected release(): void {}

  /**
   * Announces the property `name` as a buffer: state that is saved with the parameters but not trained. To be used in a
   * constructor: `this.runningMean = this.buffer('runningMean', zeros([channels]))`. It outlives every scope.
   */
  protected buffer(name: string, tensor: Tensor): Tensor {
    this.#bufferNames.add(name);
    return keep(tensor);
  }

  /** @internal */
  static bufferNamesOf(module: AnyModule): ReadonlySet<string> {
    return module.#bufferNames;
  }

  /** @internal */
  static parameterNamesOf(module: AnyModule): ReadonlySet<string> | undefined {
    return module.#parameterNames;
  }

  /** @internal */
  static setParameterNames(module: AnyModule, names: ReadonlySet<string>): void {
    module.#parameterNames = names;
  }
}

function join(prefix: string, name: string): string {
  return prefix === '' ? name : `${prefix}.${name}`;
}

/** An array and no generator: every training step walks the tree, and walking it was a third of a step's JavaScript. */
function partsOf(module: AnyModule): Part[] {
  const buffers = Module.bufferNamesOf(module);
  const found: Part[] = [];
  for (const [name, value] of module.parts()) addParts(found, name, value, buffers.has(name));
  return found;
}

function addParts(found: Part[], name: string, value: unknown, isBuffer: boolean): void {
  // Options are the most numerous properties.
  if (typeof value !== 'object' || value === null) return;
  if (value instanceof Parameter) found.push({ kind: 'parameter', name, value });
  else if (value instanceof Tensor) {
    if (isBuffer) found.push({ kind: 'buffer', name, value });
  } else if (value instanceof Module) found.push({ kind: 'module', name, value: value as AnyModule });
  else if (Array.isArray(value)) {
    for (const [index, element] of value.entries()) addParts(found, `${name}.${index}`, element, isBuffer);
  }
}

function visitModules(
  module: AnyModule,
  name: string,
  seen: Set<AnyModule>,
  visit: (name: string, module: AnyModule, parts: readonly Part[]) => void,
): void {
  if (seen.has(module)) return;
  seen.add(module);
  const parts = partsOf(module);
  visit(name, module, parts);
  for (const part of parts) {
    if (part.kind === 'module') visitModules(part.value, join(name, part.name), seen, visit);
  }
}

function collect(root: AnyModule, kinds: readonly ('parameter' | 'buffer')[]): [string, Tensor][] {
  // For its checks.
  if (kinds.includes('parameter')) gather(root);
  const found: [string, Tensor][] = [];
  const seen = new Set<Tensor>();
  visitModules(root, '', new Set(), (name, _module, parts) => {
    for (const part of parts) {
      if (part.kind === 'module' || !kinds.includes(part.kind) || seen.has(part.value)) continue;
      seen.add(part.value);
      found.push([join(name, part.name), part.value]);
    }
  });
  return found;
}

/** The parameters that {@link collect} finds, in its order, without making their names: training steps ask for them. */
function gather(root: AnyModule): Set<Parameter> {
  const found = new Set<Parameter>();
  const seen = new Set<AnyModule>();
  const unchecked: AnyModule[] = [];
  gatherParameters(root, found, seen, unchecked);
  // When all are found: what a map holds may have a place in the tree, too.
  for (const module of unchecked) Module.setParameterNames(module, checkParts(module, found, seen));
  return found;
}

function gatherParameters(
  module: AnyModule,
  found: Set<Parameter>,
  seen: Set<AnyModule>,
  unchecked: AnyModule[],
): void {
  if (seen.has(module)) return;
  seen.add(module);
  const names = Module.parameterNamesOf(module);
  if (names === undefined) unchecked.push(module);
  const children: AnyModule[] = [];
  for (const [name, value] of module.parts()) {
    const isPart = sortPart(value, found, children);
    if (!isPart && names?.has(name) === true && value instanceof Tensor) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `${module.constructor.name}: ${name} was a Parameter and is ${describe(value)} now, which is neither trained nor saved; give a ` +
          'new nn.Parameter(…), or write values into the one there was with copyFrom() or loadStateDict()',
      );
    }
  }
  for (const child of children) gatherParameters(child, found, seen, unchecked);
}

/** Whether it is something to be found. */
function sortPart(value: unknown, found: Set<Parameter>, children: AnyModule[]): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (value instanceof Parameter) found.add(value);
  else if (value instanceof Module) children.push(value as AnyModule);
  else if (Array.isArray(value)) for (const element of value) sortPart(element, found, children);
  else return false;
  return true;
}

/**
 * Checks a module whose parameters are gathered for the first time: that no part is where it is not found. Returns the names of its
 * own parameters.
 */
function checkParts(
  module: AnyModule,
  found: ReadonlySet<Parameter>,
  seen: ReadonlySet<AnyModule>,
): ReadonlySet<string> {
  const owner = module.constructor.name;
  const buffers = Module.bufferNamesOf(module);
  const names = new Set<string>();
  const isHidden = (value: object) =>
    (value instanceof Parameter && !found.has(value)) || (value instanceof Module && !seen.has(value as AnyModule));
  for (const [name, value] of module.parts()) {
    if (value instanceof Parameter) names.add(name);
    else if (value instanceof Tensor && value.requiresGrad && value.node === undefined && !buffers.has(name)) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `${owner}: ${name} is a tensor with requiresGrad but no Parameter, so it is neither trained nor saved; give new ` +
          'nn.Parameter(…), or keep it in a #private field where that is meant',
      );
    }
    const hidden = findHiddenPart(value, name, isHidden);
    if (hidden === undefined) continue;
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${owner}: ${hidden.path} is ${hidden.holder} that holds ${describe(hidden.part)}, which is not found there, so it is neither ` +
        'trained nor saved; put it into a property, an array or new nn.Sequential({ name: layer }), or keep it in a #private field ' +
        'where that is meant',
    );
  }
  return names;
}

function drawTree(module: AnyModule): string {
  const children = module.namedChildren();
  const title = `${module.constructor.name}(${module.describe()})`;
  if (children.length === 0) return title;
  const lines = children.map(([name, child]) => `  (${name}): ${drawTree(child).replaceAll('\n', '\n  ')}`);
  return [title.slice(0, -1), ...lines, ')'].join('\n');
}
