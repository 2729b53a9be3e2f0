import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';

/** A memory layout of PyTorch's. The better of the two is what Evenkeel is compared with. */
export type Layout = 'NCHW' | 'NHWC';

/** Work for `torch_server.py`; its comment lists the fields. */
export type TorchRequest = Readonly<Record<string, unknown>> & { readonly work: string };

interface Answer {
  readonly seconds?: number[];
  readonly error?: string;
}

/**
 * A Python with the pinned PyTorch: `EVENKEEL_TORCH_PYTHON` where set, else a virtual environment in `bench/peers/.venv`, made
 * from the package index at the first call.
 */
function python(): string {
  const given = process.env['EVENKEEL_TORCH_PYTHON'];
  if (given !== undefined && given !== '') return given;
  const environment = join(__dirname, '.venv');
  const executable = join(environment, 'bin', 'python');
  if (!existsSync(executable)) {
    const requirements = join(__dirname, 'requirements.txt');
    console.error(
      `making a Python environment with ${readFileSync(requirements, 'utf8').trim().replaceAll('\n', ', ')} …`,
    );
    for (const [command, ...words] of [
      ['python3', '-m', 'venv', environment],
      [executable, '-m', 'pip', 'install', '--quiet', '--requirement', requirements],
    ] as const) {
      const { status } = spawnSync(command, words, { stdio: 'inherit' });
      if (status !== 0)
        throw new Error(`${command} ${words.join(' ')} failed; set EVENKEEL_TORCH_PYTHON to a Python with torch`);
    }
  }
  return executable;
}

/** PyTorch in a process of its own that answers one request at a time, and is idle in between. */
export class TorchPeer {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;

  constructor(threads: number) {
    this.#process = spawn(python(), [join(__dirname, 'torch_server.py')], {
      stdio: ['pipe', 'pipe', 'inherit'],
      // Waiting threads must not burn the cores that the other side is measured on.
      env: { ...process.env, OMP_NUM_THREADS: String(threads), OMP_WAIT_POLICY: 'passive' },
    });
    this.#reader = createInterface({ input: this.#process.stdout! });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  /** Seconds of each of `steps` calls. */
  async time(request: TorchRequest, steps: number): Promise<number[]> {
    this.#process.stdin!.write(`${JSON.stringify({ ...request, steps })}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('the Python process ended');
    const answer = JSON.parse(value) as Answer;
    if (answer.seconds === undefined) throw new Error(`PyTorch: ${answer.error}`);
    return answer.seconds;
  }

  close(): void {
    this.#process.stdin!.end();
    this.#reader.close();
  }
}
