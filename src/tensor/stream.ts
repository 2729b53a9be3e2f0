import { availableParallelism, totalmem } from 'node:os';
import { type ErrorCode, EvenkeelError } from '../errors';
import { loadNative } from '../native';
import type { BatchOptions, Failure, NativeBinding } from '../native/binding';
import { bytesPerElement, type DType, dtypeCodes } from './dtype';
import { ExternalMemory } from './external-memory';

/** Commands, at most, that are collected before they cross to the native side in one call. */
const FLUSH_AFTER = 32;

/** One word of a command, before it is encoded. A storage stands for its slot; undefined for an absent tensor. */
export type Word = number | boolean | Storage | undefined | readonly number[];

function isFailure(value: unknown): value is Failure {
  return typeof value === 'object' && value !== null && 'code' in value && 'message' in value;
}

/** Turns a native failure into the error that callers see; passes everything else on. */
function unwrap<T>(result: T | Failure): T {
  if (isFailure(result)) throw new EvenkeelError(result.code as ErrorCode, result.message);
  return result;
}

/**
 * The bytes of a tensor: one slot of the stream's heap. Handles and the autograd tape each hold a reference; with the last one
 * the slot is freed, in stream order.
 */
export class Storage {
  readonly slot: number;
  readonly dtype: DType;
  /** Elements. */
  readonly length: number;
  readonly byteLength: number;
  /** How many handles and tape entries hold this storage. */
  references = 1;
  /** Grows with every update in place, so that the tape can tell that a saved value is gone. */
  version = 0;

  constructor(slot: number, dtype: DType, length: number) {
    this.slot = slot;
    this.dtype = dtype;
    this.length = length;
    this.byteLength = length * bytesPerElement[dtype];
  }

  retain(): this {
    this.references++;
    return this;
  }

  release(): void {
    if (--this.references === 0) stream().free(this);
  }
}

/** Bytes and tensors that are alive. */
export interface MemoryUse {
  /** Bytes of all live tensors. */
  readonly liveBytes: number;
  /** The most bytes that were ever live. */
  readonly peakBytes: number;
  /** Live tensors (storages: views of one tensor count once). */
  readonly liveTensors: number;
  /** Bytes of freed buffers that wait for reuse. */
  readonly poolBytes: number;
}

/** One command, as a profile sees it on the JavaScript side. */
export interface RecordedCommand {
  readonly operation: string;
  /** The layer that called it. */
  readonly label: string;
  /** Bytes of the tensors it reads and writes, each counted once. */
  readonly bytes: number;
  readonly words: readonly Word[];
  /** Live bytes when it was called. */
  readonly liveBytes: number;
}

/** One command with its time on the compute thread, in seconds since the profile began. */
export interface TimedCommand extends RecordedCommand {
  readonly start: number;
  readonly duration: number;
}

function bytesOf(words: readonly Word[]): number {
  let bytes = 0;
  for (const word of words) if (word instanceof Storage) bytes += word.byteLength;
  return bytes;
}

/** The JavaScript end of the compute thread: collects commands, hands out slots, counts memory. */
export class Stream {
  readonly #native: NativeBinding;
  readonly #id: number;
  readonly #operations = new Map<string, number>();
  readonly #freeSlots: number[] = [];
  readonly #capacity: number;
  #nextSlot = 0;
  #words = new Float64Array(4096);
  #length = 0;
  #count = 0;
  /** Commands after which they cross: one where the compute thread has nothing to do, then twice as many each time. */
  #flushAfter = 1;
  #flushScheduled = false;
  #threads: number;
  #liveBytes = 0;
  #peakBytes = 0;
  #liveTensors = 0;
  readonly #external: ExternalMemory;
  /** What is noted of each command while a profile is taken. */
  #recorded: RecordedCommand[] | undefined;
  /** The layer that commands belong to, while a profile or a trace is taken. */
  label = '';
  /** Sees every command, while a trace is taken. */
  tracer: ((operation: string, outputs: readonly Storage[], words: readonly Word[]) => void) | undefined;

  constructor(native: NativeBinding) {
    this.#native = native;
    this.#external = new ExternalMemory((delta) => native.adjustExternalMemory(delta));
    this.#threads = defaultThreads();
    unwrap(native.instructionSet());
    this.#id = unwrap(native.createStream(this.#threads));
    for (const [index, name] of native.operationNames().entries()) this.#operations.set(name, index);
    const constrained = process.constrainedMemory?.() ?? 0;
    this.#capacity = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
  }

