import { randomBytes } from 'node:crypto';
import { open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { EvenkeelError } from '../errors';

/** The part of an open file that {@link replaceFile} uses. */
export interface WritableFile {
  write(buffer: Uint8Array, offset: number, length: number): Promise<{ bytesWritten: number }>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The file system calls that {@link replaceFile} makes; tests pass one that fails where they want it to. */
export interface ReplaceFileSystem {
  open(path: string, flags: string): Promise<WritableFile>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
}

const realFileSystem: ReplaceFileSystem = { open, rename, unlink };

/**
 * Writes `chunks` to `path` so that at every instant, through a crash or a power cut, `path` holds either the whole
 * old content or the whole new content: a temporary file in the same directory is written, synced and renamed over
 * `path`, and then the directory is synced. On any failure the temporary is removed and the old file stays.
 *
 * @throws EvenkeelError `IO` naming the file, the step that failed and the system's error code.
 */
export async function replaceFile(
  path: string,
  chunks: Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>,
  fileSystem: ReplaceFileSystem = realFileSystem,
): Promise<void> {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`);
  let step = 'creating a temporary file beside';
  let file: WritableFile | undefined;
  let created = false;
  try {
    file = await fileSystem.open(temporary, 'wx');
    created = true;
    step = 'writing';
    for await (const chunk of chunks) {
      await writeAll(file, typeof chunk === 'string' ? Buffer.from(chunk, 'utf8') : chunk);
    }
    step = 'syncing';
    await file.sync();
    step = 'closing';
    const open = file;
    file = undefined;
    await open.close();
    step = 'renaming the finished temporary file to';
    await fileSystem.rename(temporary, path);
  } catch (error) {
    await file?.close().catch(() => undefined);
    if (created) {
      await fileSystem.unlink(temporary).catch(() => undefined);
    }
    if (error instanceof EvenkeelError) {
      throw error;
    }
    throw ioError(step, path, error);
  }
  await syncDirectory(directory, fileSystem);
}

async function writeAll(file: WritableFile, bytes: Uint8Array): Promise<void> {
  let offset = 0;
  while (offset < bytes.byteLength) {
    const { bytesWritten } = await file.write(bytes, offset, bytes.byteLength - offset);
    if (bytesWritten <= 0) {
      throw new Error('the system accepted no more bytes');
    }
    offset += bytesWritten;
  }
}

/** Makes the rename itself durable. Not every system can sync a directory (Windows cannot), and none loses data by it. */
async function syncDirectory(directory: string, fileSystem: ReplaceFileSystem): Promise<void> {
  try {
    const handle = await fileSystem.open(directory, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch {
    // The new file is already complete under its name.
  }
}

/** An `IO` error that says what was being done to which file, and what the system answered. */
export function ioError(doing: string, path: string, cause: unknown): EvenkeelError {
  const code = systemErrorCode(cause);
  const hint =
    code === 'ENOSPC' || code === 'EDQUOT'
      ? ' The disk is full: free some space and try again.'
      : code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
        ? ' Check that this user may write there.'
        : '';
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new EvenkeelError('IO', `Failed while ${doing} ${path}: ${reason}.${hint}`, { cause });
}

/** The `code` of a Node.js system error (`ENOENT`, `ENOSPC`, …), or `undefined`. */
export function systemErrorCode(error: unknown): string | undefined {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string') {
    return error.code;
  }
  return undefined;
}
