import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findRepeatedKey, MAXIMUM_HEADER_BYTES } from '../../src/serialization/header';
import { readSafetensors, readSafetensorsHeader, writeSafetensors } from '../../src/serialization/safetensors';

let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'evenkeel-safetensors-'));
  file = join(directory, 'model.safetensors');
});

afterEach(() => rm(directory, { recursive: true, force: true }));

/** A file with the given header and data, and no checksums, as another program might write it. */
async function writeRaw(header: unknown, dataBytes: number, text = JSON.stringify(header)): Promise<void> {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  await writeFile(file, Buffer.concat([length, Buffer.from(text), Buffer.alloc(dataBytes, 1)]));
}

const entry = (begin: number, end: number, shape = [(end - begin) / 4]) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

describe('a file written and read back', () => {
  test('keeps every bit, name, shape and metadata string', async () => {
    const special = new Float32Array([0, -0, 1e-45, 3.4e38, Infinity, -Infinity, NaN]);
    await writeSafetensors(
      file,
      [
        { name: 'bytes', shape: [3], values: new Uint8Array([1, 2, 255]) },
        { name: 'special "quoted" é', shape: [7], values: special },
        { name: 'scalar', shape: [], values: new Int32Array([-5]) },
        { name: 'empty', shape: [0, 3], values: new Float32Array(0) },
        { name: 'signed', shape: [3], values: new Int8Array([-128, 127, -1]) },
        { name: 'half', shape: [2, 1], values: new Uint16Array([0x3c00, 0xfbff]) },
        { name: 'double', shape: [1, 2], values: new Float64Array([Math.PI, -1]) },
      ],
      { format: 'pt', 'key "x"': 'väl\nue $& $1' },
    );
    const { tensors, metadata } = await readSafetensors(file);
    expect(metadata.get('format')).toBe('pt');
    expect(metadata.get('key "x"')).toBe('väl\nue $& $1');
    expect([...tensors.keys()].sort()).toEqual([
      'bytes',
      'double',
      'empty',
      'half',
      'scalar',
      'signed',
      'special "quoted" é',
    ]);
    const read = tensors.get('special "quoted" é')!;
    expect(read.shape).toEqual([7]);
    expect(Buffer.from(read.values.buffer)).toEqual(Buffer.from(special.buffer));
    expect(tensors.get('bytes')!.values).toEqual(new Uint8Array([1, 2, 255]));
    expect(tensors.get('scalar')).toMatchObject({ shape: [], elementType: 'I32', values: new Int32Array([-5]) });
    expect(tensors.get('signed')).toMatchObject({ elementType: 'I8', values: new Int8Array([-128, 127, -1]) });
    expect(tensors.get('half')).toMatchObject({ elementType: 'F16', values: new Uint16Array([0x3c00, 0xfbff]) });
    expect(tensors.get('empty')).toMatchObject({ shape: [0, 3] });
    expect(tensors.get('double')!.values).toEqual(new Float64Array([Math.PI, -1]));
    expect(await readdir(directory)).toEqual(['model.safetensors']);
  });

  test('lays every tensor at a multiple of its element size', async () => {
    await writeSafetensors(file, [
      { name: 'odd', shape: [3], values: new Uint8Array(3) },
      { name: 'wide', shape: [2], values: new Float32Array(2) },
    ]);
    const bytes = await readFile(file);
    expect(Number(bytes.readBigUInt64LE(0)) % 8).toBe(0);
    const { tensors } = await readSafetensorsHeader(file);
    expect(tensors.map(({ name, begin }) => [name, begin])).toEqual([
      ['wide', 0],
      ['odd', 8],
    ]);
  });

  test('views with an offset into a larger buffer are written as what they show', async () => {
    const values = new Float32Array([9, 1, 2, 9]).subarray(1, 3);
    await writeSafetensors(file, [{ name: 'view', shape: [2], values }]);
    expect((await readSafetensors(file)).tensors.get('view')!.values).toEqual(new Float32Array([1, 2]));
  });

  test('wrong arguments are refused before the old file is touched', async () => {
    await writeFile(file, 'old');
    const values = new Float32Array(2);
    const attempts = [
      [{ name: 'a', shape: [3], values }],
      [{ name: '__metadata__', shape: [2], values }],
      [
        { name: 'a', shape: [2], values },
        { name: 'a', shape: [2], values },
      ],
    ];
    for (const tensors of attempts) {
      await expect(writeSafetensors(file, tensors)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    expect(await readFile(file, 'utf8')).toBe('old');
    expect(await readdir(directory)).toEqual(['model.safetensors']);
  });
});

describe('damaged files', () => {
  test('every single byte of a small file, flipped, is noticed', async () => {
    await writeSafetensors(file, [{ name: 'weight', shape: [2, 2], values: new Float32Array([1, 2, 3, 4]) }], {
      step: '12',
    });
    const whole = await readFile(file);
    const unnoticed: string[] = [];
    for (let position = 0; position < whole.length; position += 1) {
      const damaged = Buffer.from(whole);
      damaged[position] = damaged[position]! ^ 0x01;
      await writeFile(file, damaged);
      const outcome = await readSafetensors(file).then(
        ({ metadata }) => (metadata.has('evenkeel.header_checksum') ? 'read' : 'foreign'),
        (error) => error.code,
      );
      // A flip inside the name of the checksum's own key makes a file without checksums; a checkpoint refuses those.
      if (outcome !== 'CORRUPT_FILE' && outcome !== 'foreign') {
        unnoticed.push(`byte ${position}: ${outcome}`);
      }
    }
    expect(unnoticed).toEqual([]);
  });

  test('every truncation of a small file, and bytes added behind it, are noticed', async () => {
    await writeSafetensors(file, [{ name: 'weight', shape: [3], values: new Float32Array([1, 2, 3]) }]);
    const whole = await readFile(file);
    for (let length = 0; length < whole.length; length += 1) {
      await writeFile(file, whole.subarray(0, length));
      await expect(readSafetensors(file)).rejects.toMatchObject({ code: 'CORRUPT_FILE' });
    }
    await writeFile(file, Buffer.concat([whole, Buffer.from([0])]));
    await expect(readSafetensors(file)).rejects.toThrow(/1 bytes follow the last tensor/);
  });

  const headerLength = (length: bigint) => async () => {
    const bytes = Buffer.alloc(64, ' ');
    bytes.writeBigUInt64LE(length);
    await writeFile(file, bytes);
  };
  const overflowing = [2 ** 30, 2 ** 30, 2 ** 30];
  test.each<[string, () => Promise<void>, RegExp]>([
    ['an empty file', () => writeFile(file, ''), /0 bytes long/],
    ['a header length beyond the limit', headerLength(BigInt(MAXIMUM_HEADER_BYTES) + 1n), /at most 100000000/],
    ['a header length of 2^64-1', headerLength(2n ** 64n - 1n), /18446744073709551615/],
    ['a header longer than the file', headerLength(1000n), /56 bytes follow/],
    ['a header of length 0', headerLength(0n), /header of 0 bytes/],
    ['a header that is no JSON', () => writeRaw(null, 0, '{"a": '), /not valid JSON/],
    ['a header that starts with a space', () => writeRaw(null, 0, ' {}'), /begin with '\{'/],
    ['a header that is an array', () => writeRaw(null, 0, '[1]'), /begin with '\{'/],
    ['an unknown dtype', () => writeRaw({ w: { ...entry(0, 8), dtype: 'F31' } }, 8), /"w": its dtype is "F31"/],
    ['a dtype named like a method', () => writeRaw({ w: { ...entry(0, 8), dtype: 'toString' } }, 8), /"toString"/],
    ['a missing shape', () => writeRaw({ w: { dtype: 'F32', data_offsets: [0, 8] } }, 8), /"w": its shape undefined/],
    ['a negative extent', () => writeRaw({ w: entry(0, 8, [-2]) }, 8), /whole numbers from 0/],
    ['a fractional extent', () => writeRaw({ w: entry(0, 8, [0.5, 4]) }, 8), /whole numbers from 0/],
    ['an overflowing shape', () => writeRaw({ w: entry(0, 8, overflowing) }, 8), /more elements than can be counted/],
    ['overflow beside a zero', () => writeRaw({ w: entry(0, 0, [0, ...overflowing]) }, 0), /more elements/],
    ['three offsets', () => writeRaw({ w: { ...entry(0, 8), data_offsets: [0, 4, 8] } }, 8), /two whole numbers/],
    ['offsets that run backwards', () => writeRaw({ w: { ...entry(0, 8), data_offsets: [8, 0] } }, 8), /span -8 bytes/],
    [
      'a size that does not fit',
      () => writeRaw({ w: entry(0, 8, [3]) }, 8),
      /span 8 bytes, and F32 of shape \[3\] takes 12/,
    ],
    ['an unknown key', () => writeRaw({ w: { ...entry(0, 8), extra: 1 } }, 8), /unknown key "extra"/],
    ['overlapping tensors', () => writeRaw({ a: entry(0, 8), b: entry(4, 12) }, 12), /"b".*overlap/],
    ['a hole', () => writeRaw({ a: entry(0, 8), b: entry(12, 16) }, 16), /"b".*leave a hole/],
    ['a hole at the start', () => writeRaw({ a: entry(4, 8) }, 8), /"a".*leave a hole/],
    ['data beyond the file', () => writeRaw({ a: entry(0, 8) }, 4), /"a".*reach past the end/],
    ['bytes left over', () => writeRaw({ a: entry(0, 8) }, 12), /4 bytes follow the last tensor/],
    [
      'a tensor twice',
      () => writeRaw(null, 8, '{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":1}'),
      /"w" twice/,
    ],
    ['a tensor twice, once escaped', () => writeRaw(null, 0, '{"w":1,"\\u0077":1}'), /"w" twice/],
    ['metadata of numbers', () => writeRaw({ __metadata__: { step: 1 } }, 0), /other than a string under "step"/],
    ['metadata of another kind', () => writeRaw({ __metadata__: 'x' }, 0), /not an object of strings/],
    ['a description of another kind', () => writeRaw({ w: [] }, 0), /"w": its description is not an object/],
  ])('%s', async (_, write, message) => {
    await write();
    const reading = readSafetensors(file);
    await expect(reading).rejects.toMatchObject({ name: 'EvenkeelError', code: 'CORRUPT_FILE' });
    await expect(reading).rejects.toThrow(message);
    await expect(reading).rejects.toThrow(file);
    await expect(readSafetensorsHeader(file)).rejects.toMatchObject({ code: 'CORRUPT_FILE' });
  });

  test('a header that is not UTF-8', async () => {
    const bytes = Buffer.concat([Buffer.alloc(8), Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])]);
    bytes.writeBigUInt64LE(7n);
    await writeFile(file, bytes);
    await expect(readSafetensors(file)).rejects.toThrow(/not valid UTF-8/);
  });

  test('a flipped data bit names the tensor and its bytes', async () => {
    await writeSafetensors(file, [
      { name: 'first', shape: [2], values: new Float32Array(2) },
      { name: 'second', shape: [2], values: new Float32Array(2) },
    ]);
    const bytes = await readFile(file);
    bytes[bytes.length - 1]! ^= 0x80;
    await writeFile(file, bytes);
    const last = bytes.length;
    await expect(readSafetensors(file)).rejects.toThrow(
      new RegExp(`"second": bytes ${last - 8}-${last} have checksum`),
    );
  });

  test('a file that is not there, and a directory', async () => {
    await expect(readSafetensors(join(directory, 'none'))).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
    await expect(readSafetensors(directory)).rejects.toMatchObject({ code: expect.stringMatching(/IO|CORRUPT_FILE/) });
  });
});

test('files of other programs, without checksums, are read', async () => {
  await writeRaw({ __metadata__: { format: 'pt' }, w: { dtype: 'BF16', shape: [2, 2], data_offsets: [0, 8] } }, 8);
  const { tensors } = await readSafetensors(file);
  expect(tensors.get('w')).toMatchObject({ elementType: 'BF16', shape: [2, 2], values: new Uint16Array(4).fill(257) });
});

test('repeated keys are found at every depth and only within one object', () => {
  expect(findRepeatedKey('{"a":{"b":1},"b":{"a":[{"a":"a:"},{"a":1}]}}')).toBeUndefined();
  expect(findRepeatedKey('{"a":{"b":1,"c":[{}],"b":2}}')).toBe('b');
  expect(findRepeatedKey('{"a\\"":1,"x":"{\\"a\\":1","a\\"":2}')).toBe('a"');
});
