import { EvenkeelError } from '../errors';
import { checkFunction, checkOptions, optionNames } from '../options';
import { checkFloat } from './operations/check';
import { scope } from './scope';
import { formatShape, type Shape, sameShape } from './shape';
import { type Storage, stream } from './stream';
import { allocate, keep, run, Tensor } from './tensor';

/**
 * Computes the gradients of an operation's inputs.
 *
 * @param gradient the gradient of the output
 * @param saved what the operation saved, in the order it gave
 * @param needs for each input, whether its gradient is wanted
 * @returns for each input its gradient, or undefined where there is none
 */
export type Backward = (
  gradient: Tensor,
  saved: readonly Tensor[],
  needs: readonly boolean[],
) => readonly (Tensor | undefined)[];

/** Options of {@link Tensor.backward}. */
export interface BackwardOptions {
  /** Keeps the graph, so that `backward` can be called on it again. @defaultValue false */
  readonly retainGraph?: boolean;
}

const backwardOptions = optionNames<BackwardOptions>({ retainGraph: 'boolean' });

/** Where the gradient of one input goes: on to the node that made it, into a leaf, or nowhere. */
type Edge = { readonly node: GraphNode } | { readonly leaf: Tensor } | undefined;

/** A value that the backward pass needs: one reference to its storage, and what the storage's version was. */
interface Saved {
  readonly storage: Storage;
  readonly shape: Shape;
  readonly version: number;
}

let gradEnabled = true;

/** Whether operations are recorded for the gradient. */
export function isGradEnabled(): boolean {
  return gradEnabled;
}

/** Runs `body` without recording operations. */
export function noGrad<T>(body: () => T): T {
  checkFunction('noGrad', 'body', body);
  return withGrad(false, body);
}

function withGrad<T>(enabled: boolean, body: () => T): T {
  const before = gradEnabled;
  gradEnabled = enabled;
  try {
    const result = body();
    if (result instanceof Promise) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        'noGrad: the function is asynchronous; use noGrad between its awaits, where the operations are called',
      );
    }
    return result;
  } finally {
    gradEnabled = before;
  }
}

/** One operation on the tape: what it saved, and where the gradients of its inputs go. */
export class GraphNode {
  readonly name: string;
  readonly inputShapes: readonly (readonly number[])[];
  readonly edges: readonly Edge[];
  /** The layer that recorded it, while a profile is taken. */
  readonly label: string;
  readonly #backward: Backward;
  #saved: readonly Saved[] | undefined;
  /** Handles and later nodes that hold this one. */
  #references = 0;

  constructor(name: string, inputs: readonly Tensor[], saved: readonly Tensor[], backward: Backward) {
    this.name = name;
    this.label = stream().label;
    this.inputShapes = inputs.map((input) => input.shape);
    this.edges = inputs.map((input): Edge => {
      if (input.node !== undefined) return { node: input.node.retain() };
      return input.requiresGrad ? { leaf: input } : undefined;
    });
    this.#backward = backward;
    // References of its own, so that what the caller frees stays alive for the backward pass.
    this.#saved = saved.map(({ storage, shape }) => ({ storage: storage.retain(), shape, version: storage.version }));
  }

  retain(): this {
    this.#references++;
    return this;
  }

  /** Gives one reference back; with the last one, what this node and then the nodes before it hold. */
  release(): void {
    // A loop instead of recursion: chains are as long as networks are deep.
    const waiting: GraphNode[] = [this];
    for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
      if (--node.#references > 0) continue;
      node.releaseSaved();
      for (const edge of node.edges) if (edge !== undefined && 'node' in edge) waiting.push(edge.node);
    }
  }

  releaseSaved(): void {
    for (const { storage } of this.#saved ?? []) storage.release();
    this.#saved = undefined;
  }

  /** The gradients of the inputs; what was saved gets handles in the scope that is open. */
  gradients(gradient: Tensor): readonly (Tensor | undefined)[] {
    const saved = this.#saved;
    if (saved === undefined) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        `backward: the graph of ${this.name} was freed by an earlier backward(); pass { retainGraph: true } there to keep it`,
      );
    }
    for (const { storage, shape, version } of saved) {
      if (storage.version !== version) {
        throw new EvenkeelError(
          'INVALID_ARGUMENT',
          `backward: a tensor of shape ${formatShape(shape)} that ${this.name} saved was updated in place since; ` +
            'call backward() before the update',
        );
      }
    }
    const results = this.#backward(
      gradient,
      saved.map(({ storage, shape }) => new Tensor(storage.retain(), shape)),
      this.edges.map((edge) => edge !== undefined),
    );
    for (let index = 0; index < results.length; index++) {
      const [result, shape] = [results[index], this.inputShapes[index]];
      if (result !== undefined && (shape === undefined || !sameShape(result.shape, shape))) {
        throw new EvenkeelError(
          'SHAPE_MISMATCH',
          `backward of ${this.name}: the gradient of input ${index} has shape ${formatShape(result.shape)}, expected ` +
            `${shape === undefined ? 'none' : formatShape(shape)}`,
        );
      }
    }
    return results;
  }
}

