/**
 * Testable properties of Batch Normalization Preconditioning (Lange et al. 2022) by their numbers. BNP-1, BNP-2, BNP-6, BNP-8 and BNP-10
 * are in ../../optim/preconditioning.test.ts; BNP-9 needs long training.
 */
import { manualSeed, nn, optim, randn, scope, type Tensor, tensor } from '../../../src';
import { conditionNumber } from '../../../src/nn/diagnose/covariance';

type Matrix = Float64Array[];

const identity = (size: number): Matrix =>
  Array.from({ length: size }, (_, i) => Float64Array.from({ length: size }, (__, j) => Number(i === j)));
const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => Float64Array.from(b[0] ?? [], (_, j) => row.reduce((sum, value, k) => sum + value * b[k]![j]!, 0)));
const transposed = (a: Matrix): Matrix => Array.from(a[0] ?? [], (_, j) => Float64Array.from(a, (row) => row[j]!));
/** Squared ratio of the extreme singular values. */
const squaredCondition = (a: Matrix): number => conditionNumber(product(transposed(a), a));
const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]!;

/** Rows `[1, features]` of a batch. */
function withBias(input: Tensor): Matrix {
  const [rows = 0, features = 0] = input.shape;
  const values = input.dataSync();
  return Array.from({ length: rows }, (_, row) =>
    Float64Array.of(1, ...values.slice(row * features, (row + 1) * features)),
  );
}

/** The matrix P Pᵀ by which a layer's gradient (bias first) is multiplied after a batch, read off from unit gradients. */
function preconditioner(input: Tensor, options: Parameters<typeof optim.batchNormPreconditioning>[1] = {}): Matrix {
  const features = input.shape[1]!;
  const outputs = features + 1;
  return scope(() => {
    const layer = new nn.Linear({ inFeatures: features, outFeatures: outputs });
    using preconditioning = optim.batchNormPreconditioning(layer as nn.Module, { keep: 0, rows: 'off', ...options });
    layer.call(input);
    // Output k of the layer has the unit gradient number k.
    const weight = Float32Array.from({ length: features * outputs }, (_, at) =>
      Number(Math.floor(at / outputs) + 1 === at % outputs),
    );
    layer.weight.grad = tensor(weight, { shape: [features, outputs] });
    layer.bias!.grad = tensor(Float32Array.from({ length: outputs }, (_, at) => Number(at === 0)));
    preconditioning.apply();
    const [changed, shifts] = [layer.weight.grad.dataSync(), layer.bias!.grad.dataSync()];
    return Array.from({ length: outputs }, (_, row) =>
      Float64Array.from({ length: outputs }, (__, output) =>
        row === 0 ? shifts[output]! : changed[(row - 1) * outputs + output]!,
      ),
    );
  });
}

/** The lower triangle L with L Lᵀ = matrix. */
function factor(matrix: Matrix): Matrix {
  const lower = matrix.map(() => new Float64Array(matrix.length));
  for (const [i, row] of matrix.entries()) {
    for (let j = 0; j <= i; j++) {
      let rest = (row[j]! + matrix[j]![i]!) / 2;
      for (let k = 0; k < j; k++) rest -= lower[i]![k]! * lower[j]![k]!;
      lower[i]![j] = i === j ? Math.sqrt(rest) : rest / lower[j]![j]!;
    }
  }
  return lower;
}

/** Positive, correlated features of mixed scale. */
function mixedFeatures(rows: number, features: number): Tensor {
  const scales = randn([features]).mul(0.7).exp();
  const mixed = randn([rows, features])
    .add(randn([rows, 1]))
    .mul(1.2);
  return mixed.exp().add(1).log().mul(scales);
}

/** Without what keeps small variances from being amplified. */
const exact = { relativeEpsilon: 0, absoluteEpsilon: 1e-12 };

