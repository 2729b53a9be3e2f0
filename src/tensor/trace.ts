import { EvenkeelError } from '../errors';
import { withLayers } from './profile';
import { type Storage, stream, type Word } from './stream';

/** One command of a trace. Its storages are held until {@link Trace.release}. */
export interface TracedCommand {
  readonly operation: string;
  /** The module that called it: its name in the map given to {@link trace}. */
  readonly module: string;
  /** What it fills. */
  readonly outputs: readonly Storage[];
  /** Its arguments, in the order in which Rust reads them. */
  readonly words: readonly Word[];
}

/** The commands that some work enqueued. */
export interface Trace {
  readonly commands: readonly TracedCommand[];
  /** Lets go of the storages. */
  release(): void;
}

/**
 * Runs `body` and notes every command that it enqueues, with the tensors alive: what an exporter reads a network's data flow from.
 *
 * @param modules - Names for the modules that call operations.
 * @throws EvenkeelError INVALID_ARGUMENT inside another trace.
 */
export function trace(body: () => void, modules: ReadonlyMap<object, string>): Trace {
  const device = stream();
  if (device.tracer !== undefined) throw new EvenkeelError('INVALID_ARGUMENT', 'trace: one is being taken already');
  const commands: TracedCommand[] = [];
  const held: Storage[] = [];
  const release = () => {
    for (const storage of held.splice(0)) storage.release();
  };
  device.tracer = (operation, outputs, words) => {
    if (operation === 'free') return;
    for (const word of [...outputs, ...words]) {
      // Held storages keep their slots, so a slot means one storage throughout the trace.
      if (typeof word === 'object' && 'slot' in word) held.push(word.retain());
    }
    commands.push({ operation, module: device.label, outputs: [...outputs], words });
  };
  try {
    withLayers(modules, body);
  } catch (error) {
    device.tracer = undefined;
    release();
    throw error;
  } finally {
    device.tracer = undefined;
  }
  return { commands, release };
}