/**
 * Records an operation on the tape, where any input requires a gradient, and returns its output. For operations.
 *
 * @param saved tensors that `backward` needs; it must use these and no handles of its own, which may be freed by then
 */
export function record(
  name: string,
  inputs: readonly Tensor[],
  output: Tensor,
  saved: readonly Tensor[],
  backward: Backward,
): Tensor {
  if (gradEnabled && inputs.some((input) => input.requiresGrad)) {
    output.setNode(new GraphNode(name, inputs, saved, backward));
  }
  return output;
}

/** All nodes that `root` depends on, each after those that depend on it. */
function order(root: GraphNode): GraphNode[] {
  const finished: GraphNode[] = [];
  const seen = new Set<GraphNode>([root]);
  const path: { node: GraphNode; next: number }[] = [{ node: root, next: 0 }];
  for (let top = path[path.length - 1]; top !== undefined; top = path[path.length - 1]) {
    if (top.next === top.node.edges.length) {
      finished.push(top.node);
      path.pop();
      continue;
    }
    const edge = top.node.edges[top.next++];
    if (edge !== undefined && 'node' in edge && !seen.has(edge.node)) {
      seen.add(edge.node);
      path.push({ node: edge.node, next: 0 });
    }
  }
  return finished.reverse();
}

/** A gradient on its way to the node that it is of: one reference to its values, without a handle until the node's turn. */
interface Arriving {
  readonly storage: Storage;
  readonly shape: Shape;
}

/** The storage of `total + addend`: that of `total`, where nobody but the caller holds it, or a new one. */
function accumulate(total: Storage, addend: Storage): Storage {
  let target = total;
  if (total.references > 1) {
    target = stream().allocate('backward', total.dtype, total.length);
    stream().run('copy', [target], [total]);
  }
  target.version++;
  stream().run('accumulate', [], [target, addend]);
  return target;
}

function addToNode(gradients: Map<GraphNode, Arriving>, node: GraphNode, { storage, shape }: Tensor): void {
  const total = gradients.get(node)?.storage;
  const sum = total === undefined ? storage.retain() : accumulate(total, storage);
  if (sum === total) return;
  gradients.set(node, { storage: sum, shape });
  total?.release();
}

function addToLeaf(leaf: Tensor, gradient: Tensor): void {
  const total = leaf.grad;
  if (total === undefined) {
    leaf.grad = keep(gradient.alias());
    return;
  }
  const sum = accumulate(total.storage, gradient.storage);
  if (sum === total.storage) return;
  leaf.grad = keep(new Tensor(sum, total.shape));
  total.dispose();
}

/** See {@link Tensor.backward}. */
export function runBackward(root: Tensor, gradient: Tensor | undefined, options: BackwardOptions): void {
  checkFloat('backward', {}, { gradient });
  checkOptions('backward', options, backwardOptions);
  if (!root.requiresGrad) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      'backward: this tensor depends on nothing that requires a gradient; set requiresGrad on a leaf, and compute outside noGrad()',
    );
  }
  if (gradient === undefined && root.size !== 1) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `backward: pass a gradient for a tensor of shape ${formatShape(root.shape)}; only a single element has a default`,
    );
  }
  if (gradient !== undefined && !sameShape(gradient.shape, root.shape)) {
    throw new EvenkeelError(
      'SHAPE_MISMATCH',
      `backward: the gradient has shape ${formatShape(gradient.shape)}, expected ${formatShape(root.shape)}`,
    );
  }
  withGrad(false, () => {
    const start = root.node;
    const gradients = new Map<GraphNode, Arriving>();
    scope(() => {
      const seed = gradient?.alias() ?? allocate('backward', root.shape);
      if (gradient === undefined) run('fill', [seed], 0, 1, 1);
      if (start === undefined) addToLeaf(root, seed);
      else addToNode(gradients, start, seed);
    });
    if (start === undefined) return;
    const labelBefore = stream().label;
    try {
      for (const node of order(start)) {
        const arrived = gradients.get(node);
        if (arrived === undefined) continue;
        gradients.delete(node);
        if (node.label !== '') stream().label = `${node.label} (backward)`;
        scope(() => {
          const own = new Tensor(arrived.storage, arrived.shape);
          const results = node.gradients(own);
          for (let index = 0; index < results.length; index++) {
            const [result, edge] = [results[index], node.edges[index]];
            if (result === undefined || edge === undefined) continue;
            if ('node' in edge) addToNode(gradients, edge.node, result);
            else if (!edge.leaf.isDisposed) addToLeaf(edge.leaf, result);
          }
        });
        if (options.retainGraph !== true) node.releaseSaved();
      }
    } finally {
      stream().label = labelBefore;
      for (const { storage } of gradients.values()) storage.release();
    }
  });
}
