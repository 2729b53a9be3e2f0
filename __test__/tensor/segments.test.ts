// Large batches go through several operations segment by segment (crates/evenkeel-node/src/segments). Nobody can see it but by the clock:
// the same bits as one operation at a time, at any number of threads, and the results of small batches, which are not cut.
import {
  add,
  addRelu,
  addThreshold,
  avgPool2d,
  batchNorm,
  conv2d,
  filterResponseNorm,
  getThreads,
  globalAvgPool,
  groupNorm,
  layerNorm,
  maximum,
  maxPool2d,
  mul,
  ones,
  pad,
  rmsNorm,
  scope,
  setThreads,
  silu,
  slice,
  square,
  type Tensor,
  zeros,
} from '../../src/tensor';
import { stream } from '../../src/tensor/stream';
import { noise } from '../nn/support';

/** An odd number of images, so that the last segment is smaller; 21 × 64² × 13 numbers are more than a million. */
const [batch, size, channels] = [21, 64, 13];

type Numbers = ReturnType<Tensor['dataSync']>;

/** A network's tensors. */
interface Network {
  readonly first: Tensor;
  readonly second: Tensor;
  readonly depthwise: Tensor;
  readonly gamma: Tensor;
  readonly beta: Tensor;
  readonly tau: Tensor;
  readonly mean: Tensor;
  readonly variance: Tensor;
}

function network(): Network {
  const parameter = (shape: readonly number[], seed: number) => {
    const value = mul(noise(shape, seed), 0.3);
    value.requiresGrad = true;
    return value;
  };
  return {
    first: parameter([3, 3, 3, channels], 1),
    second: parameter([3, 3, channels, channels], 2),
    depthwise: parameter([3, 3, 1, channels], 6),
    gamma: parameter([channels], 3),
    beta: parameter([channels], 4),
    tau: parameter([channels], 5),
    mean: zeros([channels]),
    variance: ones([channels]),
  };
}

const norms = {
  batch: (x: Tensor, { gamma, beta, mean, variance }: Network, residual?: Tensor) =>
    batchNorm(x, {
      gamma,
      beta,
      residual,
      activation: 'relu',
      training: true,
      runningMean: mean,
      runningVariance: variance,
    }),
  group: (x: Tensor, { gamma, beta }: Network) => groupNorm(x, { groups: 1, gamma, beta, activation: 'silu' }),
  layer: (x: Tensor, { gamma, beta }: Network) => layerNorm(x, { over: 'channels', gamma, beta }),
  rms: (x: Tensor, { gamma }: Network) => rmsNorm(x, { gamma }),
  frn: (x: Tensor, { gamma, beta, tau }: Network) => filterResponseNorm(x, { gamma, beta, tau }),
} as const;
type Norm = keyof typeof norms;

/** Features of every image, through every operation that is cut. */
function forward(x: Tensor, net: Network, norm: Norm): Tensor {
  const first = norms[norm](conv2d(x, net.first, undefined, { padding: 1 }), net);
  const second = norms[norm](conv2d(first, net.second, net.beta, { padding: 1 }), net, first);
  const sum = addThreshold(silu(addRelu(maximum(second, net.tau), first)), first, net.tau);
  const mixed = conv2d(sum, net.depthwise, undefined, { padding: 1, groups: channels });
  const part = slice(mixed, { starts: [0, 1, 0, 0], ends: [batch, size - 1, size, channels] });
  const padded = pad(part, [
    [0, 0],
    [1, 1],
    [0, 0],
    [0, 0],
  ]);
  const strided = conv2d(padded, net.second, undefined, { stride: 2, padding: 1 });
  const pooled = add(
    maxPool2d(square(padded), { kernelSize: 2 }),
    avgPool2d(mul(padded, net.gamma), { kernelSize: 2 }),
  );
  return globalAvgPool(add(pooled, strided));
}

/** The features, the gradients of the images (the first of which is number `start`) and of all parameters, and the running statistics. */
function train(images: Tensor, norm: Norm, start = 0): Numbers[] {
  return scope(() => {
    const net = network();
    images.requiresGrad = true;
    images.grad = undefined;
    const features = forward(images, net, norm);
    const count = features.shape[0] as number;
    const weights = slice(noise([batch, channels], 9), { starts: [start, 0], ends: [start + count, channels] });
    mul(features, weights).sum().backward();
    const { mean, variance, ...parameters } = net;
    const used = Object.values(parameters).filter((parameter) => parameter.grad !== undefined);
    const gradients = [images, ...used].map((tensor) => tensor.grad as Tensor);
    return [features, ...gradients, mean, variance].map((tensor) => tensor.dataSync());
  });
}

const bits = (results: readonly Numbers[]) => results.map(({ buffer }) => Buffer.from(buffer).toString('base64'));

const images = () => noise([batch, size, size, 3], 7);

