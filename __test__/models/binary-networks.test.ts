import * as models from '../../src/models';
import * as nn from '../../src/nn';
import * as optim from '../../src/optim';
import { manualSeed, scope, type Tensor, tensor } from '../../src/tensor';
import { noise } from '../nn/support';

/** The binary networks, narrow and on small images, with their twins. Their real sizes are in `binary-sizes.test.ts`. */
const narrow: readonly (readonly [name: string, size: number, width: number])[] = [
  ['xnornet18', 17, 3],
  ['birealnet18', 16, 2],
  ['reactnet18', 17, 3],
  ['reactnet20', 9, 3],
  ['reactnetA', 17, 2],
];
const twins = ['batch', 'bn-free', 'none'] as const;

const build = (name: string, size: number, options: models.CreateOptions) =>
  models.create(name, { inputShape: [size, size, 3], classes: 3, ...options });

/** One step of training; returns the loss. */
function step(model: nn.Module, optimizer: optim.Adam, size: number, number: number): number {
  return scope(() => {
    const loss = new nn.CrossEntropyLoss().call(
      model.call(noise([2, size, size, 3], number)),
      tensor([0, 2], { dtype: 'int32' }),
    );
    loss.backward();
    nn.gradientTransformOf(model)?.apply(model.parameters());
    optimizer.step();
    model.zeroGrad();
    return loss.itemSync();
  });
}

describe.each(narrow)('%s', (name, size, width) => {
  it.each(twins)('takes three steps, and the last two again from a saved state, with %s', (norm) => {
    manualSeed(1);
    const model = build(name, size, { width, norm });
    const optimizer = new optim.Adam(model.parameters(), { learningRate: 0.01 });
    const first = step(model, optimizer, size, 0);
    const resumed = build(name, size, { width, norm });
    const resumedOptimizer = new optim.Adam(resumed.parameters(), { learningRate: 0.01 });
    resumed.loadStateDict(model.stateDict());
    resumedOptimizer.loadStateDict(optimizer.stateDict());
    const losses = [1, 2].map((number) => step(model, optimizer, size, number));
    expect([1, 2].map((number) => step(resumed, resumedOptimizer, size, number))).toEqual(losses);
    expect([first, ...losses].every(Number.isFinite)).toBe(true);
    expect(new Set([first, ...losses]).size).toBe(3);
    model.dispose();
    resumed.dispose();
  });

  it('gives a sample the same bits alone and in a batch while training without batch norm, and not with it', () => {
    const first = (value: Tensor) => [...value.dataSync()].slice(0, 3);
    for (const norm of twins) {
      manualSeed(2);
      const model = build(name, size, { width, norm });
      scope(() => {
        const batch = noise([3, size, size, 3], 5);
        const alone = batch.slice({ ends: [1] });
        const [together, single] = [first(model.call(batch)), first(model.call(alone))];
        if (norm === 'batch') expect(together).not.toEqual(single);
        else expect(together).toEqual(single);
      });
      model.dispose();
    }
  });
});
