/**
 * What the special methods cost beside the norm they build on: both in turn, in one run, ratios round by round.
 *
 * Layers are forward and backward, with parameters that count as changed (what was computed from them alone is computed again). Steps
 * are whole training steps of ResNet-20 on 32×32 images with SGD, as in `step.bench.ts`.
 */
import { models, nn, optim, randn, scope, synchronize, tensor } from '../src';
import { type CompareOptions, formatRatio } from './compare';
import { callsFor, median, secondsOf, spreadOf, warmUp } from './measure';

/** Something that can be timed. */
interface Work {
  /** Does it once and waits for it. */
  readonly run: () => Promise<void>;
  readonly dispose: () => void;
}

interface Pair {
  readonly name: string;
  readonly base: () => Work;
  readonly method: () => Work;
  /** The highest ratio that is accepted; without one the row is information. */
  readonly goal?: number;
}

/** What one pair took, in milliseconds, and the ratio round by round. */
export interface MethodCost {
  readonly name: string;
  readonly base: number;
  readonly method: number;
  readonly ratio: readonly [median: number, lowest: number, highest: number];
  readonly goal?: number;
}

type Shape = readonly [batch: number, height: number, width: number, channels: number];

function layerWork(create: (channels: number) => nn.Module, shape: Shape): Work {
  const layer = create(shape[3]);
  const input = randn(shape);
  input.requiresGrad = true;
  const gradient = randn(shape);
  return {
    run: async () => {
      scope(() => {
        layer.zeroGrad();
        input.grad?.dispose();
        input.grad = undefined;
        layer.call(input).backward(gradient);
        for (const { storage } of layer.parameters()) storage.version++;
      });
      await synchronize();
    },
    dispose: () => {
      for (const held of [layer, input, gradient]) held.dispose();
    },
  };
}

function stepWork(norm: nn.Normalization, batch: number, transformed = true): Work {
  const model = models.create('resnet20', { norm, classes: 10 });
  const transform = transformed ? nn.gradientTransformOf(model) : undefined;
  const optimizer = new optim.SGD(optim.parameterGroups(model, { weightDecay: 1e-4 }), {
    learningRate: 1e-4,
    momentum: 0.9,
  });
  const loss = new nn.CrossEntropyLoss();
  const images = randn([batch, 32, 32, 3]);
  const labels = tensor(Int32Array.from({ length: batch }, (_, index) => index % 10));
  return {
    run: async () => {
      scope(() => {
        optimizer.zeroGrad();
        loss.call(model.call(images), labels).backward();
        transform?.apply(model.parameters());
        optimizer.step();
      });
      await synchronize();
    },
    dispose: () => {
      for (const held of [model, images, labels]) held.dispose();
    },
  };
}

function layerPairs(): Pair[] {
  const pairs: Pair[] = [];
  const shapes: Shape[] = [
    [2, 32, 32, 16],
    [2, 8, 8, 64],
    [32, 32, 32, 16],
    [32, 16, 16, 32],
    [32, 8, 8, 64],
    [128, 32, 32, 16],
  ];
  for (const shape of shapes) {
    const size = `(${shape.join(', ')})`;
    const pair = (name: string, base: (channels: number) => nn.Module, method: typeof base, goal?: number) => {
      const works = { base: () => layerWork(base, shape), method: () => layerWork(method, shape) };
      pairs.push({ name: `${name} ${size}`, ...works, ...(goal === undefined ? {} : { goal }) });
    };
    for (const activation of ['relu', 'silu'] as const) {
      for (const groups of [1, 4]) {
        const name = groups === 1 ? 'layer' : 'group';
        pair(
          `proxy over ${name} norm + ${activation}`,
          (channels) => new nn.GroupNorm({ channels, groups, activation }),
          (channels) => new nn.ProxyNorm({ channels, groups, activation }),
          1.1,
        );
      }
    }
    pair(
      'independent component over batch norm',
      (channels) => new nn.BatchNorm({ channels }),
      (channels) => new nn.IndependentComponent({ channels }),
      1.15,
    );
    pair(
      'Kalman over batch norm + relu',
      (channels) => new nn.BatchNorm({ channels, activation: 'relu' }),
      (channels) => new nn.BatchKalmanNorm({ channels, activation: 'relu' }),
    );
    pair(
      'batch renormalization over batch norm + relu',
      (channels) => new nn.BatchNorm({ channels, activation: 'relu' }),
      (channels) => new nn.BatchRenorm({ channels, activation: 'relu' }),
    );
    pair(
      'EvoNorm-S0 over group norm + silu',
      (channels) => new nn.GroupNorm({ channels, groups: 4, activation: 'silu' }),
      (channels) => new nn.EvoNormS0({ channels, groups: 4 }),
    );
    pair(
      'EvoNorm-B0 over batch norm + relu',
      (channels) => new nn.BatchNorm({ channels, activation: 'relu' }),
      (channels) => new nn.EvoNormB0({ channels }),
    );
    pair(
      'switchable over batch norm + relu',
      (channels) => new nn.BatchNorm({ channels, activation: 'relu' }),
      (channels) => new nn.SwitchableNorm({ channels, activation: 'relu' }),
    );
    pair(
      'online over batch norm + relu',
      (channels) => new nn.BatchNorm({ channels, activation: 'relu' }),
      (channels) => new nn.OnlineNorm({ channels, activation: 'relu' }),
    );
  }
  return pairs;
}

