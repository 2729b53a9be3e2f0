import { inspect } from 'node:util';
import { EvenkeelError } from '../errors';
import { checkBoolean, describe } from '../options';
import { type BackwardOptions, type GraphNode, runBackward } from './autograd';
import { type ArrayOf, bytesOfArray, type DType, dtypeOfArray, type TypedArray, viewBytes } from './dtype';
import { enterScope, type Frame, leaveScope, type Scoped } from './scope';
import { formatShape, type Shape, sizeOf } from './shape';
import { type Storage, stream, type Word } from './stream';

/** The net below explicit lifetimes: a handle that is collected without `dispose()` gives its reference back. */
const net = new FinalizationRegistry<Reference>((reference) => {
  reference.drop();
  stream().noteCollected();
});

/** A handle's hold on its storage and its place in the graph, given back once. */
class Reference {
  readonly storage: Storage;
  node: GraphNode | undefined;
  dropped = false;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  drop(): void {
    if (this.dropped) return;
    this.dropped = true;
    this.storage.release();
    this.node?.release();
    this.node = undefined;
  }
}

/**
 * An n-dimensional array on a device: an immutable handle. The bytes live on the compute thread; operations return at once and
 * run there in order, and `await t.data()` waits for them.
 *
 * A handle is freed by `dispose()`, by the end of its `scope`, by `using`, or at last by garbage collection.
 */
export class Tensor implements Scoped {
  /** Sizes of the axes, outermost first; images are `[batch, height, width, channels]`. */
  readonly shape: Shape;
  readonly dtype: DType;
  /** The number of elements. */
  readonly size: number;
  /** The gradient that `backward()` has accumulated here; owned by this tensor. */
  grad: Tensor | undefined;
  /** The scope that this tensor is in. For scopes. */
  frame: Frame | undefined;
  /** Where it is in that scope. For scopes. */
  place = 0;
  readonly #reference: Reference;
  #requiresGrad = false;
  /** Whether {@link net} knows this handle. */
  #inNet = false;

  /** For operations: use `tensor`, `zeros`, … or an operation instead. Takes over one reference to `storage`. */
  constructor(storage: Storage, shape: Shape) {
    this.shape = shape;
    this.dtype = storage.dtype;
    this.size = storage.length;
    this.#reference = new Reference(storage);
    if (!enterScope(this)) this.leaveScopes();
  }

  /** The number of axes. */
  get rank(): number {
    return this.shape.length;
  }

  /** Bytes of the values. */
  get byteLength(): number {
    return this.#reference.storage.byteLength;
  }

  /** Whether this handle was freed. */
  get isDisposed(): boolean {
    return this.#reference.dropped;
  }

  /** The storage, for operations. @throws EvenkeelError DISPOSED */
  get storage(): Storage {
    if (this.#reference.dropped) {
      throw new EvenkeelError(
        'DISPOSED',
        `this tensor of shape ${formatShape(this.shape)} was freed (by dispose(), or at the end of the scope that made it); ` +
          'return it from its scope, or keep() it',
      );
    }
    return this.#reference.storage;
  }

  /** The graph node that made this tensor, or undefined for a leaf. For operations. */
  get node(): GraphNode | undefined {
    return this.#reference.node;
  }

  /** Hangs this tensor into the graph; it holds one reference to `node`. For operations. */
  setNode(node: GraphNode): void {
    this.#reference.node = node.retain();
  }

  /** Whether `backward()` computes a gradient for this tensor. May be set on leaves only. */
  get requiresGrad(): boolean {
    return this.#requiresGrad || this.#reference.node !== undefined;
  }

  set requiresGrad(value: boolean) {
    checkBoolean('Tensor', 'requiresGrad', value);
    if (this.node !== undefined) {
      throw new EvenkeelError(
        'INVALID_ARGUMENT',
        'requiresGrad can be set on leaves only; this tensor is the result of an operation: use detach()',
      );
    }
    if (value && this.dtype !== 'float32') {
      throw new EvenkeelError('DTYPE_MISMATCH', `only float32 tensors have gradients, this one is ${this.dtype}`);
    }
    this.#requiresGrad = value;
  }

  /** The values, in row-major order, when the stream has reached this point. Rejects with the error of the operation that failed. */
  async data(): Promise<ArrayOf[DType]> {
    return viewBytes(await stream().read(this.storage), this.dtype);
  }

