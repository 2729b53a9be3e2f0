import * as models from '../../src/models';
import * as nn from '../../src/nn';
import { attachState, stateOf } from '../../src/nn/statistics-chain';
import { gradcheck, kalmanPredict, manualSeed, memory, noGrad, scope, type Tensor, tensor } from '../../src/tensor';
import { noise } from './support';

function resnet(options: nn.KalmanNormalizationOptions): nn.Module {
  return models.resnetCifar({ depth: 8, width: 4, norm: nn.normalizations.kalman(options), classes: 3 });
}

function train(model: nn.Module): void {
  scope(() => {
    const labels = tensor([0, 2, 1, 0], { dtype: 'int32' });
    new nn.CrossEntropyLoss().call(model.call(noise([4, 8, 8, 3], 1)), labels).backward();
  });
}

describe('the prediction by random maps of the released code', () => {
  const state = () => noise([2, 2, 3], 5).abs().add(0.2);

  it('agrees with the closed form away from borders, within its standard error (BKN-5)', async () => {
    manualSeed(1);
    const options = { inChannels: 3, outChannels: 5, kernelSize: 3, mode: 'tied-raw' } as const;
    const [closed, sampled] = (['closed-form', 'monte-carlo'] as const).map((prediction) => {
      const layer = new nn.KalmanConv2d({ ...options, prediction, weightInitializer: nn.init.normal(0.3) });
      layer.bias!.copyFrom(Float32Array.of(1, -2, 3, 0, 0.5));
      return layer;
    });
    sampled!.weight.copyFrom(closed!.weight.dataSync());
    // 62 × 62 positions, the neighbours of which share values: about 4 patches count as one.
    const predictions = [closed!, sampled!].map((layer) => {
      const input = attachState(noise([2, 64, 64, 3], 1), { state: state(), rectified: true });
      return [...stateOf(layer.call(input))!.state.dataSync()];
    });
    for (let at = 0; at < 10; at++) {
      const [mean, variance] = [predictions[0]![at]!, predictions[0]![10 + at]!];
      const error = Math.sqrt((9 * variance) / 62 ** 2);
      expect(Math.abs(predictions[1]![at]! - mean)).toBeLessThan(4 * error);
      expect(Math.abs(predictions[1]![10 + at]! / variance - 1)).toBeLessThan(0.15);
    }
  });

  it('keeps the diagonal of what full covariances would become (BKN-5)', async () => {
    const [variances, matrix] = [[0.5, 2, 0.1, 1.3], noise([4, 3], 7)];
    const state = tensor([1, -2, 0.5, 3, ...variances], { shape: [2, 1, 4] });
    const a = [...matrix.dataSync()];
    // diag(Aᵀ diag(v) A), through the whole matrix.
    const full = [0, 1, 2].map((i) =>
      [0, 1, 2].map((j) => variances.reduce((sum, v, k) => sum + a[3 * k + i]! * v * a[3 * k + j]!, 0)),
    );
    const predicted = [...(await kalmanPredict(state, matrix).data())].slice(3);
    for (const [at, value] of predicted.entries()) expect(value).toBeCloseTo(full[at]![at]!, 5);
  });

  it('has gradients into the statistics and the kernel, with a border and a stride', async () => {
    const leaf = (value: Tensor): Tensor => tensor(value.dataSync(), { shape: value.shape, requiresGrad: true });
    const layer = new nn.KalmanConv2d({
      ...{ inChannels: 3, outChannels: 2, kernelSize: 3, padding: 1, stride: 2, bias: false },
      ...{ mode: 'tied-raw', prediction: 'monte-carlo' },
    });
    const input = noise([4, 5, 5, 3], 1);
    const result = await gradcheck(
      (given) => {
        manualSeed(4);
        return scope(() => stateOf(layer.call(attachState(input, { state: given!, rectified: true })))!.state);
      },
      [leaf(state())],
    );
    expect(result).toMatchObject({ passed: true });
    scope(() => {
      const { state: predicted } = stateOf(layer.call(attachState(input, { state: state(), rectified: true })))!;
      predicted.sum().backward();
    });
    expect(layer.weight.grad!.dataSync().every((value) => Number.isFinite(value) && value !== 0)).toBe(true);
  });

  it('trains a network, takes the closed form where a map has one position, and leaves no tensors', () => {
    manualSeed(2);
    const model = resnet({ mode: 'tied-raw', prediction: 'monte-carlo', groupSize: 2 });
    train(model);
    for (const [name, parameter] of model.namedParameters()) {
      expect([name, parameter.grad!.dataSync().every(Number.isFinite)]).toEqual([name, true]);
    }
    model.zeroGrad();
    train(model);
    model.zeroGrad();
    const { liveTensors } = memory();
    train(model);
    model.zeroGrad();
    expect(memory().liveTensors).toBe(liveTensors);
    const point = new nn.KalmanConv2d({
      ...{ inChannels: 3, outChannels: 2, kernelSize: 1, mode: 'tied-raw', prediction: 'monte-carlo' },
    });
    const predict = () => {
      const input = attachState(noise([4, 1, 1, 3], 1), { state: state(), rectified: true });
      return [...stateOf(point.call(input))!.state.dataSync()];
    };
    expect(predict()).toEqual(predict());
    expect(Math.min(...predict().slice(4))).toBeGreaterThan(0);
  });
});