  /** A slot for a new tensor. A command that fills it must follow. */
  allocate(operation: string, dtype: DType, length: number): Storage {
    const bytes = length * bytesPerElement[dtype];
    if (this.#liveBytes + bytes > this.#capacity) {
      throw new EvenkeelError(
        'OUT_OF_MEMORY',
        `${operation}: a tensor of ${length} ${dtype} elements (${bytes} bytes) does not fit: ${this.#liveBytes} bytes are live ` +
          `and the machine has ${this.#capacity}; free tensors with dispose() or scope(), or use a smaller batch`,
      );
    }
    const slot = this.#freeSlots.pop() ?? this.#nextSlot++;
    this.#account(bytes, 1);
    return new Storage(slot, dtype, length);
  }

  free(storage: Storage): void {
    this.run('free', [], [storage]);
    // Commands run in order: whatever is put into the slot from here on comes after this free.
    this.#freeSlots.push(storage.slot);
    this.#account(-storage.byteLength, -1);
  }

  /** V8 has collected a tensor that nobody disposed of. */
  noteCollected(): void {
    this.#external.noteCollected(this.#liveBytes);
  }

  #account(bytes: number, tensors: number): void {
    this.#liveBytes += bytes;
    this.#liveTensors += tensors;
    if (this.#liveBytes > this.#peakBytes) this.#peakBytes = this.#liveBytes;
    this.#external.update(this.#liveBytes);
  }

