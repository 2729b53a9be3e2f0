/** Bytes by which live memory may drift before V8 is told. */
const STEP = 8 * 2 ** 20;
/** Milliseconds after which a fall of live memory counts. */
const PERIOD = 1000;

/**
 * Tells V8 how much memory its objects hold outside its heap, so that it collects dropped tensors in time.
 *
 * A training step takes hundreds of megabytes and gives them back. Told of every rise, V8 would mark and compact its whole heap in every
 * step, on threads that kernels need. So it hears of a rise above what it knows at once, and of a fall only where all of the last second
 * was below, or where it brought about the fall itself.
 */
export class ExternalMemory {
  readonly #report: (delta: number) => void;
  readonly #now: () => number;
  #reported = 0;
  #peak = 0;
  #since: number;

  /** `report` takes the change in bytes; `now` the time in milliseconds. */
  constructor(report: (delta: number) => void, now: () => number = () => performance.now()) {
    this.#report = report;
    this.#now = now;
    this.#since = now();
  }

  /** `live` bytes are held now. */
  update(live: number): void {
    if (live > this.#peak) this.#peak = live;
    if (live - this.#reported >= STEP) {
      this.#tell(live);
    } else if (this.#reported - live >= STEP && this.#now() - this.#since >= PERIOD) {
      if (this.#reported - this.#peak >= STEP) this.#tell(this.#peak);
      this.#peak = live;
      this.#since = this.#now();
    }
  }

  /** V8 has collected something, after which `live` bytes are held. */
  noteCollected(live: number): void {
    this.#peak = live;
    if (this.#reported - live >= STEP) this.#tell(live);
  }

  #tell(bytes: number): void {
    this.#report(bytes - this.#reported);
    this.#reported = bytes;
  }
}