describe('options of the method kalman', () => {
  it('inputPrior gives the first norm a prediction from standardized data', () => {
    manualSeed(3);
    const model = resnet({ mode: 'tied-norm', inputPrior: true, groupSize: 2, priorWeight: 0.5 });
    const norms = model.modules().filter((module) => module instanceof nn.BatchKalmanNorm);
    const priors: (number[] | undefined)[] = [];
    for (const norm of norms) {
      norm.onCall((_, input) => {
        // The end of a block is given a pair, with the shortcut.
        const branch: unknown = Array.isArray(input) ? input[0] : input;
        const state = stateOf(branch as Tensor)?.state;
        priors.push(state === undefined ? undefined : [...state.dataSync()]);
      });
    }
    train(model);
    expect(norms[0]!.priorWeight).toBe(0.5);
    expect(priors).not.toContain(undefined);
    // Mean 0, and the sums of the squared weights of each filter.
    const [, kernel] = model.namedParameters().find(([name]) => name.endsWith('weight'))!;
    const squares = [0, 1, 2, 3].map((output) =>
      [...kernel.dataSync()].reduce((sum, weight, at) => (at % 4 === output ? sum + weight ** 2 : sum), 0),
    );
    const [means, variances] = [priors[0]!.slice(0, 8), priors[0]!.slice(8)];
    expect(means).toEqual(Array<number>(8).fill(0));
    for (const [at, value] of variances.entries()) expect(value).toBeCloseTo(squares[at % 4]!, 5);
    expect(noGrad(() => model.eval().call(noise([1, 8, 8, 3], 2))).shape).toEqual([1, 3]);
  });

  it('stopChainGradient keeps the loss of a norm out of the layers that predicted for it', () => {
    const options = { mode: 'tied-raw', learnPriorWeight: true, priorWeight: 0.5, groupSize: 2 } as const;
    const gradients = [false, true].map((stopChainGradient) => {
      const before = attachState(noise([4, 3, 3, 2], 1), { state: noise([2, 2, 2], 2).abs(), rectified: true });
      manualSeed(5);
      const layer = new nn.KalmanConv2d({ inChannels: 2, outChannels: 2, kernelSize: 1, mode: 'tied-raw' });
      const norm = new nn.BatchKalmanNorm({ channels: 2, ...options, stopChainGradient });
      scope(() =>
        norm
          .call(layer.call(before))
          .mul(noise([4, 3, 3, 2], 3))
          .sum()
          .backward(),
      );
      return [layer.weight, norm.priorWeightLogit!].map(({ grad }) => [...grad!.dataSync()]);
    });
    expect(gradients[1]![0]).not.toEqual(gradients[0]![0]);
    expect(gradients[1]![1]).toEqual(gradients[0]![1]);
  });

  it('refuses what a mode cannot do', () => {
    const attempt = (options: object) => () => nn.normalizations.kalman(options);
    expect(attempt({ prediction: 'monte-carlo' })).toThrow("mode 'learned'");
    expect(attempt({ mode: 'tied-raw', prediction: 'random' })).toThrow("'monte-carlo'");
    expect(() => new nn.BatchKalmanNorm({ channels: 2, stopChainGradient: true })).toThrow('learned');
  });
});
