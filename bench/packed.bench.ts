/**
 * Packed inference: ReActNet-18 at 224², one image at a time, in turn with our own float ResNet-18 and (with --peers) with PyTorch's, and
 * the steps that take longest and the sizes of the files.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getThreads, models, nn, noGrad, profile, randn, scope, synchronize, type Tensor } from '../src';
import { type CompareOptions, type Comparison, formatRatio, type Score } from './compare';
import { callsFor, median, secondsOf, spreadOf } from './measure';
import { TorchPeer } from './peers/torch';

type Work = () => Promise<void>;

function inference(model: nn.Module<Tensor, Tensor>, images: Tensor): Work {
  model.eval();
  return async () => {
    scope(() => noGrad(() => model.call(images)));
    await synchronize();
  };
}

interface Side {
  readonly name: string;
  readonly time: (steps: number) => Promise<number>;
  readonly times: number[];
}

/** Times all sides in turn; the first one is compared with the others. */
async function inTurn(sides: readonly Side[], { rounds = 7, seconds = 0.3 }: CompareOptions): Promise<void> {
  const steps: number[] = [];
  for (const { time } of sides) {
    await time(3);
    steps.push(callsFor(seconds, await time(3)));
  }
  for (let round = 0; round < rounds; round++) {
    for (const [index, { time, times }] of sides.entries()) times.push(await time(steps[index]!));
  }
}

/** The steps that take longest. */
async function explain(packed: nn.binary.PackedNetwork, work: Work): Promise<void> {
  const layers = new Map(packed.graph.steps.map((step, index) => [step, `${index} ${step.kind} ${step.module}`]));
  const passes = 50;
  const { byLayer } = await profile(() => secondsOf(work, passes), { layers });
  for (const { name, seconds, share } of byLayer.slice(0, 6)) {
    console.error(`    ${((1e3 * seconds) / passes).toFixed(3)} ms ${(100 * share).toFixed(0).padStart(3)} %  ${name}`);
  }
}

const norms = ['batch', 'bn-free'] as const;

async function speeds(options: CompareOptions): Promise<Comparison[]> {
  const images = randn([1, 224, 224, 3]);
  const float = models.create('resnet18', { classes: 1000 });
  const torch = options.peers ? new TorchPeer(getThreads()) : undefined;
  const results: Comparison[] = [];
  try {
    for (const norm of norms) {
      const name = `packed ReActNet-18 at 224², ${norm}, batch 1`;
      if (!name.includes(options.only ?? '')) continue;
      const model = models.create('reactnet18', { norm });
      const packed = nn.binary.pack(model, { imageShape: [224, 224, 3] });
      model.dispose();
      const side = (sideName: string, work: Work): Side => ({
        name: sideName,
        time: (steps) => secondsOf(work, steps),
        times: [],
      });
      const sides = [side(name, inference(packed, images)), side('own float ResNet-18', inference(float, images))];
      for (const layout of torch === undefined ? [] : ['NCHW', 'NHWC']) {
        const request = { work: 'resnet18-inference', norm: 'batch', batch: 1, layout };
        const time = async (steps: number) => median(await torch!.time(request, steps));
        sides.push({ name: `PyTorch ResNet-18 ${layout}`, time, times: [] });
      }
      await inTurn(sides, options);
      const [ours, ...others] = sides;
      const peers = others.map((other): Score => {
        return {
          competitor: other.name,
          speed: 1 / median(other.times),
          ratio: spreadOf(other.times.map((time, round) => time / ours!.times[round]!)),
        };
      });
      results.push({ name, unit: 'images/s', ours: 1 / median(ours!.times), peers });
      console.error(`${name}: ${(1e3 * median(ours!.times)).toFixed(2)} ms`);
      for (const { competitor, speed, ratio } of peers) {
        console.error(
          `  ${competitor.padEnd(24)} ${(1e3 / speed).toFixed(2).padStart(7)} ms   ratio ${formatRatio(ratio)}`,
        );
      }
      await explain(packed, inference(packed, images));
      packed.dispose();
    }
  } finally {
    torch?.close();
    for (const held of [images, float]) held.dispose();
  }
  return results;
}

async function sizes(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'evenkeel-packed-'));
  try {
    for (const [stem, downsample] of [
      ['imagenet', 'float'],
      ['imagenet', 'binary-weight'],
      ['cifar', 'float'],
      ['cifar', 'binary-weight'],
    ] as const) {
      const model = models.create('reactnet18', { norm: 'bn-free', modelOptions: { stem, downsample } });
      const floatBytes = [...model.stateDict().values()].reduce((sum, held) => sum + held.byteLength, 0);
      const packed = nn.binary.pack(model);
      const path = join(folder, 'packed.safetensors');
      await packed.save(path);
      const { size } = statSync(path);
      const ratio = (floatBytes / size).toFixed(1);
      console.error(
        `ReActNet-18, stem ${stem}, ${downsample} shortcuts: ${(size / 1e6).toFixed(2)} MB packed, ` +
          `${(floatBytes / 1e6).toFixed(2)} MB in float: ${ratio} times smaller`,
      );
      for (const held of [packed, model]) held.dispose();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export async function run(options: CompareOptions): Promise<Comparison[]> {
  const results = await speeds(options);
  await sizes();
  return results;
}
