import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LineServer } from './line-server';
import type { TorchRequest } from './torch';

const folder = join(__dirname, 'tensorflow');

/** The pinned TensorFlow.js, installed next to its package.json at the first call, without install scripts. */
function installed(): string {
  if (!existsSync(join(folder, 'node_modules', '@tensorflow', 'tfjs'))) {
    const { dependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { dependencies: object };
    console.error(`installing ${JSON.stringify(dependencies)} …`);
    const { status } = spawnSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund'], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'inherit'],
      shell: process.platform === 'win32',
    });
    if (status !== 0) throw new Error(`npm install failed in ${folder}`);
  }
  return join(folder, 'server.mjs');
}

/**
 * TensorFlow.js in a process of its own. Its `cpu` backend, plain JavaScript: the WebAssembly backend has no gradient of a
 * convolution's weights, and the native one (tfjs-node) downloads a library in an install script.
 */
export class TensorFlowPeer {
  readonly #server = new LineServer(process.execPath, [installed()]);

  /** Seconds of each of `steps` calls. */
  async time(request: TorchRequest, steps: number): Promise<number[]> {
    return this.#server.times({ ...request, steps }, 'TensorFlow.js');
  }

  close(): void {
    this.#server.close();
  }
}
