/**
 * `npm run bench -- [NAME ...] [--peers] [--compile] [--tensorflow] [--json] [--markdown] [--seconds S] [--rounds N] [--only TEXT]`:
 * runs the benchmarks `bench/NAME.bench.ts`, all of them without names.
 *
 * --peers      times PyTorch too, in turn with ours, and prints ratios with their spread
 * --compile    times torch.compile too, for whole networks (needs a C++ compiler, and minutes)
 * --tensorflow times TensorFlow.js too, for whole networks
 * --only       takes the cases whose name contains a text
 * --json       prints one JSON document on standard output
 * --markdown   prints the tables of docs/performance.md on standard output
 */
import { readdirSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { type CompareOptions, type Comparison, markdownTable } from './compare';

const suffix = '.bench.ts';

async function main(): Promise<void> {
  const names = readdirSync(__dirname)
    .filter((file) => file.endsWith(suffix))
    .map((file) => file.slice(0, -suffix.length));
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      peers: { type: 'boolean', default: false },
      compile: { type: 'boolean', default: false },
      tensorflow: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      markdown: { type: 'boolean', default: false },
      seconds: { type: 'string', default: '0.3' },
      rounds: { type: 'string', default: '7' },
      only: { type: 'string', default: '' },
    },
  });
  const unknown = positionals.filter((name) => !names.includes(name));
  if (unknown.length > 0) {
    console.error(`bench: no benchmark ${unknown.join(', ')}; there are ${names.join(', ')}`);
    process.exitCode = 2;
    return;
  }
  const options: CompareOptions = {
    peers: values.peers,
    compile: values.compile,
    tensorflow: values.tensorflow,
    seconds: Number(values.seconds),
    rounds: Number(values.rounds),
    only: values.only,
  };
  const machine = `Node.js ${process.version}, ${availableParallelism()} threads, ${cpus()[0]?.model ?? process.arch}`;
  console.error(machine);
  const results: Record<string, readonly object[]> = {};
  for (const name of positionals.length > 0 ? positionals : names) {
    console.error(`\n── ${name}`);
    const { run } = require(join(__dirname, `${name}${suffix}`)) as {
      run: (options: CompareOptions) => Promise<object[] | undefined>;
    };
    const rows = await run(options);
    if (rows === undefined) continue;
    results[name] = rows;
    const compared = rows.filter((row): row is Comparison => 'peers' in row);
    if (values.markdown && compared.length > 0) console.log(`\n## ${name}\n\n${markdownTable(compared)}`);
  }
  if (values.json) console.log(JSON.stringify({ machine, options, results }, null, 2));
}

void main();
