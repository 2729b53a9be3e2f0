import type { NativeBinding } from '../../src/native/binding';

/**
 * The native module without its compute thread: every command is taken and none is done. Shapes, parameter counts and multiply-adds
 * are computed in TypeScript, so a test can build a network of any size and call it without its memory or its arithmetic:
 *
 * ```ts
 * jest.mock('../../src/native', () => jest.requireActual('../support/shapes-only'));
 * ```
 *
 * Nothing can be read.
 */
export function loadNative(): NativeBinding {
  const { loadNative: loadReal } = jest.requireActual<typeof import('../../src/native')>('../../src/native');
  const native = loadReal();
  return {
    ...native,
    createStream: () => 0,
    submit: () => null,
    upload: () => null,
    overwrite: () => null,
    adjustExternalMemory: () => 0,
    usage: () => ({ liveBytes: 0, peakBytes: 0, poolBytes: 0 }),
  };
}
