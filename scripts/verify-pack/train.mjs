// A few steps of training: the loss must fall.
import assert from 'node:assert';
import { crossEntropy, manualSeed, nn, optim, tensor } from 'evenkeel';

manualSeed(1);
const inputs = tensor([0, 0, 0, 1, 1, 0, 1, 1], { shape: [4, 2] });
const labels = tensor([0, 1, 1, 0], { shape: [4], dtype: 'int32' });
const model = new nn.Sequential([
  new nn.Linear({ inFeatures: 2, outFeatures: 16 }),
  new nn.ReLU(),
  new nn.Linear({ inFeatures: 16, outFeatures: 2 }),
]);
const optimizer = new optim.Adam(model.parameters(), { learningRate: 0.05 });
const losses = [];
for (let step = 0; step < 50; step++) {
  const loss = crossEntropy(model.call(inputs), labels);
  losses.push(await loss.item());
  optimizer.zeroGrad();
  loss.backward();
  optimizer.step();
}
assert(losses.at(-1) < 0.1 * losses[0], `the loss fell only from ${losses[0]} to ${losses.at(-1)}`);
