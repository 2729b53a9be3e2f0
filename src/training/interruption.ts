/** Ctrl-C and a polite kill. */
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** A signal that asks a program to end. */
export type StopSignal = (typeof SIGNALS)[number];

/** What an {@link listenForSignals} call gives back. */
export interface SignalListener {
  /** The first signal that came, if any. */
  readonly received: StopSignal | undefined;
  /** Stops listening; signals act as they did before. */
  close(): void;
}

/**
 * Calls `onFirst` at the first Ctrl-C or SIGTERM, so that the program can finish what must not be torn. The second one
 * ends the process at once, with the exit code that shells expect.
 */
export function listenForSignals(
  onFirst: (signal: StopSignal) => void,
  target: Pick<NodeJS.Process, 'on' | 'off' | 'exit'> = process,
): SignalListener {
  let received: StopSignal | undefined;
  const handlers = SIGNALS.map((signal) => {
    const handler = () => {
      if (received !== undefined) {
        target.exit(signal === 'SIGINT' ? 130 : 143);
      }
      received = signal;
      onFirst(signal);
    };
    target.on(signal, handler);
    return [signal, handler] as const;
  });
  return {
    get received() {
      return received;
    },
    close() {
      for (const [signal, handler] of handlers) {
        target.off(signal, handler);
      }
    },
  };
}