function stepPairs(): Pair[] {
  const { normalizations: make } = nn;
  const methods: readonly (readonly [string, nn.Normalization, string, nn.Normalization, number?])[] = [
    ['proxy', make.proxy(), 'layer', make.layer(), 1.1],
    ['proxy of 4 groups', make.proxy({ groups: 4 }), 'group of 4', make.group({ groups: 4 }), 1.1],
    ['ic', make.ic(), 'batch', make.batch(), 1.15],
    ['kalman', make.kalman(), 'batch', make.batch(), 1.15],
    ['kalman tied-norm', make.kalman({ mode: 'tied-norm' }), 'batch', make.batch(), 1.15],
    ['bnp', make.bnp(), 'none', make.none(), 1.1],
    ['bnp with group norm', make.bnp({ groupNorm: true }), 'group and biases', { ...make.group(), bias: true }, 1.1],
    ['batch-renorm', make['batch-renorm'](), 'batch', make.batch()],
    ['evonorm-s0', make['evonorm-s0'](), 'batch', make.batch()],
    ['evonorm-b0', make['evonorm-b0'](), 'batch', make.batch()],
    ['switchable', make.switchable(), 'batch', make.batch()],
    ['online', make.online(), 'batch', make.batch()],
    ['proxy', make.proxy(), 'batch', make.batch()],
  ];
  return [2, 32, 128].flatMap((batch) => [
    ...methods.map(([name, method, baseName, base, goal]) => ({
      name: `ResNet-20 step, ${name} over ${baseName}, batch ${batch}`,
      base: () => stepWork(base, batch),
      method: () => stepWork(method, batch),
      ...(goal === undefined ? {} : { goal }),
    })),
    {
      name: `ResNet-20 step, adaptive gradient clipping of bn-free, batch ${batch}`,
      base: () => stepWork(make['bn-free'](), batch, false),
      method: () => stepWork(make['bn-free'](), batch),
      goal: 1.05,
    },
  ]);
}

async function measurePair({ name, base, method, goal }: Pair, options: CompareOptions): Promise<MethodCost> {
  const { rounds = 7, seconds = 0.3 } = options;
  const [first, second] = [base(), method()];
  for (const { run } of [first, second]) await warmUp(run);
  const calls = callsFor(seconds, await secondsOf(first.run, 3));
  const [bases, methods]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    bases.push(1e3 * (await secondsOf(first.run, calls)));
    methods.push(1e3 * (await secondsOf(second.run, calls)));
  }
  for (const work of [first, second]) work.dispose();
  return {
    name,
    base: median(bases),
    method: median(methods),
    ratio: spreadOf(methods.map((value, round) => value / bases[round]!)),
    ...(goal === undefined ? {} : { goal }),
  };
}

function formatRow({ name, base, method, ratio, goal }: MethodCost): string {
  const verdict = goal === undefined ? '' : `   goal ${goal.toFixed(2)}${ratio[0] > goal ? '  MISSED' : ''}`;
  return `${name.padEnd(66)} ${base.toFixed(3).padStart(9)} → ${method.toFixed(3).padStart(9)} ms   ratio ${formatRatio(ratio)}${verdict}`;
}

export async function run(options: CompareOptions): Promise<MethodCost[]> {
  const rows: MethodCost[] = [];
  for (const pair of [...layerPairs(), ...stepPairs()]) {
    if (!pair.name.includes(options.only ?? '')) continue;
    const row = await measurePair(pair, options);
    rows.push(row);
    console.error(formatRow(row));
  }
  return rows;
}
