import * as models from '../../src/models';
import * as nn from '../../src/nn';
import { manualSeed, noGrad, scope, tensor } from '../../src/tensor';
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
    const named = model.namedParameters();
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
