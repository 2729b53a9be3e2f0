// TensorFlow.js's side of the benchmarks: reads one JSON request a line ({"work": "resnet20", "batch", "steps"}), times training steps
// of ResNet-20 with batch norm, and answers with one JSON line, {"seconds": [...]} or {"error": "..."}.
import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs';

/** A CIFAR ResNet-20 v1 with option A shortcuts, as tfjs-layers users write it. */
function resnet20() {
  const convolution = (filters, strides = 1) =>
    tf.layers.conv2d({ filters, kernelSize: 3, strides, padding: 'same', useBias: false });
  const input = tf.input({ shape: [32, 32, 3] });
  const normalized = (x, active) => {
    const y = tf.layers.batchNormalization().apply(x);
    return active ? tf.layers.reLU().apply(y) : y;
  };
  let x = normalized(convolution(16).apply(input), true);
  let inputs = 16;
  for (const [outputs, stride] of [
    [16, 1],
    [32, 2],
    [64, 2],
  ]) {
    for (let block = 0; block < 3; block++) {
      const strides = block === 0 ? stride : 1;
      let y = normalized(convolution(outputs, strides).apply(x), true);
      y = normalized(convolution(outputs).apply(y), false);
      // Every second pixel; the missing channels come from a 1×1 convolution: tfjs-layers cannot pad channels.
      const shortcut =
        inputs === outputs
          ? x
          : tf.layers.conv2d({ filters: outputs, kernelSize: 1, strides, useBias: false }).apply(x);
      x = tf.layers.reLU().apply(tf.layers.add().apply([y, shortcut]));
      inputs = outputs;
    }
  }
  const pooled = tf.layers.globalAveragePooling2d({}).apply(x);
  const outputs = tf.layers.dense({ units: 10, activation: 'softmax' }).apply(pooled);
  const model = tf.model({ inputs: input, outputs });
  model.compile({ optimizer: tf.train.momentum(1e-4, 0.9), loss: 'categoricalCrossentropy' });
  return model;
}

await tf.setBackend('cpu');
const model = resnet20();
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const { batch, steps } = JSON.parse(line);
    const images = tf.randomNormal([batch, 32, 32, 3]);
    const labels = tf.oneHot(tf.range(0, batch, 1, 'int32').mod(tf.scalar(10, 'int32')), 10);
    const seconds = [];
    for (let step = 0; step < steps; step++) {
      const start = performance.now();
      await model.trainOnBatch(images, labels);
      seconds.push((performance.now() - start) / 1e3);
    }
    tf.dispose([images, labels]);
    answer = { seconds };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
