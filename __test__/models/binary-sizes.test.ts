import * as models from '../../src/models';
import * as nn from '../../src/nn';

// Networks of published size, built and called without memory and arithmetic.
jest.mock('../../src/native', () => jest.requireActual('../support/shapes-only'));

const summaryOf = (name: string, size: number, options: models.CreateOptions = {}) => {
  const model = models.create(name, { inputShape: [size, size, 3], classes: size > 64 ? 1000 : 10, ...options });
  const summary = nn.summary(model, [size, size, 3]);
  model.dispose();
  return summary;
};

describe('binary networks of published size', () => {
  // Binary multiply-adds, weights in binary 3×3 and 1×1 layers, and float multiply-adds (stem, shortcuts, classifier).
  const resnet = 10_985_472;
  const stages18 = (64 ** 2 * 4 * 56 ** 2 + (64 * 128 + 128 ** 2 * 3) * 28 ** 2) * 9;
  const late18 = ((128 * 256 + 256 ** 2 * 3) * 14 ** 2 + (256 * 512 + 512 ** 2 * 3) * 7 ** 2) * 9;
  const shortcuts18 = 64 * 128 * 28 ** 2 + 128 * 256 * 14 ** 2 + 256 * 512 * 7 ** 2;
  it.each([
    ['reactnet18', 224, stages18 + late18, resnet, 118_013_952 + 512_000 + shortcuts18],
    ['birealnet18', 224, stages18 + late18, resnet, 118_013_952 + 512_000 + shortcuts18],
    ['reactnet20', 32, 40_108_032, 267_264, 442_368 + 640 + 16 * 32 * 256 + 32 * 64 * 64],
    ['reactnetA', 224, 4_816_896_000, 28_253_184, 10_838_016 + 1_024_000],
    ['reactnetA', 32, 393_216_000, 28_253_184, 884_736 + 10_240],
  ])('%s on %i pixels: %i binary multiply-adds, %i binary weights, %i float multiply-adds', (...row) => {
    const [name, size, binary, weights, float] = row;
    for (const norm of ['batch', 'bn-free', 'none'] as const) {
      const summary = summaryOf(name, size, { norm });
      expect(summary.binaryMultiplyAdds).toBe(binary);
      expect(summary.binaryParameters).toBe(weights);
      expect(summary.multiplyAdds - summary.binaryMultiplyAdds).toBe(float);
    }
  });

  it.each([
    // The README of ReActNet says 1.63e8 and 0.87e8.
    ['reactnet18', 1.64e8],
    ['reactnetA', 0.871e8],
  ])('%s takes %d operations', (name, operations) => {
    expect(summaryOf(name, 224).operations / operations).toBeCloseTo(1, 2);
  });

  it('have the parameters of their tables', () => {
    // Ma et al. 2024: 11.18 and 28.32 million on CIFAR.
    expect(summaryOf('reactnet18', 32, { norm: 'bn-free' }).parameters / 1e6).toBeCloseTo(11.18, 2);
    expect(summaryOf('reactnetA', 32, { norm: 'bn-free' }).parameters / 1e6).toBeCloseTo(28.32, 2);
    // Those of torchvision's ResNet-18 but for the shifts of RSign and RPReLU.
    expect(summaryOf('birealnet18', 224).parameters).toBe(11_689_512);
  });

  it('are small in bits, and say so', () => {
    const summary = summaryOf('reactnet18', 32, { norm: 'bn-free' });
    // 1.373 MB of binary weights; shortcuts of 172,032 float weights.
    expect(summary.bits / 8e6).toBeGreaterThan(1.373 + 0.688);
    expect(summary.bits / 8e6).toBeLessThan(1.373 + 0.688 + 0.2);
    const binaryWeight = summaryOf('reactnet18', 32, {
      norm: 'bn-free',
      modelOptions: { downsample: 'binary-weight' },
    });
    expect(binaryWeight.bits / 8e6).toBeLessThan(1.6);
    expect(binaryWeight.binaryMultiplyAdds).toBe(summary.binaryMultiplyAdds);
    expect(summary.binaryShare).toBeCloseTo(0.985, 3);
    expect(String(summary)).toContain('98.5 % of the multiply-adds are binary; stored for use');
    const float = summaryOf('reactnet18', 32, { modelOptions: { weights: 'float' } });
    // Float weights, and the running statistics of 4,800 channels.
    const bits = 32 * (float.parameters + 2 * 4_800);
    expect([float.binaryMultiplyAdds, float.binaryParameters, float.bits]).toEqual([0, 0, bits]);
    expect(String(float)).not.toContain('binary;');
  });

  it('have shortcuts without float weights where asked', () => {
    expect(summaryOf('xnornet18', 32).binaryParameters).toBe(resnet + 64 * 128 + 128 * 256 + 256 * 512);
  });
});

