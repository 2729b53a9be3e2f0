import * as models from '../../src/models';
import * as nn from '../../src/nn';
import * as optim from '../../src/optim';
import { manualSeed, memory, noGrad, scope, type Tensor, tensor } from '../../src/tensor';
import { Trainer } from '../../src/training';
import { noise } from '../nn/support';

/**
 * The networks for ImageNet, narrow and on small images, with every method. Their real sizes are in `published-sizes.test.ts`. The last
 * map has more than one pixel, or instance norm would leave nothing of it.
 */
const norms = Object.keys(nn.normalizations) as nn.NormalizationName[];

const narrow: readonly (readonly [name: string, size: number, options: models.CreateOptions])[] = [
  ['resnet18', 33, { width: 2 }],
  ['resnet50', 35, { width: 2 }],
  ['resnet18v2', 34, { width: 3 }],
  ['resnet50v2', 33, { width: 2 }],
  ['vggA', 64, { width: 2 }],
  ['inceptionV2', 33, { width: 4 }],
  ['inceptionV3', 107, { width: 2 }],
  ['mobilenetV1', 33, { width: 3 }],
  ['efficientnetB0', 35, { width: 8 }],
];

/** One step of gradient descent with the random numbers of that step; returns the loss. */
function step(model: nn.Module, size: number, number: number): number {
  manualSeed(100 + number);
  const optimizer = new optim.SGD(model.parameters(), { learningRate: 0.01 });
  return scope(() => {
    const logits = model.call(noise([2, size, size, 3], number));
    expect(logits.shape).toEqual([2, 3]);
    const loss = new nn.CrossEntropyLoss().call(logits, tensor([0, 2], { dtype: 'int32' }));
    loss.backward();
    nn.gradientTransformOf(model)?.apply(model.parameters());
    optimizer.step();
    return loss.itemSync();
  });
}

/** Parameters without a finite gradient. What predicts statistics has none where their chain ends, at max pooling or a gate, say. */
function brokenGradients(model: nn.Module): string[] {
  const finite = (parameter: nn.Parameter) => parameter.grad?.dataSync().every(Number.isFinite) ?? false;
  return model.namedParameters().flatMap(([name, parameter]) => {
    const chained = /(transition|noise|priorWeightLogit)$/.test(name) && parameter.grad === undefined;
    return chained || finite(parameter) ? [] : [name];
  });
}

describe.each(narrow)('%s', (name, size, options) => {
  const build = (norm: nn.NormalizationName) =>
    models.create(name, { ...options, inputShape: [size, size, 3], classes: 3, norm });

  it.each(norms)('takes three steps, and resumes after the first, with %s', (norm) => {
    manualSeed(1);
    const model = build(norm);
    step(model, size, 0);
    expect(brokenGradients(model)).toEqual([]);
    const used = model.parameters().filter(({ grad }) => grad !== undefined);
    const moving = used.filter(({ grad }) => grad?.dataSync().some((value) => value !== 0));
    // Thresholds that nothing falls below get no gradient; most other parameters do.
    expect(moving.length).toBeGreaterThan(used.length / 2);

    const resumed = build(norm);
    resumed.loadStateDict(model.stateDict());
    const losses = [model, resumed].map((each) => {
      each.zeroGrad();
      const first = step(each, size, 1);
      each.zeroGrad();
      return [first, step(each, size, 2)];
    });
    expect(losses[0]?.every(Number.isFinite)).toBe(true);
    expect(losses[1]).toEqual(losses[0]);
    model.dispose();
    resumed.dispose();
  });

  it.each(norms)('gives a sample the same bits alone and in a batch, in evaluation, with %s', (norm) => {
    manualSeed(2);
    const model = build(norm).eval();
    const images = noise([2, size, size, 3], 3);
    const run = (input: Tensor) => noGrad(() => scope(() => model.call(input).dataSync()));
    const second = images.dataSync().slice(size * size * 3) as Float32Array;
    const together = run(images);
    expect(together.every(Number.isFinite)).toBe(true);
    expect(run(tensor(second, { shape: [1, size, size, 3] }))).toEqual(together.slice(3));
    model.dispose();
  });
});

