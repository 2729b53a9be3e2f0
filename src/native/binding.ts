/** The functions of the native module (crate `evenkeel-node`). Everything that can fail returns a {@link Failure} object. */

/** What went wrong on the native side. `code` is one of `EvenkeelError`'s codes. */
export interface Failure {
  readonly code: string;
  readonly message: string;
}

/** Bytes of a stream's buffers. */
export interface Usage {
  /** In buffers in use, rounded up to their size classes. */
  readonly liveBytes: number;
  /** The most that was ever in use. */
  readonly peakBytes: number;
  /** In buffers that wait for reuse. */
  readonly poolBytes: number;
}

/** What is done to the images of a batch. */
export interface BatchOptions {
  /** Taken from each stored value, by channel. */
  readonly mean: number[];
  /** What the rest is multiplied with, by channel. */
  readonly scale: number[];
  /** Zero pixels around the image before a part of its size is cut out at random; 0 for no crop. */
  readonly cropPadding: number;
  /** Whether half of the images are mirrored. */
  readonly flip: boolean;
  /** The seed of crops and flips: its lower and upper 32 bits. */
  readonly seedLow: number;
  readonly seedHigh: number;
  /** The pass over the data. */
  readonly epoch: number;
}

export interface NativeBinding {
  /** The version of the binary. */
  version(): string;
  /** The names of the stream's operations; a command names one by its index. */
  operationNames(): string[];
  /** The instruction set in use. */
  instructionSet(): string | Failure;
  /** Starts a stream with a compute thread; returns its number. */
  createStream(threads: number): number | Failure;
  /** Enqueues the commands in the first `length` words. */
  submit(stream: number, words: Float64Array, length: number, count: number): Failure | null;
  /** Enqueues a new tensor with a copy of `bytes`. */
  upload(stream: number, slot: number, dtype: number, bytes: Uint8Array): Failure | null;
  /** Enqueues new contents for a tensor. */
  overwrite(stream: number, slot: number, bytes: Uint8Array): Failure | null;
  /** The bytes of a tensor, when the stream has reached this point. */
  read(stream: number, slot: number): Promise<Uint8Array | Failure>;
  readSync(stream: number, slot: number): Uint8Array | Failure;
  /** Resolves when the stream has done everything enqueued so far. */
  fence(stream: number): Promise<Uint8Array | Failure>;
  fenceSync(stream: number): Uint8Array | Failure;
  /** Times every command from here on. */
  startProfile(stream: number): Failure | null;
  /** Stops timing: three float64 for each command, the operation's index, its start and its duration in seconds. */
  stopProfile(stream: number): Promise<Uint8Array | Failure>;
  setThreads(stream: number, threads: number): Failure | null;
  usage(stream: number): Usage | Failure;
  trim(stream: number): Failure | null;
  adjustExternalMemory(delta: number): number;
  /** Copies a data set for the loader threads: pixels `[labels.length, height, width, channels]`. Returns its number. */
  createDataset(
    pixels: Uint8Array | Float32Array,
    labels: Int32Array,
    height: number,
    width: number,
    channels: number,
  ): number | Failure;
  /** Forgets a data set; batches under way still finish. */
  releaseDataset(dataset: number): void;
  /** Has the loader thread make a batch, from now on; returns its number. */
  requestBatch(stream: number, dataset: number, indices: Uint32Array, options: BatchOptions): number | Failure;
  /** Enqueues the images and labels of a requested batch; the stream waits for the loader when it gets there. */
  deliverBatch(stream: number, batch: number, imageSlot: number, labelSlot: number): Failure | null;
  /** Takes back the request of a batch that nobody will use. */
  cancelBatch(stream: number, batch: number): void;
}
