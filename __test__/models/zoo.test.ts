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

describe.each(narrow)('%s', (name, size, options) => {
  it.each(norms)('takes a step with %s', (norm) => {
    manualSeed(1);
    const model = models.create(name, { ...options, inputShape: [size, size, 3], classes: 3, norm });
    const images = noise([2, size, size, 3], 3);
    scope(() => {
      const logits = model.call(images);
      expect(logits.shape).toEqual([2, 3]);
      new nn.CrossEntropyLoss().call(logits, tensor([0, 2], { dtype: 'int32' })).backward();
    });
    // Where a chain of statistics ends (at max pooling, flattening, the last block), what predicts them has no part in the loss.
    const idle = (path: string, parameter: Tensor) =>
      parameter.grad === undefined && /(transition|noise|priorWeightLogit)$/.test(path);
    const named = model.namedParameters().filter(([path, parameter]) => !idle(path, parameter));
    const gradients = named.map(([, parameter]) => parameter.grad?.dataSync() ?? new Float32Array([Number.NaN]));
    const broken = named.filter((_, index) => !gradients[index]?.every(Number.isFinite)).map(([path]) => path);
    expect(broken).toEqual([]);
    const moving = gradients.filter((gradient) => gradient.some((value) => value !== 0));
    expect(moving.length).toBeGreaterThan(named.length / 2);
    const logits = noGrad(() => scope(() => model.eval().call(images).dataSync()));
    expect(logits.every(Number.isFinite)).toBe(true);
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