describe('the auxiliary head of inceptionV3', () => {
  const labels = () => tensor([1, 0], { dtype: 'int32' });
  const images = () => noise([2, 299, 299, 3], 4);
  const build = (norm: nn.NormalizationName) => {
    manualSeed(1);
    return models.inceptionV3({ width: 2, classes: 3, norm, dropout: 0 });
  };

  it.each(['batch', 'frn'] as const)('adds 0.4 times its loss in training with %s', (norm) => {
    const model = build(norm);
    const loss = new nn.CrossEntropyLoss();
    const before = memory().liveTensors;
    scope(() => {
      const input = images();
      const logits = model.call(input);
      const auxiliary = model.takeAuxiliaryLogits();
      expect(auxiliary?.shape).toEqual([2, 3]);
      expect(model.takeAuxiliaryLogits()).toBeUndefined();
      const expected =
        loss.call(logits, labels()).itemSync() + 0.4 * loss.call(auxiliary as Tensor, labels()).itemSync();
      auxiliary?.dispose();
      const total = new nn.AuxiliaryLoss({ model, loss }).call(model.call(input), labels());
      expect(total.itemSync()).toBeCloseTo(expected, 4);
      total.backward();
    });
    const head = model.namedParameters().filter(([name]) => name.startsWith('auxiliary.'));
    expect(head.length).toBeGreaterThan(5);
    for (const [name, parameter] of head) expect([name, parameter.grad === undefined]).toEqual([name, false]);
    model.zeroGrad();
    expect(memory().liveTensors).toBe(before);
    model.dispose();
  });

  it('is not used in evaluation, and frees what nobody took', () => {
    const model = build('none');
    const loss = new nn.AuxiliaryLoss({ model, loss: new nn.CrossEntropyLoss() });
    const before = memory().liveTensors;
    scope(() => {
      const input = images();
      model.call(input);
      const logits = model.eval().call(input);
      expect(model.takeAuxiliaryLogits()).toBeUndefined();
      expect(loss.call(logits, labels()).itemSync()).toBe(new nn.CrossEntropyLoss().call(logits, labels()).itemSync());
    });
    expect(memory().liveTensors).toBe(before);
  });

  it('needs its map, and is left out of the registry for smaller images', () => {
    const small = noise([1, 107, 107, 3], 1);
    expect(() => build('none').call(small)).toThrow('auxiliary: false');
    expect(models.create('inceptionV3', { width: 2, inputShape: [107, 107, 3] }).call(small).shape).toEqual([1, 1000]);
  });

  it('is found by the trainer', () => {
    const model = build('none');
    const optimizer = new optim.SGD(model.parameters(), { learningRate: 0.1 });
    expect(new Trainer({ model, optimizer }).loss).toBeInstanceOf(nn.AuxiliaryLoss);
    const own = new nn.AuxiliaryLoss({ model, loss: new nn.CrossEntropyLoss(), weight: 0.1 });
    expect(new Trainer({ model, optimizer, loss: own }).loss).toBe(own);
  });
});

describe('kalman in a network with branches', () => {
  it('predicts the statistics behind side-by-side branches from theirs', () => {
    manualSeed(1);
    const model = models.create('inceptionV2', { width: 4, classes: 3, norm: 'kalman' });
    step(model, 33, 0);
    const predicting = model.namedParameters().flatMap(([name, { grad }]) => (grad === undefined ? [] : [name]));
    // No branch of block 3a loses its statistics, so all of block 3b know those of their input.
    expect(predicting).toContain('blocks.1.branches.0.conv.transition');
    expect(predicting).toContain('blocks.1.branches.3.1.conv.transition');
    // Block 3a itself comes behind max pooling.
    expect(predicting).not.toContain('blocks.0.branches.0.conv.transition');
  });
});
