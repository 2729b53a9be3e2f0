import * as models from '../../src/models';
import * as nn from '../../src/nn';

// Networks of published size, built and called without memory and arithmetic.
jest.mock('../../src/native', () => jest.requireActual('../support/shapes-only'));

/** Parameters and multiply-adds of a model at the size of its entry in the registry. */
function sizeOf(name: string, options: models.CreateOptions = {}): readonly [parameters: number, multiplyAdds: number] {
  const model = models.create(name, options);
  const { parameters, multiplyAdds } = nn.summary(model, models.find(name).inputShape);
  model.dispose();
  return [parameters, multiplyAdds];
}

describe('with batch normalization, 1000 classes and the published input', () => {
  it.each([
    // torchvision's parameter counts; multiply-adds from table 1 of He et al. with the step in the 3×3 convolution.
    ['resnet18', 11_689_512, 1_814_073_344],
    ['resnet34', 21_797_672, 3_663_761_408],
    ['resnet50', 25_557_032, 4_089_184_256],
    ['resnet101', 44_549_160, 7_801_405_440],
    ['resnet152', 60_192_808, 11_513_626_624],
    // torchvision's vgg11_bn.
    ['vggA', 132_868_840, 7_609_090_048],
    // 11,295,240 in the model that circulates, whose 10,016 convolution channels have a bias in front of their norm.
    ['inceptionV2', 11_295_240 - 10_016, 2_032_600_064],
    // torchvision's inception_v3 with its auxiliary head, whose multiply-adds count in training only.
    ['inceptionV3', 27_161_264, 5_713_216_096],
    // Howard et al. 2017, table 4: 4.2 million and 569 million.
    ['mobilenetV1', 4_231_976, 568_740_352],
    // torchvision's count; Tan and Le 2019, table 2: 5.3 million and 0.39 billion.
    ['efficientnetB0', 5_288_548, 385_814_752],
  ])('%s has %i parameters and %i multiply-adds', (name, parameters, multiplyAdds) => {
    expect(sizeOf(name)).toEqual([parameters, multiplyAdds]);
  });

  it.each([
    // Version 1 without the norms on its projections, because the final norm stands for the one that the first block lacks.
    ['resnet18v2', 11_689_512 - 2 * (128 + 256 + 512)],
    ['resnet34v2', 21_797_672 - 2 * (128 + 256 + 512)],
    ['resnet50v2', 25_557_032 - 2 * (256 + 512 + 1024 + 2048)],
    ['resnet101v2', 44_549_160 - 2 * (256 + 512 + 1024 + 2048)],
  ])('%s has %i parameters', (name, parameters) => {
    const [counted, multiplyAdds] = sizeOf(name);
    expect([counted, multiplyAdds]).toEqual([parameters, sizeOf(name.slice(0, -2))[1]]);
  });

  it('inceptionV3 has the size of torchvision without its auxiliary head', () => {
    expect(models.inceptionV3({ auxiliary: false }).parameterCount()).toBe(23_834_568);
  });

  it('vggA has the size of the paper without normalization, and norms behind its linear layers if asked', () => {
    expect(sizeOf('vggA', { norm: 'none' })).toEqual([132_863_336, 7_609_090_048]);
    expect(models.vggA({ normalizeLinear: true }).parameterCount()).toBe(132_868_840 + 4 * 4096);
  });
});

describe('any number of classes, width and input', () => {
  it.each(['resnet18', 'resnet50v2', 'vggA', 'inceptionV2', 'inceptionV3', 'mobilenetV1', 'efficientnetB0'])(
    '%s',
    (name) => {
      const inputShape = [96, 80, 1];
      const model = models.create(name, { inputShape, classes: 7, width: 4 });
      expect(nn.summary(model, inputShape).rows[0]?.outputShape).toEqual([7]);
      expect(() => models.create(name, { classes: 0 })).toThrow('classes');
      expect(() => models.create(name, { width: 0.5 })).toThrow('width');
    },
  );

  it('says what does not fit', () => {
    expect(() => models.resnet({ depth: 20 as 18 })).toThrow('there is no depth 20; give 18, 34, 50, 101, 152');
    expect(() => models.resnet({ depth: 18, version: 3 as 2 })).toThrow('give 1 or 2');
    expect(() => models.vggA({ inputShape: [31, 64, 3] })).toThrow('at least 32 by 32');
  });
});
