/** What went wrong, in one stable word that programs can test for. */
export type ErrorCode =
  | 'SHAPE_MISMATCH'
  | 'DTYPE_MISMATCH'
  | 'INVALID_ARGUMENT'
  | 'OUT_OF_MEMORY'
  | 'DISPOSED'
  | 'CORRUPT_FILE'
  | 'FILE_NOT_FOUND'
  | 'IO'
  | 'NON_FINITE'
  | 'UNSUPPORTED'
  | 'INTERNAL'
  | 'NATIVE_UNAVAILABLE'
  | 'CANCELLED';

/**
 * The one class of error that Evenkeel throws. `code` is stable; the message says what was given, what was expected, and what
 * to do.
 */
export class EvenkeelError extends Error {
  /** What went wrong, in one stable word. */
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = 'EvenkeelError';
    this.code = code;
  }
}