/** Runs `body` with every operation alone: the stream never has two to run together. */
function oneByOne<T>(body: () => T): T {
  const device = stream();
  device.tracer = () => device.synchronizeSync();
  try {
    return body();
  } finally {
    device.tracer = undefined;
  }
}

it.each(Object.keys(norms) as Norm[])(
  'gives %s the bits of one operation at a time, on any number of threads',
  (norm) => {
    const expected = bits(oneByOne(() => train(images(), norm)));
    const before = getThreads();
    try {
      for (const threads of [1, 2, 3, 17]) {
        setThreads(threads);
        expect(bits(train(images(), norm))).toEqual(expected);
      }
    } finally {
      setThreads(before);
    }
  },
);

/** The largest difference, in units of the largest expected value. */
function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let [largest, scale] = [0, 0];
  for (let index = 0; index < actual.length; index++) {
    const value = expected[index] as number;
    scale = Math.max(scale, Math.abs(value));
    const distance = Math.abs((actual[index] as number) - value);
    largest = Math.max(largest, Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance);
  }
  return largest / Math.max(scale, 1e-30);
}

it.each(['group', 'layer', 'rms', 'frn'] as const)('gives %s what three small batches give', (norm) => {
  const all = images();
  const results = train(all, norm);
  const small = batch / 3;
  const parts = [0, small, 2 * small].map((start) => {
    const part = slice(all, { starts: [start, 0, 0, 0], ends: [start + small, size, size, 3] });
    return train(part.detach(), norm, start);
  });
  const [features, gradient, ...sums] = results;
  for (const [index, whole] of [features, gradient].entries()) {
    const joined = parts.flatMap((part) => Array.from(part[index] as ArrayLike<number>));
    expect(difference(whole as ArrayLike<number>, joined)).toBeLessThan(1e-4);
  }
  // Without the running statistics.
  expect(sums.length).toBeGreaterThan(4);
  for (const [index, sum] of sums.slice(0, -2).entries()) {
    const added = Array.from(sum, (_, at) =>
      parts.reduce((total, part) => total + ((part[index + 2] as ArrayLike<number>)[at] as number), 0),
    );
    expect(difference(sum, added)).toBeLessThan(1e-4);
  }
});

it('gives batch norm what its equation gives', () => {
  const shape = [batch, size, size, channels];
  const [gamma, beta] = [noise([channels], 3), noise([channels], 4)];
  const weights = noise(shape, 5);
  const gradients = (normalize: (x: Tensor) => Tensor) =>
    scope(() => {
      const x = add(noise(shape, 1), 3).detach();
      for (const tensor of [x, gamma, beta]) {
        tensor.requiresGrad = true;
        tensor.grad = undefined;
      }
      const y = normalize(x);
      mul(y, weights).sum().backward();
      return [y, x.grad as Tensor, gamma.grad as Tensor, beta.grad as Tensor].map((tensor) => tensor.dataSync());
    });
  const fused = gradients((x) => batchNorm(x, { gamma, beta, training: true }));
  const composed = gradients((x) => {
    const axes = [0, 1, 2];
    const centred = x.sub(x.mean({ axes, keepDims: true }));
    const variance = square(centred).mean({ axes, keepDims: true });
    return centred.div(variance.add(1e-5).sqrt()).mul(gamma).add(beta);
  });
  for (const [index, values] of fused.entries()) {
    expect(difference(values, composed[index] as ArrayLike<number>)).toBeLessThan(2e-4);
  }
});

// From 16 MiB on, what nobody reads within the same run of operations is written past the caches (crates/evenkeel-kernels/src/memory.rs).
it('gives norms on 16 MiB the bits of every image alone', () => {
  const [count, width] = [8, 128];
  const parameter = (seed: number) => noise([width], seed);
  const net = { ...network(), gamma: parameter(3), beta: parameter(4), tau: parameter(5) };
  const run = (norm: Norm, x: Tensor, dy: Tensor) =>
    scope(() => {
      x.requiresGrad = true;
      x.grad = undefined;
      const y = norms[norm](x, net);
      y.backward(dy);
      return [y, x.grad as unknown as Tensor].map((tensor) => tensor.dataSync() as Float32Array);
    });
  const [x, dy] = [noise([count, size, size, width], 1), noise([count, size, size, width], 2)];
  const elements = size * size * width;
  for (const norm of ['group', 'rms', 'frn'] as const) {
    const whole = run(norm, x, dy);
    for (const image of [0, count - 1]) {
      const [starts, ends] = [[image, 0, 0, 0] as const, [image + 1, size, size, width] as const];
      const alone = run(norm, slice(x.detach(), { starts, ends }).detach(), slice(dy, { starts, ends }));
      const part = whole.map((values) => values.slice(image * elements, (image + 1) * elements));
      expect(bits(part)).toEqual(bits(alone));
    }
  }
});