  /** Enqueues one operation: `outputs` are slots it fills, `words` its arguments in the order in which Rust reads them. */
  run(operation: string, outputs: readonly Storage[], words: readonly Word[]): void {
    const code = this.#operations.get(operation);
    if (code === undefined) {
      throw new EvenkeelError(
        'INTERNAL',
        `the native module has no operation ${operation}; rebuild it: npm run build:native`,
      );
    }
    const start = this.#length;
    this.#reserve(outputs.length + 3);
    this.#words[start] = code;
    this.#words[start + 2] = outputs.length;
    this.#length = start + 3;
    for (const output of outputs) this.#words[this.#length++] = output.slot;
    for (const word of words) this.#push(word);
    this.#words[start + 1] = this.#length - start - 2;
    this.#count++;
    this.tracer?.(operation, outputs, words);
    this.#recorded?.push({
      operation,
      label: this.label,
      bytes: bytesOf(outputs) + bytesOf(words),
      words,
      liveBytes: this.#liveBytes,
    });
    // A freed slot is no work that the compute thread could begin with.
    if (this.#count >= (operation === 'free' ? FLUSH_AFTER : this.#flushAfter)) {
      this.#flushAfter = Math.min(2 * this.#flushAfter, FLUSH_AFTER);
      this.flush();
    } else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      queueMicrotask(() => {
        this.#flushScheduled = false;
        this.flush();
      });
    }
  }

  #push(word: Word): void {
    if (typeof word === 'object') {
      if (word instanceof Storage) {
        this.#reserve(1);
        this.#words[this.#length++] = word.slot;
      } else {
        this.#reserve(word.length + 1);
        this.#words[this.#length++] = word.length;
        for (const item of word) this.#words[this.#length++] = item;
      }
    } else {
      this.#reserve(1);
      this.#words[this.#length++] = word === undefined ? -1 : Number(word);
    }
  }

  #reserve(words: number): void {
    if (this.#length + words <= this.#words.length) return;
    const larger = new Float64Array(Math.max(2 * this.#words.length, this.#length + words));
    larger.set(this.#words);
    this.#words = larger;
  }

  /** Sends what was collected to the compute thread. */
  flush(): void {
    if (this.#count === 0) return;
    const [length, count] = [this.#length, this.#count];
    this.#length = 0;
    this.#count = 0;
    unwrap(this.#native.submit(this.#id, this.#words, length, count));
  }

  /** Copies a data set for the loader thread and returns its number. */
  createDataset(
    pixels: Uint8Array | Float32Array,
    labels: Int32Array,
    height: number,
    width: number,
    channels: number,
  ): number {
    return unwrap(this.#native.createDataset(pixels, labels, height, width, channels));
  }

  /** Forgets a data set; batches under way still finish. */
  releaseDataset(dataset: number): void {
    this.#native.releaseDataset(dataset);
  }

  /** Has the loader thread make a batch, from now on, while the compute thread goes on; returns its number. */
  requestBatch(dataset: number, indices: Uint32Array, options: BatchOptions): number {
    return unwrap(this.#native.requestBatch(this.#id, dataset, indices, options));
  }

  /** Fills `images` and `labels` with a requested batch. The stream waits for the loader when it gets here, not before. */
  deliverBatch(batch: number, images: Storage, labels: Storage): void {
    this.flush();
    unwrap(this.#native.deliverBatch(this.#id, batch, images.slot, labels.slot));
  }

  /** Takes back the request of a batch that nobody will use. */
  cancelBatch(batch: number): void {
    this.#native.cancelBatch(this.#id, batch);
  }

  upload(storage: Storage, bytes: Uint8Array): void {
    this.flush();
    unwrap(this.#native.upload(this.#id, storage.slot, dtypeCodes[storage.dtype], bytes));
  }

  overwrite(storage: Storage, bytes: Uint8Array): void {
    this.flush();
    storage.version++;
    unwrap(this.#native.overwrite(this.#id, storage.slot, bytes));
  }

  async read(storage: Storage): Promise<Uint8Array> {
    this.flush();
    return this.#drained(await this.#native.read(this.#id, storage.slot));
  }

  readSync(storage: Storage): Uint8Array {
    this.flush();
    return this.#drained(this.#native.readSync(this.#id, storage.slot));
  }

  async synchronize(): Promise<void> {
    this.flush();
    this.#drained(await this.#native.fence(this.#id));
  }

  synchronizeSync(): void {
    this.flush();
    this.#drained(this.#native.fenceSync(this.#id));
  }

  /** The answer to what was asked: when it is here, the compute thread has mostly done all that it was given, and waits. */
  #drained<T>(answer: T | Failure): T {
    this.#flushAfter = 1;
    return unwrap(answer);
  }

  /** Whether a profile is being taken. */
  get profiling(): boolean {
    return this.#recorded !== undefined;
  }

  /** Times every command from here on. */
  startProfile(): void {
    if (this.#recorded !== undefined)
      throw new EvenkeelError('INVALID_ARGUMENT', 'profile: one is being taken already');
    this.flush();
    unwrap(this.#native.startProfile(this.#id));
    this.#recorded = [];
  }

  /** The commands since `startProfile`, when the stream has done them. */
  async stopProfile(): Promise<TimedCommand[]> {
    this.flush();
    const recorded = this.#recorded ?? [];
    this.#recorded = undefined;
    const bytes = unwrap(await this.#native.stopProfile(this.#id));
    const times = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
    return recorded.map((command, index) => ({
      ...command,
      start: times[3 * index + 1] ?? 0,
      duration: times[3 * index + 2] ?? 0,
    }));
  }

  get threads(): number {
    return this.#threads;
  }

  setThreads(threads: number): void {
    this.flush();
    unwrap(this.#native.setThreads(this.#id, threads));
    this.#threads = threads;
  }

  instructionSet(): string {
    return unwrap(this.#native.instructionSet());
  }

  memory(): MemoryUse {
    return {
      liveBytes: this.#liveBytes,
      peakBytes: this.#peakBytes,
      liveTensors: this.#liveTensors,
      poolBytes: unwrap(this.#native.usage(this.#id)).poolBytes,
    };
  }
}

/** The threads asked for by `EVENKEEL_THREADS`, or one for each processor that this process may use. */
function defaultThreads(): number {
  const asked = process.env['EVENKEEL_THREADS'];
  if (asked === undefined || asked === '') return availableParallelism();
  const threads = Number(asked);
  checkThreads('EVENKEEL_THREADS', threads);
  return threads;
}

function checkThreads(name: string, threads: number): void {
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `${name}: expected a whole number of 1 to 1024 threads, got ${threads}`,
    );
  }
}

let current: Stream | undefined;

/** The stream of this JavaScript environment; the first call loads the native module and starts the compute thread. */
export function stream(): Stream {
  current ??= new Stream(loadNative());
  return current;
}

/**
 * Uses `threads` threads for what is called from now on. Results have the same bits at any number.
 *
 * @throws EvenkeelError INVALID_ARGUMENT unless it is a whole number of 1 to 1024.
 */
export function setThreads(threads: number): void {
  checkThreads('setThreads', threads);
  stream().setThreads(threads);
}

/** The number of threads in use. */
export function getThreads(): number {
  return stream().threads;
}

/** The instruction set in use: `avx512`, `avx2`, `neon` or `portable`. `EVENKEEL_ISA` forces one. */
export function instructionSet(): string {
  return stream().instructionSet();
}

/** Bytes and tensors that are alive. */
export function memory(): MemoryUse {
  return stream().memory();
}

/** Resolves when everything enqueued so far is done; rejects with the first error of an update in place. */
export function synchronize(): Promise<void> {
  return stream().synchronize();
}
