/** Reading the files of data sets, with errors that say what to do. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { EvenkeelError } from '../errors';
import { show } from '../options';

/** Unpacked, no data set file that Evenkeel reads is larger; a file that grows beyond it is no such file. */
const MAXIMUM_BYTES = 2 ** 30;

/** A file that was read, under the path that messages name. */
export interface FileContent {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** The error for a file whose content is not what it should be. */
export function corrupt(path: string, problem: string): EvenkeelError {
  return new EvenkeelError('CORRUPT_FILE', `${path} ${problem}; it is damaged or another file: download it again`);
}

/** Throws `INVALID_ARGUMENT` where JavaScript gave no path to a function that reads a data set. */
export function checkDirectory(owner: string, directory: string): void {
  if (typeof directory === 'string') return;
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `${owner}: directory is ${show(directory)}; give the path of the folder that holds its files`,
  );
}

async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  try {
    const { buffer, byteOffset, length } = await readFile(path);
    return new Uint8Array(buffer, byteOffset, length);
  } catch (cause) {
    const code = (cause as { readonly code?: unknown }).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new EvenkeelError('IO', `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

async function unpack(path: string, packed: Uint8Array): Promise<Uint8Array> {
  try {
    const { buffer, byteOffset, length } = await promisify(gunzip)(packed, { maxOutputLength: MAXIMUM_BYTES });
    return new Uint8Array(buffer, byteOffset, length);
  } catch (cause) {
    const problem = `cannot be unpacked (${packed.length} bytes, gzip says: ${(cause as Error).message})`;
    throw new EvenkeelError('CORRUPT_FILE', `${path} ${problem}; it is damaged: download it again`, { cause });
  }
}

/**
 * The first file of `directories` × `names` that exists, plain or with `.gz`, unpacked.
 *
 * @param advice what to do when there is none
 * @throws EvenkeelError FILE_NOT_FOUND, CORRUPT_FILE (gzip), IO
 */
export async function readFirst(
  directories: readonly string[],
  names: readonly string[],
  advice: string,
): Promise<FileContent> {
  for (const directory of directories) {
    for (const name of names) {
      const plain = join(directory, name);
      const bytes = await readIfThere(plain);
      if (bytes !== undefined) return { path: plain, bytes };
      const packed = await readIfThere(`${plain}.gz`);
      if (packed !== undefined) return { path: `${plain}.gz`, bytes: await unpack(`${plain}.gz`, packed) };
    }
  }
  throw new EvenkeelError(
    'FILE_NOT_FOUND',
    `there is no ${names.join(' or ')} (or .gz) in ${directories.join(' or ')}. ${advice}`,
  );
}
