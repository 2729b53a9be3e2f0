import { data, models, nn, optim, Trainer } from 'evenkeel';

async function main() {
  const { train, test } = data.digits();
  const model = models.create('resnet-tiny', { norm: 'frn' });
  const optimizer = new optim.SGD(optim.parameterGroups(model, { weightDecay: 5e-4 }), {
    learningRate: 0.1,
    momentum: 0.9,
  });
  const loader = new data.DataLoader(train, { batchSize: 16, shuffle: true, seed: 1 });
  const schedule = optim.schedules.oneCycle({ learningRate: 0.1, steps: 10 * loader.length });
  const trainer = new Trainer({ model, optimizer, schedule, loss: new nn.CrossEntropyLoss() });
  const result = await trainer.fit(loader, { epochs: 10, validation: new data.DataLoader(test, { batchSize: 256 }) });
  console.log(`${(100 * (result.best?.validationTop1 ?? 0)).toFixed(1)} % of the test digits are right`);
}

main();
