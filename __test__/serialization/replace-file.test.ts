import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ReplaceFileSystem, replaceFile, type WritableFile } from '../../src/serialization/replace-file';
import { writeSafetensors } from '../../src/serialization/safetensors';

let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'evenkeel-replace-'));
  file = join(directory, 'last.safetensors');
  await writeFile(file, 'the old content');
});

afterEach(() => rm(directory, { recursive: true, force: true }));

/** The real file system, recording its calls, and failing with `code` at the call named `failAt`. */
function recordingFileSystem(failAt?: string, code = 'EIO'): { fileSystem: ReplaceFileSystem; calls: string[] } {
  const calls: string[] = [];
  const call = (name: string) => {
    calls.push(name);
    if (name === failAt) {
      throw Object.assign(new Error(`${code}: made to fail`), { code });
    }
  };
  const fileSystem: ReplaceFileSystem = {
    async open(path, flags) {
      const kind = flags === 'r' ? 'directory' : 'file';
      call(`open ${kind}`);
      const handle = await open(path, flags);
      const wrapped: WritableFile = {
        async write(buffer, offset, length) {
          call('write');
          // A short write now and then, as the system may do.
          return handle.write(buffer, offset, Math.min(length, 5));
        },
        async sync() {
          call(`sync ${kind}`);
          await handle.sync();
        },
        async close() {
          await handle.close();
          call(`close ${kind}`);
        },
      };
      return wrapped;
    },
    async rename(from, to) {
      call('rename');
      await rename(from, to);
    },
    async unlink(path) {
      call('unlink');
      await unlink(path);
    },
  };
  return { fileSystem, calls };
}

test('writes, syncs, renames and syncs the directory, in this order', async () => {
  const { fileSystem, calls } = recordingFileSystem();
  await replaceFile(file, ['12345', new Uint8Array([54, 55])], fileSystem);
  expect(await readFile(file, 'utf8')).toBe('1234567');
  expect(calls).toEqual([
    'open file',
    'write',
    'write',
    'sync file',
    'close file',
    'rename',
    'open directory',
    'sync directory',
    'close directory',
  ]);
  expect(await readdir(directory)).toEqual(['last.safetensors']);
});

test.each(['open file', 'write', 'sync file', 'close file', 'rename'])(
  'a failing %s keeps the old file and leaves no temporary',
  async (failAt) => {
    const { fileSystem } = recordingFileSystem(failAt);
    await expect(replaceFile(file, ['new'], fileSystem)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining(file),
    });
    expect(await readFile(file, 'utf8')).toBe('the old content');
    expect(await readdir(directory)).toEqual(['last.safetensors']);
  },
);

test.each(['open directory', 'sync directory'])('a failing %s does not fail the write', async (failAt) => {
  await replaceFile(file, ['new'], recordingFileSystem(failAt).fileSystem);
  expect(await readFile(file, 'utf8')).toBe('new');
});

test('an error while the content is produced keeps the old file', async () => {
  async function* chunks() {
    yield 'some';
    throw new Error('the source failed');
  }
  await expect(replaceFile(file, chunks())).rejects.toMatchObject({ code: 'IO' });
  expect(await readFile(file, 'utf8')).toBe('the old content');
  expect(await readdir(directory)).toEqual(['last.safetensors']);
});

test('a missing directory is an IO error', async () => {
  await expect(replaceFile(join(directory, 'none', 'x'), ['new'])).rejects.toMatchObject({ code: 'IO' });
});

(existsSync('/dev/full') ? test : test.skip)('a full disk, by the system itself, keeps the old file', async () => {
  // Every write to /dev/full is answered with ENOSPC by the kernel.
  const fileSystem: ReplaceFileSystem = {
    open: async (path, flags) => {
      if (flags === 'r') {
        return open(path, flags);
      }
      await writeFile(path, '');
      return open('/dev/full', 'w');
    },
    rename,
    unlink,
  };
  const tensors = [{ name: 'weight', shape: [1000], values: new Float32Array(1000) }];
  await expect(writeSafetensors(file, tensors, {}, fileSystem)).rejects.toMatchObject({
    code: 'IO',
    message: expect.stringMatching(/ENOSPC.*disk is full/s),
  });
  expect(await readFile(file, 'utf8')).toBe('the old content');
  expect(await readdir(directory)).toEqual(['last.safetensors']);
});

test('two writers at once leave one whole content', async () => {
  const contents = ['a'.repeat(100_000), 'b'.repeat(100_000)];
  await Promise.all(contents.map((content) => replaceFile(file, [content])));
  expect(contents).toContain(await readFile(file, 'utf8'));
  expect(await readdir(directory)).toEqual(['last.safetensors']);
});

test('a directory in the way is an IO error and stays', async () => {
  const blocked = join(directory, 'blocked');
  await mkdir(join(blocked, 'inner'), { recursive: true });
  await expect(replaceFile(blocked, ['new'])).rejects.toMatchObject({ code: 'IO' });
  expect(existsSync(join(blocked, 'inner'))).toBe(true);
  expect((await readdir(directory)).sort()).toEqual(['blocked', 'last.safetensors']);
});
