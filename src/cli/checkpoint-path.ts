import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { EvenkeelError } from '../errors';

/**
 * The checkpoint that an argument means: a file itself, or the best (else the last) checkpoint of a run directory.
 *
 * @throws EvenkeelError `FILE_NOT_FOUND`.
 */
export async function resolveCheckpoint(path: string): Promise<string> {
  const kind = await kindOf(path);
  if (kind === 'file') {
    return path;
  }
  if (kind === undefined) {
    throw new EvenkeelError('FILE_NOT_FOUND', `There is no file or folder ${path}.`);
  }
  for (const name of ['best.safetensors', 'last.safetensors']) {
    if ((await kindOf(join(path, name))) === 'file') {
      return join(path, name);
    }
  }
  for (const step of ['step2', 'step1']) {
    if ((await kindOf(join(path, step))) === 'directory') {
      const problem = `${path} holds the steps of train-binary and no checkpoint of its own`;
      throw new EvenkeelError('FILE_NOT_FOUND', `${problem}: give ${join(path, step)}.`);
    }
  }
  throw new EvenkeelError(
    'FILE_NOT_FOUND',
    `${path} holds no best.safetensors or last.safetensors: is it a run directory?`,
  );
}

async function kindOf(path: string): Promise<'file' | 'directory' | undefined> {
  try {
    return (await stat(path)).isDirectory() ? 'directory' : 'file';
  } catch {
    return undefined;
  }
}
