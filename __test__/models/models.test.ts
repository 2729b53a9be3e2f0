import { EvenkeelError } from '../../src/errors';
import * as models from '../../src/models';
import * as nn from '../../src/nn';
import { manualSeed, memory, noGrad, scope, type Tensor, tensor } from '../../src/tensor';
import { noise } from '../nn/support';

const norms = Object.keys(nn.normalizations) as nn.NormalizationName[];

type Build = (norm: nn.NormalizationName | nn.Normalization) => nn.Module;

const small: Readonly<Record<string, { readonly build: Build; readonly shape: readonly number[] }>> = {
  mlp: { build: (norm) => models.mlp({ inputs: 10, hidden: [7, 5], classes: 3, norm }), shape: [10] },
  lenet: { build: (norm) => models.lenet({ inputShape: [8, 9, 1], classes: 3, norm }), shape: [8, 9, 1] },
  'resnet v1, A': {
    build: (norm) => models.resnetCifar({ depth: 8, width: 3, classes: 3, norm }),
    shape: [5, 6, 3],
  },
  'resnet v1, projection': {
    build: (norm) => models.resnetCifar({ depth: 8, width: 3, classes: 3, norm, shortcut: 'projection' }),
    shape: [5, 6, 3],
  },
  'resnet v2, bottleneck': {
    build: (norm) => models.resnetCifar({ depth: 11, version: 2, width: 2, classes: 3, norm }),
    shape: [5, 6, 3],
  },
  'resnet v2, basic, A': {
    build: (norm) => models.resnetCifar({ depth: 8, version: 2, width: 3, classes: 3, norm, shortcut: 'A' }),
    shape: [5, 6, 3],
  },
  'resnet-tiny': { build: (norm) => models.create('resnet-tiny', { classes: 3, norm, width: 3 }), shape: [8, 8, 1] },
};

function slice(values: ArrayLike<number>, start: number, end: number): Float32Array {
  return Float32Array.from(values).slice(start, end);
}

describe.each(Object.entries(small))('%s', (_name, { build, shape }) => {
  const size = shape.reduce((product, axis) => product * axis, 1);
  const batch = () => noise([4, ...shape], 3);
  const labels = () => tensor([0, 2, 1, 0], { dtype: 'int32' });
  const run = (model: nn.Module, input: Tensor) => noGrad(() => scope(() => model.call(input).dataSync()));

  it.each(norms)('trains one step with %s', (norm) => {
    manualSeed(1);
    const model = build(norm);
    scope(() => {
      const logits = model.call(batch());
      expect(logits.shape).toEqual([4, 3]);
      new nn.CrossEntropyLoss().call(logits, labels()).backward();
    });
    let moving = 0;
    for (const [name, parameter] of model.namedParameters()) {
      // Where a chain of statistics ends (at max pooling, flattening, the last block), what predicts them has no part in the loss.
      if (/(transition|noise|priorWeightLogit)$/.test(name) && parameter.grad === undefined) continue;
      const gradient = [...(parameter.grad?.dataSync() ?? [Number.NaN])];
      expect([name, gradient.every(Number.isFinite)]).toEqual([name, true]);
      if (gradient.some((value) => value !== 0)) moving += 1;
    }
    // Thresholds that nothing falls below get no gradient; most other parameters do.
    expect(moving).toBeGreaterThan(model.parameters().length / 2);
    model.dispose();
  });

  it.each(norms.filter((norm) => !nn.normalizations[norm]().mixesSamples))(
    'gives a sample the same bits alone and in a batch with %s',
    (norm) => {
      manualSeed(2);
      const model = build(norm);
      const images = batch();
      const together = run(model, images);
      for (const index of [0, 3]) {
        const values = slice(images.dataSync(), index * size, (index + 1) * size);
        const alone = run(model, tensor(values, { shape: [1, ...shape] }));
        expect(alone).toEqual(slice(together, index * 3, (index + 1) * 3));
      }
      expect(run(model.eval(), images)).toEqual(together);
    },
  );

  it('depends on the batch with batch, in training only', () => {
    manualSeed(2);
    const model = build('batch');
    const images = batch();
    const pair = tensor(slice(images.dataSync(), 0, 2 * size), { shape: [2, ...shape] });
    expect(run(model, pair)).not.toEqual(slice(run(model, images), 0, 6));
    model.eval();
    expect(run(model, pair)).toEqual(slice(run(model, images), 0, 6));
  });

  it('can be saved and loaded', () => {
    const [source, target] = [build('batch'), build('batch')];
    run(source, batch());
    target.loadStateDict(source.stateDict());
    expect(run(target.eval(), batch())).toEqual(run(source.eval(), batch()));
    expect(() => target.loadStateDict(build('none').stateDict())).toThrow(EvenkeelError);
  });

  it('frees what a step makes', () => {
    const model = build('frn');
    const images = batch();
    const step = () =>
      scope(() => {
        new nn.CrossEntropyLoss().call(model.call(images), labels()).backward();
        model.zeroGrad();
      });
    step();
    const before = memory().liveTensors;
    step();
    expect(memory().liveTensors).toBe(before);
  });
});

