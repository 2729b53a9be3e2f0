import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';

interface Answer {
  readonly seconds?: number[];
  readonly error?: string;
}

/** A process that answers one line of JSON for each line of JSON, and is idle in between. */
export class LineServer {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;

  constructor(command: string, words: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    this.#process = spawn(command, words, { stdio: ['pipe', 'pipe', 'inherit'], env });
    this.#reader = createInterface({ input: this.#process.stdout! });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  /** Asks for times, in seconds. */
  async times(request: object, name: string): Promise<number[]> {
    this.#process.stdin!.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`${name}: the process ended`);
    const answer = JSON.parse(value) as Answer;
    if (answer.seconds === undefined) throw new Error(`${name}: ${answer.error}`);
    return answer.seconds;
  }

  close(): void {
    this.#process.stdin!.end();
    this.#reader.close();
  }
}
