import { EvenkeelError } from '../../src/errors';
import * as nn from '../../src/nn';
import { ones, type Tensor } from '../../src/tensor';

/** A module that notes its name when it runs. */
class Probe extends nn.Module {
  readonly #name: string;
  readonly #log: string[];

  constructor(name: string, log: string[]) {
    super();
    this.#name = name;
    this.#log = log;
  }

  override forward(input: Tensor): Tensor {
    this.#log.push(this.#name);
    return input.mul(1);
  }
}

class ProbeSum extends nn.ResidualSum {
  readonly #log: string[];

  constructor(log: string[]) {
    super();
    this.#log = log;
  }

  override enter(input: Tensor): Tensor {
    this.#log.push('enter');
    return input;
  }

  override forward(pair: nn.ResidualPair): Tensor {
    this.#log.push('sum');
    return super.forward(pair);
  }
}

/** A method that acts at every place and notes the order. */
function everywhere(log: string[]): nn.Normalization {
  return {
    name: 'everywhere',
    mixesSamples: false,
    bias: true,
    beforeWeight: () => new Probe('before', log),
    weight: (site) => {
      if (site.kind === 'linear') return undefined;
      return new nn.Sequential([new Probe('weight', log), new nn.Conv2d(site.options)]);
    },
    preActivation: () => ({ layer: new Probe('norm', log) }),
    activation: () => new Probe('activation', log),
    postActivation: () => new Probe('after', log),
    residual: () => new ProbeSum(log),
  };
}

