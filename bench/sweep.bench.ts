/**
 * 3×3 convolutions, forward and backward, for channels from 1 to 130 and images from 1² to 64²: no shape may fall off a cliff. Writes a
 * picture, `target/evenkeel/convolution-sweep.svg`, or where EVENKEEL_SWEEP says.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Case, type CompareOptions, type Comparison, compare } from './compare';
import { convolution } from './convolution-case';
import { type HeatMap, heatMaps } from './heat-map';

const channelCounts = [1, 2, 3, 4, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 130];
const sizes = [1, 2, 3, 5, 7, 8, 13, 16, 17, 28, 32, 33, 56, 64];

/** Images enough for about 100 million multiply-adds, 256 at most: a shape's own cost, not that of starting it. */
function batchFor(channels: number, size: number): number {
  return Math.max(1, Math.min(256, Math.round(1e8 / (9 * channels ** 2 * size ** 2))));
}

function* cases(): Generator<Case> {
  for (const channels of channelCounts) {
    for (const size of sizes) {
      yield convolution({ batch: batchFor(channels, size), size, inChannels: channels, outChannels: channels });
    }
  }
}

function heatMap(title: string, format: (value: number) => string, values: readonly number[], middle: number): HeatMap {
  return { title, columns: channelCounts, rows: sizes, across: 'channels', down: 'image side', format, middle, values };
}

export async function run({ seconds = 0.3, rounds = 7, ...options }: CompareOptions): Promise<Comparison[]> {
  const results = await compare(cases(), { ...options, seconds: seconds / 10, rounds: Math.min(rounds, 3) });
  if (options.only !== undefined && options.only !== '') return results;
  const maps = [
    heatMap(
      'GFLOP/s of Evenkeel',
      (value) => value.toFixed(0),
      results.map(({ ours }) => ours),
      200,
    ),
  ];
  if (options.peers) {
    const ratios = results.map(({ peers }) => peers[0]?.ratio[0] ?? Number.NaN);
    maps.push(heatMap('times the speed of PyTorch', (value) => value.toFixed(1), ratios, 1));
    const sorted = [...ratios].sort((a, b) => a - b);
    const share = (100 * ratios.filter((ratio) => ratio < 1).length) / ratios.length;
    console.error(
      `slowest ratio ${sorted[0]?.toFixed(2)}, median ${sorted[sorted.length >> 1]?.toFixed(2)}, below one: ${share.toFixed(0)} %`,
    );
  }
  const file = process.env['EVENKEEL_SWEEP'] ?? join(__dirname, '..', 'target', 'evenkeel', 'convolution-sweep.svg');
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, heatMaps('3×3 convolutions, forward and backward', maps));
  console.error(`wrote ${file}`);
  return results;
}
