import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LineServer } from './line-server';

/** A memory layout of PyTorch's. The better of the two is what Evenkeel is compared with. */
export type Layout = 'NCHW' | 'NHWC';

/** Work for `torch_server.py`; its comment lists the fields. */
export type TorchRequest = Readonly<Record<string, unknown>> & { readonly work: string };

/**
 * A Python with the pinned PyTorch: `EVENKEEL_TORCH_PYTHON` where set, else a virtual environment in `bench/peers/.venv`, made
 * from the package index at the first call.
 */
export function torchPython(): string {
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

/** PyTorch in a process of its own. */
export class TorchPeer {
  readonly #server: LineServer;

  constructor(threads: number) {
    this.#server = new LineServer(torchPython(), [join(__dirname, 'torch_server.py')], {
      ...process.env,
      OMP_NUM_THREADS: String(threads),
      // Waiting threads must not burn the cores that the other side is measured on.
      OMP_WAIT_POLICY: 'passive',
    });
  }

  /** Seconds of each of `steps` calls. */
  async time(request: TorchRequest, steps: number): Promise<number[]> {
    return this.#server.times({ ...request, steps }, 'PyTorch');
  }

  close(): void {
    this.#server.close();
  }
}
