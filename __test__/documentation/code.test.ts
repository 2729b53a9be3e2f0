import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import ts from 'typescript';

/** With `/` everywhere, as the compiler writes paths. */
const root = join(__dirname, '..', '..').split(sep).join('/');
const documents = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith('.md'),
);

/** What the code in documents may use without making it; a block that declares a name itself does without. */
const given: Readonly<Record<string, string>> = {
  model: 'nn.Module<Tensor, Tensor>',
  teacher: 'nn.Module<Tensor, Tensor>',
  // A batch in one place, the pixels of a data set in another.
  images: 'Tensor & Uint8Array',
  labels: 'readonly number[]',
  testImages: 'Uint8Array',
  testLabels: 'readonly number[]',
  test: 'data.Dataset',
};

/** The TypeScript blocks as modules: those without an import get one of everything, and what is given. */
const blocks = new Map(
  documents.flatMap((document) =>
    [...readFileSync(join(root, document), 'utf8').matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(
      ([, code = ''], index): [string, string] => {
        const path = `${root}/${document.replace(/\W/g, '-')}-${index + 1}.mts`;
        if (code.includes("from 'evenkeel'")) return [path, code];
        const declared = Object.entries(given)
          .filter(([name]) => !new RegExp(`const (\\{[^}]*)?\\b${name}\\b`).test(code))
          .map(([name, type]) => `declare const ${name}: ${type};`);
        const names = 'checkpoint, data, evaluate, models, nn, noGrad, optim, scope, type Tensor';
        return [path, `import { ${names} } from 'evenkeel';\n${declared.join('\n')}\n${code}`];
      },
    ),
  ),
);

function compile(): ts.Program {
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.esnext.d.ts'],
    types: ['node'],
    paths: { evenkeel: [`${root}/src/index.ts`] },
  };
  const host = ts.createCompilerHost(options);
  const { getSourceFile } = host;
  host.fileExists = (path) => blocks.has(path) || existsSync(path);
  host.getSourceFile = (path, language, ...rest) => {
    const code = blocks.get(path);
    return code === undefined
      ? getSourceFile.call(host, path, language, ...rest)
      : ts.createSourceFile(path, code, language);
  };
  return ts.createProgram({ rootNames: [...blocks.keys()], options, host });
}

it('is right in every document: names, options, types', () => {
  const program = compile();
  const problems = [...blocks.keys()].flatMap((path) => {
    const file = program.getSourceFile(path);
    return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)].map(
      ({ messageText }) => `${path.slice(root.length + 1)}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`,
    );
  });
  expect(problems).toEqual([]);
  expect(blocks.size).toBeGreaterThan(8);
}, 60_000);
