import * as models from '../../src/models';
import * as nn from '../../src/nn';
import * as optim from '../../src/optim';
import { scope, tensor } from '../../src/tensor';
import { codeOf } from '../support/tensors';

// The compiler checks these types: `tsc` fails where create() returns something wider.
const small = { classes: 3, width: 4 };
const made = {
  mlp: (): models.Mlp => models.create('mlp', { inputShape: [4, 4, 1] }),
  lenet: (): models.Lenet => models.create('lenet'),
  'resnet-tiny': (): models.ResnetCifar => models.create('resnet-tiny', small),
  resnet20: (): models.ResnetCifar => models.create('resnet20', small),
  resnet26: (): models.ResnetCifar => models.create('resnet26', small),
  resnet29v2: (): models.ResnetCifar => models.create('resnet29v2', small),
  resnet18: (): models.Resnet => models.create('resnet18', small),
  resnet34v2: (): models.Resnet => models.create('resnet34v2', small),
  vggA: (): models.VggA => models.create('vggA', { ...small, inputShape: [32, 32, 3] }),
  inceptionV2: (): models.InceptionV2 => models.create('inceptionV2', small),
  inceptionV3: (): models.InceptionV3 => models.create('inceptionV3', { ...small, inputShape: [75, 75, 3] }),
  mobilenetV1: (): models.MobilenetV1 => models.create('mobilenetV1', small),
  efficientnetB0: (): models.EfficientnetB0 => models.create('efficientnetB0', small),
  reactnet20: (): models.BinaryNetwork => models.create('reactnet20', small),
} as const;

const classes: Readonly<Record<keyof typeof made, abstract new (...given: never) => nn.Module>> = {
  mlp: models.Mlp,
  lenet: models.Lenet,
  'resnet-tiny': models.ResnetCifar,
  resnet20: models.ResnetCifar,
  resnet26: models.ResnetCifar,
  resnet29v2: models.ResnetCifar,
  resnet18: models.Resnet,
  resnet34v2: models.Resnet,
  vggA: models.VggA,
  inceptionV2: models.InceptionV2,
  inceptionV3: models.InceptionV3,
  mobilenetV1: models.MobilenetV1,
  efficientnetB0: models.EfficientnetB0,
  reactnet20: models.BinaryNetwork,
};

test.each(Object.keys(made) as (keyof typeof made)[])('%s is an instance of the class of its type', (name) => {
  using model = made[name]();
  expect(model).toBeInstanceOf(classes[name]);
  expect(model.classifier).toBeInstanceOf(nn.Module);
});

test('a name that only the program knows makes a Module', () => {
  const name: string = ['lenet'].join('');
  const model = models.create(name);
  // @ts-expect-error A Module is all that is known of it.
  expect(model.classifier).toBeInstanceOf(nn.Module);
  expect(codeOf(() => models.create('no-such-model'))).toBe('INVALID_ARGUMENT');
  const either = models.create(name === 'lenet' ? 'lenet' : 'mlp');
  expect(either.classifier).toBeInstanceOf(nn.Module);
});

test.each(['batch', 'bn-free'] as const)('a classifier is replaced, and the rest frozen, with %s', (norm) => {
  const model = models.create('resnet-tiny', { width: 4, norm });
  model.setRequiresGrad(false);
  const { classifier } = model;
  model.classifier = new nn.Linear({ inFeatures: 8, outFeatures: 7 });
  classifier.dispose();
  const trained = model.parameters().filter((parameter) => parameter.requiresGrad);
  expect(trained).toEqual(model.classifier.parameters());
  expect(model.namedParameters().at(-1)?.[0]).toBe('classifier.bias');
  const optimizer = new optim.SGD(trained, { learningRate: 0.1 });
  const before = trained.map((parameter) => parameter.dataSync().slice());
  scope(() => {
    const logits = model.call(tensor(new Float32Array(2 * 64).fill(1), { shape: [2, 8, 8, 1] }));
    expect(logits.shape).toEqual([2, 7]);
    new nn.CrossEntropyLoss().call(logits, tensor(Int32Array.of(6, 5))).backward();
    const gradients = trained.map((parameter) => Array.from(parameter.grad!.dataSync()));
    nn.gradientTransformOf(model)?.apply(model.parameters());
    // What stands in the place of the classifier is spared as it was.
    expect(trained.map((parameter) => Array.from(parameter.grad!.dataSync()))).toEqual(gradients);
    optimizer.step();
  });
  for (const [index, parameter] of trained.entries()) expect(parameter.dataSync()).not.toEqual(before[index]);
});