  /** The values; blocks the JavaScript thread until they are there. */
  dataSync(): ArrayOf[DType] {
    return viewBytes(stream().readSync(this.storage), this.dtype);
  }

  /** The value of a tensor with one element. */
  async item(): Promise<number> {
    this.#checkSingle();
    return (await this.data())[0] as number;
  }

  /** The value of a tensor with one element; blocks the JavaScript thread until it is there. */
  itemSync(): number {
    this.#checkSingle();
    return this.dataSync()[0] as number;
  }

  #checkSingle(): void {
    if (this.size !== 1) {
      throw new EvenkeelError('SHAPE_MISMATCH', `item: expected one element, got shape ${formatShape(this.shape)}`);
    }
  }

  /**
   * Overwrites the values in place, in stream order.
   *
   * @throws EvenkeelError DTYPE_MISMATCH, SHAPE_MISMATCH, INVALID_ARGUMENT (detached, shared or resizable buffer)
   */
  copyFrom(values: TypedArray): void {
    if (dtypeOfArray(values) !== this.dtype) {
      throw new EvenkeelError(
        'DTYPE_MISMATCH',
        `copyFrom: expected a typed array of ${this.dtype}, got ${describe(values)}`,
      );
    }
    const bytes = bytesOfArray('copyFrom', values);
    if (values.length !== this.size) {
      throw new EvenkeelError('SHAPE_MISMATCH', `copyFrom: expected ${this.size} values, got ${values.length}`);
    }
    stream().overwrite(this.storage, bytes);
  }

  /** Another handle to the same values. `shape`, where given, has as many elements. For operations. */
  alias(shape: Shape = this.shape): Tensor {
    return new Tensor(this.storage.retain(), shape);
  }

  /** The same values, out of the graph. */
  detach(): Tensor {
    return this.alias();
  }

  /**
   * Computes the gradient of this tensor with respect to every leaf it depends on that requires one, adds it to their `grad`,
   * and frees what the graph held.
   *
   * @param gradient the gradient of the result with respect to this tensor, of its shape; 1 by default, for a tensor with one
   * element.
   */
  backward(gradient?: Tensor, options: BackwardOptions = {}): void {
    runBackward(this, gradient, options);
  }

  /** Frees this handle, and with the last one the values. Calling it again does nothing. */
  dispose(): void {
    if (this.#reference.dropped) return;
    leaveScope(this);
    if (this.#inNet) net.unregister(this);
    this.grad?.dispose();
    this.grad = undefined;
    this.#reference.drop();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Called by scopes: nobody else frees this handle from here on, so garbage collection must. */
  leaveScopes(): void {
    this.#inNet = true;
    net.register(this, this.#reference, this);
  }

  toString(): string {
    return `Tensor(${this.dtype} ${formatShape(this.shape)}${this.isDisposed ? ', disposed' : ''})`;
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

/** Exempts a tensor from the scopes that are open: it lives until it is disposed. Returns it. */
export function keep<T extends Tensor>(tensor: T): T {
  if (leaveScope(tensor)) tensor.leaveScopes();
  return tensor;
}

/** A new tensor that the next command fills. For operations. */
export function allocate(operation: string, shape: Shape, dtype: DType = 'float32'): Tensor {
  return new Tensor(stream().allocate(operation, dtype, sizeOf(shape)), shape);
}

/** An argument of an operation: tensors stand for their slots. */
export type Argument = Exclude<Word, Storage> | Tensor;

/** Enqueues an operation that fills `outputs`. Arguments are read by Rust in this order. For operations. */
export function run(operation: string, outputs: readonly Tensor[], ...words: Argument[]): void {
  runWords(operation, outputs, words);
}

/** As {@link run}, for arguments that may be many. Takes the array over. For operations. */
export function runWords(operation: string, outputs: readonly Tensor[], words: Argument[]): void {
  const slots = outputs.map((output) => output.storage);
  const encoded: (Argument | Storage)[] = words;
  for (let index = 0; index < words.length; index++) {
    const word = words[index];
    if (word instanceof Tensor) encoded[index] = word.storage;
  }
  stream().run(operation, slots, encoded as Word[]);
}