function errorOf(body: () => unknown): EvenkeelError {
  try {
    body();
  } catch (error) {
    if (error instanceof EvenkeelError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('the table', () => {
  it('makes methods by name, with options, and takes objects', () => {
    for (const [name, make] of Object.entries(nn.normalizations)) expect(make().name).toBe(name);
    expect(Object.keys(nn.normalizations)).toEqual(
      expect.arrayContaining(['none', 'batch', 'group', 'layer', 'instance', 'rms', 'frn']),
    );
    expect(nn.resolveNormalization('frn').name).toBe('frn');
    const method = nn.normalizations.group({ groups: 2 });
    expect(nn.resolveNormalization(method)).toBe(method);
    expect(errorOf(() => nn.resolveNormalization('bach' as 'batch')).message).toContain('none, batch, ');
    expect(errorOf(() => nn.resolveNormalization('toString' as 'batch')).code).toBe('INVALID_ARGUMENT');
    expect(errorOf(() => nn.resolveNormalization(undefined as unknown as 'batch')).code).toBe('INVALID_ARGUMENT');
  });

  it('refuses options that a method does not have', () => {
    for (const make of Object.values(nn.normalizations)) {
      expect(errorOf(() => make({ epsilom: 1 } as object)).message).toContain('there is no option epsilom');
    }
    expect(errorOf(() => nn.normalizations.frn({ learnedEpsilon: 'some' as 'all' })).code).toBe('INVALID_ARGUMENT');
  });

  it('says which methods mix samples', () => {
    const mixes = (name: nn.NormalizationName) => nn.resolveNormalization(name).mixesSamples;
    expect((['batch', 'batch-renorm', 'ghost', 'ic', 'kalman'] as const).map(mixes)).not.toContain(false);
    expect((['none', 'group', 'layer', 'instance', 'rms', 'frn', 'proxy'] as const).map(mixes)).not.toContain(true);
  });
});

describe('NormalizedLayers', () => {
  it('asks the method at all places, in order', () => {
    const log: string[] = [];
    const build = new nn.NormalizedLayers({ norm: everywhere(log) });
    const input = ones([1, 4, 4, 2]);
    const conv = build.conv2d({ inChannels: 2, outChannels: 2, kernelSize: 1 });
    build.unit({ channels: 2 }).call(conv.call(input));
    expect(log.splice(0)).toEqual(['before', 'weight', 'norm', 'activation', 'after']);
    const sum = build.residual({ channels: 2, stage: 0, block: 0, transition: false });
    const entered = sum.enter(input);
    build.sumUnit({ channels: 2 }, sum).call([entered, input]);
    expect(log.splice(0)).toEqual(['enter', 'norm', 'sum', 'activation', 'after']);
    expect(build.linear({ inFeatures: 2, outFeatures: 2 })).toBeInstanceOf(nn.PreparedWeight);
    expect([build.context.weightLayers, build.context.residualSums]).toEqual([2, 1]);
  });

  it('tells the method where it is', () => {
    const sites: unknown[] = [];
    const norm: nn.Normalization = {
      name: 'watching',
      mixesSamples: false,
      bias: false,
      weight: ({ role, kind, options, context }) => {
        sites.push([role, kind, options.bias, context.weightLayers, context.note(norm, () => 'remembered')]);
        return undefined;
      },
      preActivation: ({ channels, spatial, activation, sum }) => {
        sites.push([channels, spatial, activation, sum]);
        return undefined;
      },
    };
    const build = new nn.NormalizedLayers({ norm, activation: 'silu' });
    build.conv2d({ inChannels: 1, outChannels: 2, kernelSize: 1 }, 'stem');
    build.linear({ inFeatures: 2, outFeatures: 3 }, 'classifier');
    build.unit({ channels: 2 });
    build.unit({ channels: 3, spatial: false });
    build.sumUnit({ channels: 4 }, new nn.ResidualSum());
    expect(sites).toEqual([
      ['stem', 'conv2d', false, 0, 'remembered'],
      ['classifier', 'linear', true, 1, 'remembered'],
      [2, true, 'silu', false],
      [3, false, 'silu', false],
      [4, true, 'silu', true],
    ]);
  });

  it('returns one layer where norm and activation are one', () => {
    const unit = (norm: nn.NormalizationName, activation?: nn.ActivationName) =>
      new nn.NormalizedLayers(activation === undefined ? { norm } : { norm, activation }).unit({ channels: 8 });
    expect(unit('none')).toBeInstanceOf(nn.ReLU);
    expect(unit('none', 'none')).toBeInstanceOf(nn.Identity);
    expect(unit('batch')).toBeInstanceOf(nn.BatchNorm);
    expect(unit('frn')).toBeInstanceOf(nn.FilterResponseNorm);
    expect(unit('group', 'silu').toString()).toBe('GroupNorm(channels: 8, groups: 2, activation: silu)');
    expect(
      unit('group', 'prelu')
        .children()
        .map((child) => child.constructor.name),
    ).toEqual(['GroupNorm', 'PReLU']);
  });

  it('adds a shortcut and ReLU in one pass where nothing else is asked for', () => {
    const end = (norm: nn.NormalizationName | nn.Normalization, activation: nn.ActivationName) =>
      new nn.NormalizedLayers({ norm, activation }).sumUnit({ channels: 8 }, new nn.ResidualSum());
    const kinds = (unit: nn.AnyModule) => unit.children().map((child) => child.constructor.name);
    expect(end('batch', 'relu')).toBeInstanceOf(nn.BatchNorm);
    expect(kinds(end('group', 'relu') as nn.AnyModule)).toEqual(['GroupNorm', 'ResidualSumReLU']);
    expect(kinds(end('none', 'silu') as nn.AnyModule)).toEqual(['ResidualSum', 'SiLU']);
    expect(kinds(end('batch', 'prelu') as nn.AnyModule)).toEqual(['BatchNorm', 'ResidualSum', 'PReLU']);
    const pair = [ones([1, 1, 1, 8]).mul(-3), ones([1, 1, 1, 8]).mul(2)] as const;
    expect(new Set(end('none', 'relu').call(pair).dataSync())).toEqual(new Set([0]));
    expect(new Set(end('none', 'none').call(pair).dataSync())).toEqual(new Set([-1]));
  });

  it('lets FRN choose its activation, its epsilon and its thresholds', () => {
    const unit = (
      options: Parameters<typeof nn.normalizations.frn>[0],
      spatial: boolean,
      activation: nn.ActivationName = 'relu',
    ) =>
      new nn.NormalizedLayers({ norm: nn.normalizations.frn(options), activation }).unit({
        channels: 2,
        spatial,
      }) as nn.FilterResponseNorm;
    expect([unit({}, true).tau?.size, unit({}, true).epsilonOffset]).toEqual([2, undefined]);
    expect(unit({}, false).epsilonOffset?.size).toBe(1);
    expect(unit({ learnedEpsilon: 'all' }, true).epsilonOffset?.size).toBe(1);
    expect(unit({ learnedEpsilon: 'none' }, false).epsilonOffset).toBeUndefined();
    expect([unit({}, true, 'silu').tau, unit({}, true, 'silu').activation]).toEqual([undefined, 'silu']);
    const end = (thresholdBeforeSum: boolean) =>
      new nn.NormalizedLayers({ norm: nn.normalizations.frn({ thresholdBeforeSum }) })
        .sumUnit({ channels: 2 }, new nn.ResidualSum())
        .namedParameters()
        .map(([name]) => name);
    expect(end(true)).toEqual(['normalize.gamma', 'normalize.beta', 'normalize.tau', 'activate.tau']);
    expect(end(false)).toEqual(['normalize.gamma', 'normalize.beta', 'activate.tau']);
  });

  it('refuses methods that contradict themselves', () => {
    const adding: nn.Normalization = {
      name: 'adding',
      mixesSamples: true,
      bias: false,
      preActivation: ({ channels }) => ({
        layer: new nn.BatchNorm({ channels }),
        appliesActivation: true,
        addsShortcut: true,
      }),
    };
    expect(errorOf(() => new nn.NormalizedLayers({ norm: adding }).unit({ channels: 2 })).code).toBe(
      'INVALID_ARGUMENT',
    );
    const scaling = { ...adding, residual: () => new nn.ResidualSum() };
    const build = new nn.NormalizedLayers({ norm: scaling });
    const refusal = errorOf(() => build.sumUnit({ channels: 2 }, new nn.ResidualSum()));
    expect([refusal.code, refusal.message]).toEqual(['INVALID_ARGUMENT', expect.stringContaining('replacesResidual')]);
    const layer = new nn.BatchNorm({ channels: 2 });
    const replacing: nn.Normalization = {
      ...scaling,
      preActivation: () => ({ layer, appliesActivation: true, addsShortcut: true, replacesResidual: true }),
    };
    const end = new nn.NormalizedLayers({ norm: replacing }).sumUnit({ channels: 2 }, new nn.ResidualSum());
    expect(end).toBe(layer);
  });
});
