import {
  batchNorm,
  full,
  getThreads,
  gradcheck,
  kalmanNorm,
  kalmanNormalized,
  kalmanPredict,
  kalmanRectify,
  memory,
  ones,
  randn,
  scope,
  setThreads,
  sigmoid,
  sum,
  type Tensor,
  tensor,
  transpose,
  zeros,
} from '../../src/tensor';
import { noise } from '../nn/support';
import { expectClose, readGolden } from '../support/golden';

const leaf = (value: Tensor): Tensor => {
  value.requiresGrad = true;
  return value;
};

/** Groups of every golden case are in its name: `4x3x3x7_from5_group2_learned`. */
function groupsOf(name: string): number {
  const [, batch, size] = /^(\d+)x.*_group(\d+)_/.exec(name)!.map(Number);
  return batch! / size!;
}

describe('golden vectors', () => {
  it('of the whole chain link, with gradients into everything', async () => {
    const cases = await readGolden('batch_kalman_norm');
    expect(cases.size).toBe(6);
    for (const golden of cases.values()) {
      const learned = golden.name.endsWith('learned');
      const names = ['x', 'gamma', 'beta', 'm_prev', 'v_prev', 'q_raw', ...(learned ? ['A', 'rho'] : ['kernel'])];
      const inputs = Object.fromEntries(names.map((name) => [name, golden.tensor(name, true)]));
      const { x, gamma, beta, m_prev, v_prev, q_raw, A, rho, kernel } = inputs as Record<string, Tensor>;
      const groups = groupsOf(golden.name);
      const before = m_prev!.reshape([1, groups, -1]).mul(tensor([1, 0], { shape: [2, 1, 1] }));
      const state = before.add(v_prev!.reshape([1, groups, -1]).mul(tensor([0, 1], { shape: [2, 1, 1] })));
      const prior = learned
        ? kalmanPredict(state, transpose(A!), { noise: rho })
        : kalmanPredict(kalmanRectify(state), kernel!);
      const { output, posterior } = kalmanNorm(x!, { gamma, beta, groups, prior, priorWeight: sigmoid(q_raw!) });
      expectClose(await output.data(), golden.values('y'), 2e-6);
      const half = prior.size / 2;
      expectClose((await prior.data()).slice(0, half), golden.values('m_prior'), 2e-6);
      expectClose((await prior.data()).slice(half), golden.values('v_prior'), 2e-6);
      expectClose((await posterior.data()).slice(0, half), golden.values('m'), 2e-6);
      expectClose((await posterior.data()).slice(half), golden.values('v'), 2e-6);
      const outer = tensor([...golden.values('dm_out'), ...golden.values('dv_out')], { shape: posterior.shape });
      sum(output.mul(golden.tensor('dy')))
        .add(sum(posterior.mul(outer)))
        .backward();
      for (const name of names) {
        expectClose(await inputs[name]!.grad!.data(), golden.values(`d_${name}`), 1e-4);
      }
    }
  });
});

