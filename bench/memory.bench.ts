/**
 * The most memory that training steps of ResNet-20 hold, against PyTorch: each side in a fresh process, the peak of its resident
 * memory during ten steps less what it held before the model was made. Linux only.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { getThreads } from '../src';
import type { CompareOptions } from './compare';
import { torchPython } from './peers/torch';

const batch = 128;
const steps = 10;

function megabytes(command: string, words: readonly string[]): number {
  const { stdout, status } = spawnSync(command, words, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, OMP_NUM_THREADS: String(getThreads()) },
  });
  const bytes = Number(stdout.trim().split('\n').at(-1));
  if (status !== 0 || !(bytes > 0)) throw new Error(`${command} ${words.join(' ')} gave no number of bytes`);
  return bytes / 2 ** 20;
}

export async function run({ peers, only = '' }: CompareOptions): Promise<undefined> {
  if (process.platform !== 'linux') {
    console.error('peak memory is read from /proc, which only Linux has');
    return;
  }
  for (const norm of ['batch', 'group', 'frn'] as const) {
    const name = `ResNet-20, ${norm}, batch ${batch}: peak memory`;
    if (!name.includes(only)) continue;
    const words = [norm, String(batch), String(steps)];
    const ours = megabytes(process.execPath, [...process.execArgv, join(__dirname, 'memory-of-training.ts'), ...words]);
    let row = `${name.padEnd(50)} ${ours.toFixed(0).padStart(8)} MB`;
    if (peers) {
      const layouts = ['NCHW', 'NHWC'].map((layout) => ({
        layout,
        torch: megabytes(torchPython(), [join(__dirname, 'peers', 'torch_memory.py'), ...words, layout]),
      }));
      const { layout, torch } = layouts.sort((a, b) => a.torch - b.torch)[0]!;
      row += `   PyTorch ${layout} ${torch.toFixed(0)} MB   ours/theirs ${(ours / torch).toFixed(2)}`;
    }
    console.error(row);
  }
  return undefined;
}
