import { inspect } from 'node:util';
import { EvenkeelError } from '../../src/errors';
import * as nn from '../../src/nn';
import { memory } from '../../src/tensor';

describe('summary', () => {
  const model = () => {
    const shared = new nn.Linear({ inFeatures: 4, outFeatures: 4 });
    return new nn.Sequential({
      conv: new nn.Conv2d({ inChannels: 3, outChannels: 4, kernelSize: 3, stride: 2, bias: false }),
      norm: new nn.BatchNorm({ channels: 4, activation: 'relu' }),
      pool: new nn.GlobalAvgPool(),
      hidden: new nn.Sequential([shared, shared]),
    });
  };

  it('reports shapes, parameters and multiply-adds', () => {
    const report = nn.summary(model(), [7, 9, 3]);
    expect(
      report.rows.map(({ name, type, outputShape, parameters, multiplyAdds }) => [
        name,
        type,
        outputShape,
        parameters,
        multiplyAdds,
      ]),
    ).toEqual([
      ['', 'Sequential', [4], 108 + 8 + 20, 12 * 108 + 2 * 16],
      ['conv', 'Conv2d', [3, 4, 4], 108, 12 * 108],
      ['norm', 'BatchNorm', [3, 4, 4], 8, 0],
      ['pool', 'GlobalAvgPool', [4], 0, 0],
      ['hidden', 'Sequential', [4], 20, 32],
      ['hidden.0', 'Linear', [4], 20, 32],
    ]);
    expect([report.parameters, report.multiplyAdds]).toEqual([136, 1328]);
    const text = report.toString().split('\n');
    expect(text[0]).toBe('name      type           output     parameters  multiply-adds');
    expect(text[2]).toBe('conv      Conv2d         [3, 4, 4]         108          1,296');
    expect(text.at(-1)).toBe('total     Sequential                       136          1,328');
  });

  it('leaves the model as it was', () => {
    const given = model();
    given.eval();
    const norm = given.at(1) as nn.BatchNorm;
    norm.train();
    const before = memory().liveTensors;
    nn.summary(given, [7, 9, 3]);
    expect(memory().liveTensors).toBe(before);
    expect([given.training, norm.training]).toEqual([false, true]);
    expect(norm.runningVariance.dataSync()).toEqual(new Float32Array([1, 1, 1, 1]));
    expect(() => nn.summary(given, [7, 9, 2])).toThrow(EvenkeelError);
    expect([given.training, norm.training]).toEqual([false, true]);
    expect(() => nn.summary(given, [7, -9, 3])).toThrow('input shape');
  });

  it('is shown as its table by console.log', () => {
    const found = nn.summary(model(), [8, 8, 3]);
    expect(inspect(found)).toBe(found.toString());
  });
});
