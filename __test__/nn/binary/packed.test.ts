import { manualSeed, models, nn, noGrad, randn, scope, type Tensor } from '../../../src';

const names = ['xnornet18', 'birealnet18', 'reactnet18', 'reactnet20', 'reactnetA'] as const;

/** Statistics, shifts, slopes and gains away from where they start, so that nothing is folded that must not be. */
function disturb(model: nn.Module): void {
  for (const [name, held] of model.stateDict()) {
    if (held.rank !== 1) continue;
    const positive = /variance$/i.test(name);
    held.copyFrom(
      Float32Array.from({ length: held.size }, (_, index) => {
        const noise = Math.sin(index * 12.9898 + name.length * 78.233);
        return positive ? 1 + 0.5 * noise : (/gamma$|gain$/.test(name) ? 1 : 0) + 0.4 * noise;
      }),
    );
  }
}

function output(model: nn.Module, images: Tensor): Float32Array {
  return scope(() => noGrad(() => model.call(images).dataSync() as Float32Array));
}

describe('a packed network', () => {
  const cases = names.flatMap((name) => (['batch', 'bn-free', 'none'] as const).map((norm) => [name, norm] as const));
  test.each(cases)('%s with norm %s has the outputs of the model, bit for bit', (name, norm) => {
    manualSeed(7);
    const model = models.create(name, {
      norm,
      width: name === 'reactnetA' ? 8 : 12,
      classes: 7,
      modelOptions: { stem: 'cifar', ...(norm === 'batch' ? {} : { downsample: 'binary-weight' }) },
    });
    disturb(model);
    const packed = nn.binary.pack(model, { imageShape: [24, 20, 3] });
    const images = randn([3, 24, 20, 3]);
    expect(output(packed, images)).toEqual(output(model.eval(), images));
    for (const held of [packed, model, images]) held.dispose();
  });
});