describe('resnetCifar', () => {
  it('has the size of the paper', () => {
    const report = nn.summary(models.resnetCifar({ depth: 20 }), [32, 32, 3]);
    expect([report.parameters, report.multiplyAdds]).toEqual([269_722, 40_551_040]);
    expect(report.rows.filter((row) => row.type === 'Conv2d')).toHaveLength(19);
    // He et al. 2016a, table 6: 0.46, 0.66, 0.85 and 1.7 million.
    const parameters = [32, 44, 56, 110].map((depth) => models.resnetCifar({ depth }).parameterCount());
    expect(parameters.map((count) => Math.round(count / 1e4) / 100)).toEqual([0.46, 0.66, 0.85, 1.73]);
  });

  it('takes half width, projections and other stages', () => {
    expect(models.resnetCifar({ depth: 20, width: 8 }).parameterCount()).toBeLessThan(269_722 / 3.9);
    const projections = models.resnetCifar({ depth: 20, shortcut: 'projection' });
    expect(projections.parameterCount()).toBe(269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64));
    const { rows } = nn.summary(models.resnetCifar({ depth: 14, stages: 2 }), [16, 16, 3]);
    expect(rows.find((row) => row.name === 'blocks.5')?.outputShape).toEqual([8, 8, 32]);
  });

  it('has the shapes of version 2', () => {
    const { rows } = nn.summary(models.resnetCifar({ depth: 20, version: 2 }), [32, 32, 3]);
    const shape = (name: string) => rows.find((row) => row.name === name)?.outputShape;
    expect([shape('blocks.0.conv1'), shape('blocks.0'), shape('blocks.2.conv2'), shape('blocks.5')]).toEqual([
      [32, 32, 16],
      [32, 32, 64],
      [16, 16, 64],
      [8, 8, 256],
    ]);
    expect(shape('blocks.0.norm1')).toBeUndefined();
    expect(shape('finalNorm')).toEqual([8, 8, 256]);
  });

  it('names its parameters by block', () => {
    const names = models
      .resnetCifar({ depth: 8 })
      .namedParameters()
      .map(([name]) => name);
    expect(names.slice(0, 7)).toEqual([
      'stem.weight',
      'stemNorm.gamma',
      'stemNorm.beta',
      'blocks.0.conv1.weight',
      'blocks.0.norm1.gamma',
      'blocks.0.norm1.beta',
      'blocks.0.conv2.weight',
    ]);
    expect(names.slice(-2)).toEqual(['classifier.weight', 'classifier.bias']);
  });

  it('passes inputs on by every second pixel and zeros with option A', () => {
    const model = models.resnetCifar({ depth: 8, width: 2, inChannels: 2, norm: 'none' });
    const block = model.blocks[1] as nn.Module;
    // Without its branch a block is the shortcut and the activation.
    for (const parameter of block.parameters()) parameter.copyFrom(new Float32Array(parameter.size));
    const values = Float32Array.from({ length: 3 * 4 * 2 }, (_, index) => index + 1);
    const output = block.call(tensor(values, { shape: [1, 3, 4, 2] }));
    expect(output.shape).toEqual([1, 2, 2, 4]);
    expect([...output.dataSync()]).toEqual([1, 2, 0, 0, 5, 6, 0, 0, 17, 18, 0, 0, 21, 22, 0, 0]);
  });

  it('says which depths there are', () => {
    expect(() => models.resnetCifar({ depth: 21 })).toThrow('6n + 2 (8, 14, 20, …)');
    expect(() => models.resnetCifar({ depth: 21, version: 2 })).toThrow('9n + 2 (11, 20, 29, …)');
    expect(() => models.resnetCifar({ depth: 2 })).toThrow(EvenkeelError);
    expect(() => models.resnetCifar({ depth: 29, block: 'bottleneck' })).toThrow('version 2');
    expect(() => models.resnetCifar({ depth: 20, width: 0 })).toThrow('width');
    expect(() => models.resnetCifar({ depth: 20, norm: 'bach' as 'batch' })).toThrow("no normalization 'bach'");
  });
});

describe('the other models', () => {
  it('have their sizes', () => {
    // LeCun et al. 1998 in its usual form.
    expect(models.lenet({ norm: 'none' }).parameterCount()).toBe(61_706);
    expect(models.lenet({ inputShape: [32, 32, 1], norm: 'none' }).parameterCount()).toBe(61_706);
    expect(models.mlp({ inputs: 64, hidden: [32], norm: 'none' }).parameterCount()).toBe(64 * 32 + 32 + 330);
    expect(models.create('resnet-tiny').parameterCount()).toBeLessThan(50_000);
    expect(() => models.lenet({ inputShape: [7, 28, 1] })).toThrow('at least 8 by 8');
    expect(() => models.mlp({ inputs: 0 })).toThrow('inputs');
  });

  it('are found by name', () => {
    for (const name of models.names()) {
      const entry = models.find(name);
      expect(entry.description).not.toBe('');
      expect(entry.inputShape).toHaveLength(3);
    }
    const outputShape = (model: nn.Module, shape: readonly number[]) => nn.summary(model, shape).rows[0]?.outputShape;
    const resnet = models.create('resnet14v2', { inputShape: [16, 16, 1], classes: 4, norm: 'frn', width: 4 });
    expect(outputShape(resnet, [16, 16, 1])).toEqual([4]);
    expect(outputShape(models.create('mlp', { inputShape: [8, 8, 1] }), [8, 8, 1])).toEqual([10]);
    expect(outputShape(models.create('lenet', { inputShape: [28, 28, 3] }), [28, 28, 3])).toEqual([10]);
    expect(() => models.create('resnet')).toThrow('mlp, lenet, resnet-tiny');
    expect(() => models.create('toString')).toThrow(EvenkeelError);
  });
});