describe('residual scaling', () => {
  const multipliers = (name: string, size: number, beta: nn.BetaTable | number[]) => {
    const norm = nn.normalizations['bn-free']({ beta, alpha: 0.2 });
    const model = models.create(name, { inputShape: [size, size, 3], norm }) as models.BinaryNetwork;
    return model.blocks.map((block) => (1 / block.beta).toFixed(4));
  };
  const words = (text: string) => text.split(' ');

  it('of ReActNet-18 is that of both tables', () => {
    const later = words('0.9449 1.0000 0.9806 0.9623');
    expect(multipliers('reactnet18', 32, 'reference')).toEqual([
      ...words('1.0000 1.0000 0.9806 0.9623'),
      ...[later, later, later].flat(),
    ]);
    const laterNfnet = words('0.9285 0.9806 0.9623 0.9449');
    expect(multipliers('reactnet18', 32, 'nfnet')).toEqual([
      ...words('1.0000 0.9806 0.9623 0.9449'),
      ...[laterNfnet, laterNfnet, laterNfnet].flat(),
    ]);
  });

  it('of ReActNet-A is that of the reference, two sums a block', () => {
    expect(multipliers('reactnetA', 32, 'reference')).toEqual(
      words(
        '1.0000 0.9806 0.9623 0.9449 1.0000 0.9806 0.9623 0.9449 1.0000 0.9806 0.9623 0.9449 1.0000 0.9806 0.9623 0.9449 0.9285 0.9129 ' +
          '0.8980 0.8839 0.8704 0.8575 0.8452 0.8333 1.0000 0.9806',
      ),
    );
    // By the rule of NF-ResNets, a transition starts again from 1 + α² behind its first sum.
    expect(multipliers('reactnetA', 32, 'nfnet').slice(2, 8)).toEqual(
      words('0.9623 0.9806 0.9623 0.9449 0.9285 0.9806'),
    );
  });

  it('can be a table of its own, or none', () => {
    const own = Array.from({ length: 18 }, (_, index) => 1 + index / 16);
    expect(multipliers('reactnet20', 32, own)).toEqual(own.map((beta) => (1 / beta).toFixed(4)));
    expect(multipliers('reactnet20', 32, 'none')).toEqual(own.map(() => '1.0000'));
    expect(() => multipliers('reactnet20', 32, own.slice(1))).toThrow('more than 17 residual sums');
    expect(() => multipliers('reactnet20', 32, [0])).toThrow('beta');
  });

  it('has α = 1/4 in binary blocks unless another is given', () => {
    const alphas = (model: models.BinaryNetwork) => new Set(model.blocks.map(({ alpha }) => alpha));
    expect(alphas(models.reactNet20({ norm: 'bn-free' }))).toEqual(new Set([0.25]));
    expect(alphas(models.reactNet20({ norm: nn.normalizations['bn-free']({ alpha: 0.2 }) }))).toEqual(new Set([0.2]));
    expect(alphas(models.reactNet20({ norm: 'batch' }))).toEqual(new Set([1]));
  });
});

describe('options of binary networks', () => {
  it('are checked', () => {
    const create =
      (modelOptions: Record<string, unknown>, norm: nn.NormalizationName = 'batch') =>
      () =>
        models.create('reactnet20', { norm, modelOptions });
    expect(create({ wieghts: 'float' })).toThrow('there is no option wieghts');
    expect(create({ weights: 'ternary' })).toThrow("give 'binary' or 'float'");
    expect(create({ padding: 'one' })).toThrow("'zero' or 'plus' or 'minus'");
    expect(create({ activationGradient: 'tanh' })).toThrow('activationGradient');
    expect(create({}, 'kalman')).toThrow('normalization kalman changes weight layers');
    expect(create({}, 'group')).not.toThrow();
    expect(() => models.create('resnet20', { modelOptions: { weights: 'float' } })).toThrow('resnet20 has no options');
  });

  it('are those of each paper', () => {
    const [xnor, real, act] = [models.xnorNet18, models.biRealNet18, models.reactNet18].map((create) =>
      create({ width: 2, norm: 'bn-free' }),
    ) as [models.BinaryNetwork, models.BinaryNetwork, models.BinaryNetwork];
    const traits = ({ stemActivation, headActivation, blocks }: models.BinaryNetwork) => {
      const { conv, activation } = blocks[0]!;
      const shortcut = (blocks[4]!.shortcut as models.DownsampleShortcut).conv.constructor.name;
      const edges = [stemActivation, headActivation].map((layer) => layer?.constructor.name);
      return [
        ...edges,
        conv.activation,
        conv.activationGradient,
        conv.weightGradient,
        activation?.constructor.name,
        shortcut,
      ];
    };
    const float = 'ScaledStandardizedConv2d';
    expect(traits(xnor)).toEqual([
      'PReLU',
      'PReLU',
      'sign',
      'steClip',
      'scaleAndClip',
      undefined,
      'BinaryWeightConv2d',
    ]);
    expect(traits(real)).toEqual([undefined, undefined, 'sign', 'approxSign', 'clip', undefined, float]);
    expect(traits(act)).toEqual([undefined, undefined, 'rsign', 'approxSign', 'clip', 'RPReLU', float]);
  });

  it('of bn-free leave out gains and the standardized stem with the standardization', () => {
    const norm = nn.normalizations['bn-free']({ standardize: false, gain: true });
    const model = models.reactNet20({ norm });
    expect(model.stem).toBeInstanceOf(nn.Conv2d);
    expect(model.stem).not.toBeInstanceOf(nn.ScaledStandardizedConv2d);
    expect(model.namedParameters().filter(([name]) => name.endsWith('gain'))).toEqual([]);
    expect(models.reactNet20({ norm: 'bn-free' }).stem).toBeInstanceOf(nn.ScaledStandardizedConv2d);
  });

  it('reach every layer', () => {
    const model = models.create('reactnet20', {
      norm: nn.normalizations['bn-free']({ standardize: false }),
      modelOptions: { padding: 'plus', downsample: 'binary-weight', activationGradient: 'steClip', weights: 'float' },
    });
    const layers = model.modules().filter((module) => module instanceof nn.BinaryLayer);
    expect(layers).toHaveLength(20);
    for (const layer of layers) {
      expect([layer.binaryWeights, layer.standardize, layer.gain]).toEqual([false, false, undefined]);
      if (!(layer instanceof nn.BinaryConv2d)) continue;
      expect([layer.paddingValue, layer.activationGradient, layer.activation]).toEqual(['plus', 'steClip', 'rsign']);
    }
  });
});