describe('the condition number', () => {
  it('BNP-3: of the gradient descent falls for every batch, and centring alone never raises it', () => {
    manualSeed(1);
    const found = Array.from({ length: 100 }, () =>
      scope(() => {
        const input = mixedFeatures(200, 20);
        const rows = withBias(input);
        const means = rows[0]!.map((_, j) => rows.reduce((sum, row) => sum + row[j]! / rows.length, 0));
        const centred = rows.map((row) => row.map((value, j) => (j === 0 ? value : value - means[j]!)));
        const behind = (options: object) => squaredCondition(product(rows, factor(preconditioner(input, options))));
        return [squaredCondition(rows), squaredCondition(centred), behind({}), behind(exact)] as const;
      }),
    );
    for (const [raw, centred, usual, whole] of found) {
      expect(centred).toBeLessThanOrEqual(raw * (1 + 1e-9));
      expect(usual).toBeLessThan(raw);
      expect(whole).toBeLessThan(raw);
    }
    const [raw, centred, usual, whole] = [0, 1, 2, 3].map((index) => median(found.map((each) => each[index]!)));
    expect(centred).toBeLessThan(raw!);
    expect(usual).toBeLessThan(0.1 * raw!);
    expect(whole).toBeLessThan(usual!);
  });

  it('BNP-4: is within √(m + 1) of the best for any scaling of the features', () => {
    manualSeed(2);
    const features = 6;
    const input = mixedFeatures(50, features);
    const rows = withBias(input);
    const own = Math.sqrt(squaredCondition(product(rows, factor(preconditioner(input, exact)))));
    const means = rows[0]!.map((_, j) => rows.reduce((sum, row) => sum + row[j]! / rows.length, 0));
    let best = Number.POSITIVE_INFINITY;
    for (let draw = 0; draw < 1000; draw++) {
      const scales = scope(() =>
        Float64Array.from(
          randn([features + 1])
            .mul(1.5)
            .exp()
            .dataSync(),
        ),
      );
      const scaled = rows.map((row) => row.map((value, j) => scales[j]! * (j === 0 ? value : value - means[j]!)));
      best = Math.min(best, Math.sqrt(squaredCondition(scaled)));
    }
    expect(own).toBeLessThanOrEqual(Math.sqrt(features + 1) * best);
  });

  it('BNP-5: of a small network’s Hessian comes from its inputs, and falls', () => {
    manualSeed(3);
    const [rows, features, hidden] = [30, 5, 4];
    const input = mixedFeatures(rows, features);
    const target = randn([rows, 1]);
    const first = new nn.Linear({ inFeatures: features, outFeatures: hidden });
    const last = new nn.Linear({ inFeatures: hidden, outFeatures: 1 });
    // The gradient of the weights (bias first) of hidden unit 0.
    const gradient = (): Float64Array => {
      first.zeroGrad();
      scope(() => last.call(first.call(input).tanh()).sub(target).square().mean().backward());
      const [weight, bias] = [first.weight.grad!.dataSync(), first.bias!.grad!.dataSync()];
      return Float64Array.of(bias[0]!, ...Array.from({ length: features }, (_, j) => weight[j * hidden]!));
    };
    const moved = (which: number, by: number): Float64Array => {
      const parameter = which === 0 ? first.bias! : first.weight;
      const before = parameter.dataSync().slice();
      const after = Float32Array.from(before);
      const at = which === 0 ? 0 : (which - 1) * hidden;
      after[at] = after[at]! + by;
      parameter.copyFrom(after);
      const found = gradient();
      parameter.copyFrom(before);
      return found;
    };
    const step = 2e-3;
    const hessian = identity(features + 1).map((_, row) => {
      const [up, down] = [moved(row, step), moved(row, -step)];
      return up.map((value, at) => (value - down[at]!) / (2 * step));
    });
    // ℓ'' of every row, exactly: the derivatives of (o − t)² through v tanh(a).
    const a = first.call(input).dataSync();
    const errors = last.call(first.call(input).tanh()).sub(target).dataSync();
    const v = last.weight.dataSync()[0]!;
    const extended = withBias(input);
    const parts = Array.from({ length: rows }, (_, row) => {
      const t = Math.tanh(a[row * hidden]!);
      const slope = v * (1 - t * t);
      return { newton: (2 * slope ** 2) / rows, curved: (2 * errors[row]! * -2 * t * slope) / rows };
    });
    const weighted = (weights: readonly number[]): Matrix =>
      product(
        transposed(extended),
        extended.map((row, at) => row.map((value) => value * weights[at]!)),
      );
    const expected = weighted(parts.map(({ newton, curved }) => newton + curved));
    const largest = Math.max(...expected.flatMap((row) => [...row].map(Math.abs)));
    for (const [i, row] of hessian.entries()) {
      // Differences of float32 gradients.
      for (const [j, value] of row.entries()) expect(Math.abs(value - expected[i]![j]!) / largest).toBeLessThan(2e-3);
    }
    const newton = weighted(parts.map((part) => part.newton));
    const lower = factor(preconditioner(input));
    expect(conditionNumber(product(transposed(lower), product(newton, lower)))).toBeLessThan(
      0.7 * conditionNumber(newton),
    );
  });

  it.each([1, 2, 6, 60, 100, 1000])(
    'BNP-7: leaves the largest curvature of %i rows where one learning rate fits',
    (rows) => {
      manualSeed(4);
      const features = 100;
      const input = randn([rows, features]);
      // Statistics that stay at mean 0 and variance 1: what is left is 1 / q².
      const scale = preconditioner(input, { ...exact, keep: 1, rows: 'patches' })[1]![1]!;
      // The mean of a few draws, by power iteration with GᵀG / N.
      const draws = 10;
      let largest = 0;
      for (let draw = 0; draw < draws; draw++) {
        largest += scope(() => {
          const sample = randn([rows, features]);
          let [vector, value] = [randn([features, 1]), 0];
          for (let iteration = 0; iteration < 30; iteration++) {
            const image = sample
              .transpose()
              .matmul(sample.matmul(vector))
              .mul(1 / rows);
            value = Math.sqrt(image.square().sum().itemSync());
            vector = image.mul(1 / value);
          }
          return value / draws;
        });
      }
      expect(largest * scale).toBeGreaterThanOrEqual(0.9);
      expect(largest * scale).toBeLessThanOrEqual(4.2);
    },
  );
});

