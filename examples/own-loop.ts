import { data, nn, noGrad, optim, scope, type Tensor } from 'evenkeel';

class Net extends nn.Module {
  // Parts are found by looking at the properties: parameters, modules, and arrays of these.
  readonly body = [1, 16].map(
    (inChannels) =>
      new nn.Sequential([
        new nn.Conv2d({ inChannels, outChannels: 16, kernelSize: 3, padding: 'same', bias: false }),
        new nn.GroupNorm({ channels: 16, activation: 'relu' }),
        new nn.MaxPool2d({ kernelSize: 2 }),
      ]),
  );
  readonly head = new nn.Linear({ inFeatures: 16 * 2 * 2, outFeatures: 10 });

  override forward(images: Tensor): Tensor {
    return this.head.call(this.body.reduce((value, block) => block.call(value), images).flatten(1));
  }
}

async function main() {
  const { train, test } = data.digits();
  const model = new Net();
  const loss = new nn.CrossEntropyLoss();
  const optimizer = new optim.AdamW(model.parameters(), { learningRate: 0.01, weightDecay: 0.01 });
  const loader = new data.DataLoader(train, { batchSize: 32, shuffle: true, seed: 1 });
  const schedule = optim.schedules.cosine({ learningRate: 0.01, steps: 5 * loader.length });
  let step = 0;
  for (let epoch = 0; epoch < 5; epoch += 1) {
    for await (const { images, labels } of loader) {
      optimizer.learningRate = schedule(step);
      // Frees what is made in it, as soon as the gradient no longer needs it; what it returns stays.
      scope(() => {
        loss.call(model.call(images), labels).backward();
        optim.clipByGlobalNorm(model.parameters(), 1);
        optimizer.step();
      });
      optimizer.zeroGrad();
      images.dispose();
      labels.dispose();
      step += 1;
    }
  }

  model.eval();
  let right = 0;
  for await (const { images, labels } of new data.DataLoader(test, { batchSize: 100 })) {
    const predicted = scope(() => noGrad(() => model.call(images).argmax()));
    const [classes, wanted] = await Promise.all([predicted.data(), labels.data()]);
    right += classes.filter((label, index) => label === wanted[index]).length;
  }
  console.log(`${((100 * right) / test.length).toFixed(1)} % of the test digits are right`);
}

main();