describe('kalmanNorm', () => {
  const shapes: readonly (readonly number[])[] = [
    [4, 1, 1, 1],
    [6, 3, 5, 3],
    [2, 7, 7, 17],
    [4, 33],
    [8, 4, 4, 64],
    [2, 5, 1, 65],
  ];

  it('BKN-1: without a prior, or with the weight 0, is batch norm to the bit, with all gradients', () => {
    for (const shape of shapes) {
      for (const weighted of [false, true]) {
        const channels = shape.at(-1)!;
        const run = (normalize: (x: Tensor, gamma: Tensor, beta: Tensor) => Tensor) => {
          const inputs = [noise(shape, 1), noise([channels], 2), noise([channels], 3)].map(leaf);
          const output = normalize(inputs[0]!, inputs[1]!, inputs[2]!);
          output.backward(noise(shape, 4));
          // Adding 0 leaves all bits but the sign of a zero.
          return [output, ...inputs.map(({ grad }) => grad!)].map((value) =>
            Array.from(value.dataSync(), (v) => v + 0),
          );
        };
        const prior = noise([2, 1, channels], 5).abs();
        const given = weighted ? { prior, priorWeight: zeros([1]) } : {};
        const expected = run((x, gamma, beta) => batchNorm(x, { gamma, beta, activation: 'relu', training: true }));
        const actual = run((x, gamma, beta) => kalmanNorm(x, { gamma, beta, activation: 'relu', ...given }).output);
        expect(actual).toEqual(expected);
      }
    }
  });

  it('gives every group the statistics of its own samples', async () => {
    const x = noise([6, 2, 2, 5], 1);
    const values = await x.data();
    const { output } = kalmanNorm(x, { groups: 3 });
    for (const group of [0, 1, 2]) {
      const own = tensor(values.slice(group * 40, group * 40 + 40) as Float32Array, { shape: [2, 2, 2, 5] });
      const alone = await batchNorm(own, { training: true }).data();
      expect([...(await output.data()).slice(group * 40, group * 40 + 40)]).toEqual([...alone]);
    }
  });

  it('has gradients that agree with finite differences, into the prior and its weight too', async () => {
    for (const [shape, groups] of [
      [[4, 2, 2, 3], 2],
      [[6, 5], 3],
      [[2, 3, 1, 2], 1],
    ] as const) {
      const channels = shape.at(-1)!;
      const inputs = [
        noise(shape, 1),
        noise([channels], 2),
        noise([channels], 3),
        noise([2, groups, channels], 4).mul(0.2).add(0.7),
        tensor([0.4]),
      ].map(leaf);
      for (const activation of ['none', 'silu'] as const) {
        const check = await gradcheck((x, gamma, beta, prior, priorWeight) => {
          const { output, posterior } = kalmanNorm(x!, { gamma, beta, prior, priorWeight, groups, activation });
          return sum(output.mul(noise(shape, 6))).add(sum(posterior.mul(noise(posterior.shape, 7))));
        }, inputs);
        expect(check).toMatchObject({ passed: true });
      }
    }
  });

  it('does in one pass what its parts do one after another, with all gradients', () => {
    const run = (fused: boolean) => {
      const values = [noise([4, 3, 3, 6], 1), noise([6], 2), noise([6], 3), noise([4, 3, 3, 6], 4)];
      const states = [noise([2, 2, 4], 5).mul(0.3).add(0.9), noise([2, 2, 5], 6).mul(0.3).add(0.9)];
      const layer = [noise([3, 3, 2, 6], 7).mul(0.3), noise([6], 8), noise([6], 9), tensor([0.4])];
      const inputs = [...values, ...states, ...layer].map(leaf);
      const [x, gamma, beta, residual, before, state, weight, bias, extra, logit] = inputs as Tensor[];
      const common = { gamma, beta, groups: 2, epsilon: 0.1 };
      const { output, posterior } = fused
        ? kalmanNorm(x!, {
            ...common,
            residual,
            activation: 'relu',
            prior: before,
            through: { weight: weight!, bias, noise: extra, channelGroups: 2, rectified: true },
            priorWeight: logit,
            priorWeightForm: 'logit',
            handsOn: 'normalized',
            shortcut: { state: state!, rectified: true },
          })
        : inParts();
      function inParts() {
        const options = { bias, noise: extra, channelGroups: 2 };
        const prior = kalmanPredict(kalmanRectify(before!), weight!, options);
        const normed = kalmanNorm(x!, { ...common, prior, priorWeight: sigmoid(logit!) });
        const other = kalmanRectify(state!).pad([
          [0, 0],
          [0, 0],
          [0, 1],
        ]);
        return {
          output: normed.output.add(residual!).relu(),
          posterior: kalmanNormalized(normed.posterior, { gamma, beta, epsilon: 0.1 }).add(other),
        };
      }
      sum(output.mul(noise(output.shape, 10)))
        .add(sum(posterior.mul(noise(posterior.shape, 11))))
        .backward();
      return [output, posterior, ...inputs.map(({ grad }) => grad!)].map((value) => value.dataSync());
    };
    const [expected, actual] = [run(false), run(true)];
    expect(actual).toHaveLength(12);
    for (const [index, values] of actual.entries()) expectClose(values, expected[index]!, 2e-6);
  });

  it('moves the running statistics towards the mean of the groups, or towards the first', async () => {
    const x = noise([4, 3, 3, 2], 1);
    for (const firstGroupOnly of [false, true]) {
      const [runningMean, runningVariance] = [zeros([2]), ones([2])];
      const options = { groups: 2, runningMean, runningVariance, momentum: 0.25, firstGroupOnly };
      const { posterior } = kalmanNorm(x, options);
      const p = await posterior.data();
      const expected = (offset: number, channel: number) =>
        firstGroupOnly ? p[offset + channel]! : (p[offset + channel]! + p[offset + 2 + channel]!) / 2;
      for (const channel of [0, 1]) {
        expect((await runningMean.data())[channel]).toBeCloseTo(0.25 * expected(0, channel), 6);
        expect((await runningVariance.data())[channel]).toBeCloseTo(0.75 + 0.25 * expected(4, channel), 6);
      }
    }
    const [runningMean, runningVariance] = [zeros([2]), ones([2])];
    kalmanNorm(tensor([1, 2, Number.NaN, 3], { shape: [2, 2] }), { runningMean, runningVariance });
    expect([...(await runningMean.data()), ...(await runningVariance.data())]).toEqual([0, 0, 1, 1]);
  });

  it('drops a prior that is a hundred times too wide, where it is told to', async () => {
    const x = leaf(noise([4, 3, 3, 2], 1));
    const wide = leaf(tensor([0, 0, 0, 0, 1e4, 1e4, 1, 1], { shape: [2, 2, 2] }));
    const priorWeight = leaf(full([1], 0.9));
    const options = { groups: 2, prior: wide, priorWeight, guarded: true };
    const { output, posterior } = kalmanNorm(x, options);
    const plain = await kalmanNorm(x, { groups: 2 }).output.data();
    const values = await output.data();
    expect([...values.slice(0, 36)]).toEqual([...plain.slice(0, 36)]);
    expect([...values.slice(36)]).not.toEqual([...plain.slice(36)]);
    sum(output.mul(noise([4, 3, 3, 2], 2)))
      .add(sum(posterior))
      .backward();
    const gradient = await wide.grad!.data();
    expect([gradient[0], gradient[1], gradient[4], gradient[5]].map((g) => Math.abs(g!))).toEqual([0, 0, 0, 0]);
    expect(gradient[6]).not.toBe(0);
    expect(Number.isFinite((await priorWeight.grad!.data())[0])).toBe(true);
  });

  it('BKN-2: narrows the spread of the statistics as the theory says', async () => {
    // BKN-2: a fixed prior equal to the truth, groups of 4 values, N(1, 4). 20,000 groups give the expectations to about 1 %.
    const [groups, channels, size] = [2000, 10, 4];
    const x = randn([groups * size, channels])
      .mul(2)
      .add(1);
    const prior = ones([2, groups, channels]).mul(tensor([1, 4], { shape: [2, 1, 1] }));
    const spread = async (q: number) => {
      const { posterior } = kalmanNorm(x, { groups, prior, priorWeight: full([1], q) });
      const values = await posterior.data();
      const half = values.length / 2;
      let [mean, variance] = [0, 0];
      for (let at = 0; at < half; at++) {
        mean += (values[at]! - 1) ** 2 / half;
        variance += values[half + at]! / half;
      }
      return { mean, variance };
    };
    const plain = await spread(0);
    for (const q of [0, 0.3, 0.5, 0.9]) {
      const { mean, variance } = await spread(q);
      expect(mean / plain.mean).toBeCloseTo((1 - q) ** 2, 5);
      expect(Math.abs(variance / 4 - (1 - (1 - q) ** 2 / size))).toBeLessThan(0.02);
    }
  });

  it('BKN-3: has an optimal weight where the theory puts it', async () => {
    // BKN-3: σ = 2, groups of 4; a prior that is off by b has its least error at (σ²/n) / (b² + σ²/n).
    const [groups, channels, size] = [2000, 10, 4];
    const x = randn([groups * size, channels]).mul(2);
    for (const [bias, best] of [
      [0.5, 0.8],
      [1, 0.5],
      [2, 0.2],
    ] as const) {
      const prior = ones([2, groups, channels]).mul(tensor([bias, 4], { shape: [2, 1, 1] }));
      const errors: number[] = [];
      for (let q = 0; q <= 10; q++) {
        const { posterior } = kalmanNorm(x, { groups, prior, priorWeight: full([1], q / 10) });
        const values = (await posterior.data()) as Float32Array;
        errors.push(values.slice(0, groups * channels).reduce((total, value) => total + value ** 2, 0));
      }
      expect(errors.indexOf(Math.min(...errors)) / 10).toBeCloseTo(best, 6);
    }
  });

  it('has the same bits on any number of threads', () => {
    const before = getThreads();
    const results = [1, 2, 3].map((threads) => {
      setThreads(threads);
      const [x, prior] = [leaf(noise([6, 40, 40, 33], 1)), leaf(noise([2, 3, 33], 2).abs())];
      const { output, posterior } = kalmanNorm(x, { groups: 3, prior, priorWeight: full([1], 0.3) });
      sum(output.mul(output)).add(sum(posterior)).backward();
      const weight = leaf(noise([3, 3, 33, 65], 3));
      const predicted = kalmanPredict(kalmanRectify(prior), weight);
      predicted.backward(noise(predicted.shape, 4));
      return [output, posterior, x.grad!, prior.grad!, predicted, weight.grad!].map((value) =>
        Buffer.from(value.dataSync().buffer).toString('base64'),
      );
    });
    setThreads(before);
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  it('keeps no tensors', () => {
    const x = leaf(noise([4, 3, 3, 2], 1));
    const step = () =>
      scope(() => {
        const { output, posterior } = kalmanNorm(x, { groups: 2 });
        sum(output.mul(2)).add(sum(posterior)).backward();
        kalmanNorm(x, { groups: 2 });
      });
    step();
    const before = memory().liveTensors;
    step();
    expect(memory().liveTensors).toBe(before);
  });

  const x = () => noise([4, 3, 3, 2], 1);
  it.each([
    ['groups that do not divide', 'INVALID_ARGUMENT', () => kalmanNorm(x(), { groups: 3 })],
    ['half a prior', 'INVALID_ARGUMENT', () => kalmanNorm(x(), { prior: zeros([2, 1, 2]) })],
    [
      'a prior of another shape',
      'SHAPE_MISMATCH',
      () => kalmanNorm(x(), { prior: zeros([2, 2, 2]), priorWeight: ones([1]) }),
    ],
    ['a layer without a prior', 'INVALID_ARGUMENT', () => kalmanNorm(x(), { through: { weight: zeros([3, 2]) } })],
    [
      'a layer that leads elsewhere',
      'SHAPE_MISMATCH',
      () => kalmanNorm(x(), { prior: zeros([2, 1, 3]), through: { weight: zeros([3, 4]) }, priorWeight: 0.5 }),
    ],
    [
      'half a group of channels',
      'INVALID_ARGUMENT',
      () => kalmanPredict(ones([2, 1, 3]), ones([6, 4]), { channelGroups: 0.5 }),
    ],
    ['a weight above 1', 'INVALID_ARGUMENT', () => kalmanNorm(x(), { prior: zeros([2, 1, 2]), priorWeight: 2 })],
    ['a residual of another shape', 'SHAPE_MISMATCH', () => kalmanNorm(x(), { residual: zeros([4, 3, 3, 1]) })],
    ['a shortcut of more channels', 'SHAPE_MISMATCH', () => kalmanNorm(x(), { shortcut: { state: zeros([2, 1, 3]) } })],
    ['one value a channel', 'INVALID_ARGUMENT', () => kalmanNorm(noise([4, 2], 1), { groups: 4 })],
    ['half the running statistics', 'INVALID_ARGUMENT', () => kalmanNorm(x(), { runningMean: zeros([2]) })],
    ['a momentum above 1', 'INVALID_ARGUMENT', () => kalmanNorm(x(), { momentum: 2 })],
    ['a state without variances', 'SHAPE_MISMATCH', () => kalmanRectify(zeros([1, 2, 2]))],
    ['weights of other channels', 'SHAPE_MISMATCH', () => kalmanPredict(zeros([2, 1, 3]), zeros([2, 4]))],
    [
      'noise of another length',
      'SHAPE_MISMATCH',
      () => kalmanPredict(zeros([2, 1, 3]), zeros([3, 4]), { noise: zeros([3]) }),
    ],
    ['gamma of another length', 'SHAPE_MISMATCH', () => kalmanNormalized(zeros([2, 1, 3]), { gamma: ones([2]) })],
  ] as const)('refuses %s', (_name, code, body: () => unknown) => {
    expect(() => scope(body)).toThrow(expect.objectContaining({ code }));
  });
});

describe('transitions', () => {
  it('BKN-5: of ReLU and a convolution are the moments of the layer, away from borders', async () => {
    // 20,000 pseudo-samples.
    const [inputs, outputs, samples] = [5, 4, 20_000];
    const state = noise([2, 1, inputs], 3).abs().add(0.2);
    const weight = noise([3, 3, inputs, outputs], 4);
    const predicted = await kalmanPredict(kalmanRectify(state), weight).data();
    const moments = await state.data();
    const mean = tensor(moments.slice(0, inputs) as Float32Array);
    const deviation = tensor(Float32Array.from(moments.slice(inputs), (v) => Math.sqrt(v)));
    const patches = randn([samples, 9, inputs])
      .mul(deviation)
      .add(mean)
      .relu()
      .reshape([samples, 9 * inputs]);
    const values = await patches.matmul(weight.reshape([9 * inputs, outputs])).data();
    for (let channel = 0; channel < outputs; channel++) {
      let [first, second] = [0, 0];
      for (let at = channel; at < values.length; at += outputs) {
        first += values[at]! / samples;
        second += values[at]! ** 2 / samples;
      }
      const variance = second - first ** 2;
      expect(Math.abs(first - predicted[channel]!)).toBeLessThan(4 * Math.sqrt(variance / samples));
      expect(Math.abs(variance / predicted[outputs + channel]! - 1)).toBeLessThan(0.05);
    }
  });

  it('have gradients that agree with finite differences', async () => {
    const state = leaf(noise([2, 2, 4], 1).mul(0.3).add(0.9));
    const weight = leaf(noise([3, 1, 2, 6], 2));
    const [bias, extra] = [leaf(noise([6], 3)), leaf(noise([6], 4))];
    const options = { channelGroups: 2 };
    expect(
      await gradcheck(
        (s, w, b, n) => kalmanPredict(s!, w!, { ...options, bias: b, noise: n }),
        [state, weight, bias, extra],
      ),
    ).toMatchObject({ passed: true });
    expect(await gradcheck((s) => kalmanRectify(s!), [state])).toMatchObject({ passed: true });
    const [gamma, beta] = [leaf(noise([4], 5)), leaf(noise([4], 6))];
    expect(
      await gradcheck((s, g, b) => kalmanNormalized(s!, { gamma: g, beta: b, epsilon: 0.5 }), [state, gamma, beta]),
    ).toMatchObject({ passed: true });
  });

  it('of ReLU hold far from 0', async () => {
    const state = tensor([30, -30, 0, 1, 1, 1], { shape: [2, 1, 3] });
    const [far, dead, half] = [0, 1, 2].map((at) => [at, at + 3] as const);
    const values = await kalmanRectify(state).data();
    expect(values[far![0]]).toBeCloseTo(30, 5);
    expect(values[far![1]]).toBeCloseTo(1, 5);
    expect(values[dead![0]]).toBe(0);
    expect(values[dead![1]]).toBeCloseTo(1e-8, 12);
    expect(values[half![0]]).toBeCloseTo(1 / Math.sqrt(2 * Math.PI), 6);
    expect(values[half![1]]).toBeCloseTo(0.5 - 1 / (2 * Math.PI), 6);
  });
});
