/**
 * `npm run bench [-- NAME ...]`: runs the benchmarks `bench/NAME.bench.ts`, all of them without names. Each exports
 * `run(): Promise<void>` and prints its own results.
 */
import { readdirSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';

const suffix = '.bench.ts';

async function main(): Promise<void> {
  const names = readdirSync(__dirname)
    .filter((file) => file.endsWith(suffix))
    .map((file) => file.slice(0, -suffix.length));
  const wanted = process.argv.slice(2);
  const unknown = wanted.filter((name) => !names.includes(name));
  if (unknown.length > 0) {
    console.error(`bench: no benchmark ${unknown.join(', ')}; there are ${names.join(', ')}`);
    process.exitCode = 2;
    return;
  }
  console.log(`Node.js ${process.version}, ${availableParallelism()} threads, ${cpus()[0]?.model ?? process.arch}`);
  for (const name of wanted.length > 0 ? wanted : names) {
    console.log(`\n── ${name}`);
    const { run } = require(join(__dirname, `${name}${suffix}`)) as { run: () => Promise<void> };
    await run();
  }
}

void main();
