import { inspect } from 'node:util';
import { Linear, Module, Parameter, Sequential } from '../../src/nn';
import { keep, noGrad, ones, type Tensor, tensor, zeros } from '../../src/tensor';

const linear = () => new Linear({ inFeatures: 2, outFeatures: 3 });

/** A module with what a test gives it. */
class Net extends Module {
  readonly first = linear();

  constructor(properties: object = {}) {
    super();
    Object.assign(this, properties);
  }

  override forward(input: Tensor): Tensor {
    return this.first.call(input);
  }
}

class Helper {
  readonly layer = linear();
}

function refusal(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    return (error as Error).message;
  }
  return 'no error';
}

const where = 'put it into a property, an array or new nn.Sequential({ name: layer })';

test.each<[string, () => object, string]>([
  ['a Map', () => ({ heads: new Map([['left', linear()]]) }), 'Net: heads is a Map that holds a Linear'],
  ['a Set', () => ({ heads: new Set([linear()]) }), 'Net: heads is a Set that holds a Linear'],
  ['an object', () => ({ heads: { left: linear() } }), 'Net: heads is an object { left } that holds a Linear'],
  [
    'an object without a prototype',
    () => ({ heads: Object.assign(Object.create(null), { left: linear() }) }),
    'Net: heads is an object { left } that holds a Linear',
  ],
  ['a map in an array', () => ({ stages: [linear(), new Map([[0, linear()]])] }), 'Net: stages.1 is a Map that holds'],
  ['an array in a map', () => ({ stages: new Map([[0, [1, linear()]]]) }), 'Net: stages is a Map that holds a Linear'],
  [
    'a parameter in a map',
    () => ({ scales: new Map([['a', new Parameter(zeros([1]))]]) }),
    'Net: scales is a Map that holds a Parameter',
  ],
])('a part in %s is refused wherever parameters are asked for', (_what, properties, message) => {
  const net = new Net(properties());
  for (const call of ['parameters', 'namedParameters', 'stateDict', 'parameterCount', 'zeroGrad'] as const) {
    for (let time = 0; time < 2; time++) expect(refusal(() => net[call]())).toContain(message);
  }
  expect(refusal(() => new Sequential([new Net(), net]).parameters())).toContain(message);
  const found = refusal(() => net.parameters());
  expect(found).toContain(`, which is not found there, so it is neither trained nor saved; ${where}`);
});

test('what is found elsewhere may be in a map, too, and so may anything else', () => {
  const [layer, scale] = [linear(), new Parameter(zeros([1]))];
  const circle: Record<string, unknown> = { name: 'circle' };
  circle['itself'] = circle;
  const net = new Net({
    layers: [layer],
    scale,
    byName: new Map<string, unknown>([
      ['layer', layer],
      ['scale', scale],
    ]),
    options: { sizes: [1, 2], nested: { when: new Date(), run: () => 1 } },
    circle,
    helper: new Helper(),
    cache: keep(ones([1])),
    numbers: new Float32Array(3),
    nothing: null,
  });
  expect(net.namedParameters().map(([name]) => name)).toEqual([
    'scale',
    'first.weight',
    'first.bias',
    'layers.0.weight',
    'layers.0.bias',
  ]);
});

test('what a child keeps in a map may have its place in the parent', () => {
  const shared = linear();
  const child = new Net({ partners: new Map([['shared', shared]]) });
  expect(new Net({ child, shared }).parameters()).toHaveLength(6);
});

test('private fields are where to keep what does not belong to the module', () => {
  class Student extends Net {
    readonly #teachers = new Map([['large', linear()]]);

    get teachers(): number {
      return this.#teachers.size;
    }
  }
  const student = new Student();
  expect([student.teachers, student.parameters().length]).toEqual([1, 2]);
});

test('a tensor that requires a gradient is no parameter', () => {
  const net = new Net({ scale: tensor([1], { requiresGrad: true }) });
  const message =
    'Net: scale is a tensor with requiresGrad but no Parameter, so it is neither trained nor saved; give new nn.Parameter(…), or keep ' +
    'it in a #private field where that is meant';
  expect(refusal(() => net.parameters())).toBe(message);
  const fine = new Net({ output: new Parameter(ones([2])).mul(2), constant: ones([2]) });
  expect(fine.parameters()).toHaveLength(2);
});

test('a parameter is not replaced by a plain tensor', () => {
  const net = new Net();
  const first = net.first as { weight: Tensor; bias: Tensor | undefined };
  net.parameters();
  const weight = first.weight;
  first.weight = noGrad(() => weight.mul(2));
  expect(refusal(() => net.parameters())).toBe(
    'Linear: weight was a Parameter and is a Tensor now, which is neither trained nor saved; give a new nn.Parameter(…), or write ' +
      'values into the one there was with copyFrom() or loadStateDict()',
  );
  expect(refusal(() => net.stateDict())).toContain('Linear: weight was a Parameter');
  first.weight = new Parameter(first.weight);
  first.bias = undefined;
  expect(net.namedParameters()).toEqual([['first.weight', first.weight]]);
});

test('what is refused can still be shown', () => {
  expect(inspect(new Net({ heads: new Map([['left', linear()]]) }))).toContain('(first): Linear(');
});
