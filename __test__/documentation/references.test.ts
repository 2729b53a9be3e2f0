import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { nn } from '../../src';
import { main } from '../../src/cli/main';

const root = join(__dirname, '..', '..');
const generated = new Set(['node_modules', 'target', 'dist', 'runs', '.git']);

/** All files and folders of the repository, from its root with `/`; folders end with it. */
const paths = walk(root);
const documents = paths.filter((path) => /^([^/]+|docs\/.+)\.md$/.test(path));

function walk(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => !generated.has(name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      const name = relative(root, path).split(sep).join('/');
      return entry.isDirectory() ? [`${name}/`, ...walk(path)] : [name];
    });
}

function text(document: string): string {
  return readFileSync(join(root, document), 'utf8');
}

/** A document without its code blocks. */
function prose(document: string): string {
  return text(document).replace(/^```[\s\S]*?^```$/gm, '');
}

/** The anchors that GitHub makes of the headings. */
function anchors(document: string): string[] {
  return [...prose(document).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replace(/ /g, '-'),
  );
}

/** The rows of the table whose heading begins with `heading`, as cells. */
function rows(document: string, heading: string): string[][] {
  const [, table = ''] = text(document).split(`| ${heading}`);
  const lines = table.split('\n').slice(2);
  const end = lines.findIndex((line) => !line.startsWith('|'));
  return lines.slice(0, end).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

describe.each(documents)('%s', (document) => {
  it('links to files and headings that exist', () => {
    const broken = [...prose(document).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target = '']) => {
      if (/^https?:/.test(target)) return [];
      const [path = '', anchor] = target.split('#');
      const file =
        path === ''
          ? document
          : relative(root, join(root, dirname(document), path))
              .split(sep)
              .join('/');
      const found = existsSync(join(root, file)) && (anchor === undefined || anchors(file).includes(anchor));
      return found ? [] : [target];
    });
    expect(broken).toEqual([]);
  });

  it('names sources that exist', () => {
    // A name may leave out the folders in front: `plan.rs` in the document about convolution. `NAME` stands for any.
    const named = [...prose(document).matchAll(/`([\w.@-]+(?:\/[\w.@-]+)*(?:\.(?:rs|ts|mjs|sh|md)|\/))`/g)];
    const missing = named
      .map(([, name = '']) => name)
      .filter((name) => !/^runs\/|NAME/.test(name) && !existsSync(join(root, dirname(document), name)))
      .filter((name) => !paths.some((path) => `/${path}`.endsWith(`/${name}`)));
    expect(missing).toEqual([]);
  });

  it('gives commands the options that they have', async () => {
    const commands = text(document)
      .replace(/\\\n\s*/g, '')
      .matchAll(/\bevenkeel ([a-z-]+) ([^\n`#]*)/g);
    for (const [line, command = '', rest = ''] of commands) {
      const options = rest.match(/(?<=^|\s)--[a-z][a-z-]*/g) ?? [];
      let help = '';
      const write = (chunk: string) => {
        help += chunk;
      };
      await main([command, '--help'], { out: { write }, error: { write } });
      const missing = options.filter((option) => !new RegExp(`${option}(?![a-z-])`).test(help));
      expect([line, ...missing]).toEqual([line]);
    }
  });
});

it('finds documents and the things in them', () => {
  expect(documents).toEqual(
    expect.arrayContaining(['README.md', 'docs/training.md', 'docs/experiments/methods/README.md']),
  );
  expect(anchors('docs/training.md')).toContain('a-loop-of-your-own');
});

describe('tables of normalization methods', () => {
  const names = Object.keys(nn.normalizations) as nn.NormalizationName[];

  it.each([
    ['README.md', 'name | method'],
    ['docs/normalization.md', 'name | statistics over'],
  ])('%s says of every method whether samples are independent', (document, heading) => {
    const found = rows(document, heading).map(([name, , independent = '']) => [name, independent.split(' ')[0]]);
    const expected = names.map((name) => [`\`${name}\``, nn.normalizations[name]().mixesSamples ? 'no' : 'yes']);
    expect(found.sort()).toEqual(expected.sort());
  });

  it('docs/normalization.md has the options of every method', () => {
    const cells = new Map(
      rows('docs/normalization.md', 'name | statistics over').map(([name, , , cell]) => [name, cell]),
    );
    for (const name of names) {
      const cell = cells.get(`\`${name}\``) ?? '';
      const [, other] = /^as (`[a-z-]+`)$/.exec(cell) ?? [];
      const own = ((other === undefined ? cell : cells.get(other)) ?? '').replace(/\(.*?\)/g, '');
      const listed = [...own.matchAll(/`([a-zA-Z]+)`/g)].map(([, option]) => option);
      let message = '';
      try {
        nn.normalizations[name]({ misspelt: 1 } as object);
      } catch (error) {
        message = (error as Error).message;
      }
      const has = message.split('the options are ')[1]?.split(', ') ?? [];
      expect([name, ...listed.sort()]).toEqual([name, ...has.sort()]);
    }
  });
});

describe('rooms of docs/architecture.md', () => {
  const [, block = ''] = /## Rooms\n\n```\n([\s\S]*?)```/.exec(text('docs/architecture.md')) ?? [];
  let parent = '';
  const rooms = block
    .trim()
    .split('\n')
    .flatMap((line) => {
      const [, indent = '', entries = ''] = /^( *)(\S+(?: \S+)*)/.exec(line) ?? [];
      const [first = '', ...others] = entries.split(' ').filter((entry) => /(\/|\.rs|\.ts)$/.test(entry));
      if (indent === '') parent = first;
      const path = indent === '' ? first : `${parent}${first}`;
      const folder = path.replace(/[^/]+\/?$/, '');
      return [path, ...others.map((other) => `${folder}${other}`)];
    });

  it('exist', () => {
    expect(rooms.length).toBeGreaterThan(20);
    expect(rooms.filter((room) => !paths.includes(room))).toEqual([]);
  });

  it.each(['src/', 'crates/evenkeel-node/src/'])('are all folders and TypeScript files of %s', (folder) => {
    const inside = paths.filter(
      (path) => path.startsWith(folder) && /^[^/]+(\/|\.ts)$/.test(path.slice(folder.length)),
    );
    expect(inside.filter((path) => !rooms.includes(path))).toEqual([]);
  });
});