describe('a step', () => {
  /** Frozen statistics, an affine map behind them, and one step of size 0.1 for `tanh(W h + b)` on squared errors, all in float64. */
  const steps = (affine: boolean) => {
    manualSeed(5);
    const [rows, features, outputs] = [20, 6, 4];
    const drawn = (count: number) => Float64Array.from(randn([count]).dataSync());
    const input = Array.from({ length: rows }, () => drawn(features).map((value, j) => 3 * value * (j + 1) + 2 * j));
    const targets = Array.from({ length: rows }, () => drawn(outputs));
    const means = input[0]!.map((_, j) => input.reduce((sum, row) => sum + row[j]! / rows, 0));
    const variances = input[0]!.map((_, j) => input.reduce((sum, row) => sum + (row[j]! - means[j]!) ** 2 / rows, 0));
    const largest = Math.max(...variances);
    const deviations = variances.map((value) => Math.sqrt(value + 1e-2 * largest + 1e-4));
    const [gamma, beta] = affine
      ? [drawn(features), drawn(features)]
      : [new Float64Array(features).fill(1), new Float64Array(features)];
    // The normalized network; the plain one has the same function.
    const inner = Array.from({ length: outputs }, () => drawn(features));
    const offsets = drawn(outputs);
    const normalized = input.map((row) =>
      row.map((value, j) => (gamma[j]! * (value - means[j]!)) / deviations[j]! + beta[j]!),
    );
    const slopes = input.map((_, at) =>
      inner.map((weights, i) => {
        const t = Math.tanh(weights.reduce((sum, w, j) => sum + w * normalized[at]![j]!, offsets[i]!));
        return ((2 * (t - targets[at]![i]!)) / rows) * (1 - t * t);
      }),
    );
    /** `[bias; weights]` of the plain network with the function of a normalized one. */
    const plain = (weights: Float64Array, offset: number): number[] => [
      weights.reduce((sum, w, j) => sum + w * (beta[j]! - (gamma[j]! * means[j]!) / deviations[j]!), offset),
      ...weights.map((w, j) => (w * gamma[j]!) / deviations[j]!),
    ];
    const sum = (i: number, value: (at: number) => number) =>
      input.reduce((total, _, at) => total + slopes[at]![i]! * value(at), 0);
    return inner.map((weights, i) => {
      const bias = sum(i, () => 1);
      const gradient = weights.map((_, j) => sum(i, (at) => normalized[at]![j]!));
      const expected = plain(
        weights.map((w, j) => w - 0.1 * gradient[j]!),
        offsets[i]! - 0.1 * bias,
      );
      // P Pᵀ g in closed form.
      const raw = weights.map((_, j) => sum(i, (at) => input[at]![j]!));
      const shifts = means.map((mean, j) => beta[j]! - (gamma[j]! * mean) / deviations[j]!);
      const scales = gamma.map((value, j) => value / deviations[j]!);
      const inside = raw.map((value, j) => shifts[j]! * bias + scales[j]! * value);
      const changed = [
        shifts.reduce((total, shift, j) => total + shift * inside[j]!, bias),
        ...inside.map((value, j) => scales[j]! * value),
      ];
      return { expected, actual: plain(weights, offsets[i]!).map((value, at) => value - 0.1 * changed[at]!) };
    });
  };

  it.each([false, true])(
    'BNP-2: is that of batch norm with frozen statistics, to 1e-12 in float64 (affine: %s)',
    (affine) => {
      for (const { expected, actual } of steps(affine)) {
        for (const [at, value] of actual.entries()) expect(Math.abs(value - expected[at]!)).toBeLessThan(1e-12);
      }
    },
  );
});

describe('gradient descent', () => {
  it('BNP-11: approaches the solutions of a flat problem at the rate of its non-zero curvatures', () => {
    const curvatures = [0, 0, 1, 3, 17, 30];
    const rate = 2 / (30 + 1);
    const point = new nn.Parameter(tensor([5, -2, 1, 0.8, 0.5, 1]));
    const optimizer = new optim.SGD([point], { learningRate: rate });
    const distance = () => Math.hypot(...point.dataSync().slice(2));
    for (let step = 0; step < 60; step++) {
      const before = distance();
      point.grad = tensor(Float32Array.from(point.dataSync(), (value, at) => value * curvatures[at]!));
      optimizer.step();
      optimizer.zeroGrad();
      expect(distance()).toBeLessThanOrEqual(((30 - 1) / (30 + 1)) * before * (1 + 1e-5));
    }
    expect([...point.dataSync().slice(0, 2)]).toEqual([5, -2]);
    expect(distance()).toBeGreaterThan(0.9 * Math.SQRT2 * (29 / 31) ** 60);
  });
});
