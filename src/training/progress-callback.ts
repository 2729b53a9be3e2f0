import { formatInteger, formatNumber, formatPercent, formatSeconds } from './format';
import { ProgressBar, type ProgressStream } from './progress';
import type { EpochRow } from './run-directory';
import type { TrainingCallback } from './types';

/**
 * Shows a run while it goes on: a bar on a terminal, one line an epoch everywhere.
 *
 * @param stream where to write. Default: standard error.
 */
export function showProgress(stream: ProgressStream = process.stderr): TrainingCallback {
  const bar = new ProgressBar(stream);
  let secondsPerBatch = 0;
  let epochs = 0;
  return {
    onStart({ resumedAtStep, epochs: planned }) {
      epochs = planned;
      if (resumedAtStep > 0) {
        bar.line(`resumed after step ${formatInteger(resumedAtStep)}`);
      }
    },
    onStep({ epoch, epochs, batch, batches, metrics, imagesPerSecond }) {
      secondsPerBatch = metrics.examples / imagesPerSecond / batch;
      const left = (epochs - epoch) * batches + (batches - batch);
      bar.update({
        epoch,
        epochs,
        batch,
        batches,
        loss: metrics.loss,
        top1: metrics.top1,
        imagesPerSecond,
        phase: 'train',
        secondsLeft: left * secondsPerBatch,
      });
    },
    onValidationBatch({ epoch, epochs, batch, batches, metrics, imagesPerSecond, trainBatches }) {
      bar.update({
        epoch,
        epochs,
        batch,
        batches,
        loss: metrics.loss,
        top1: metrics.top1,
        imagesPerSecond,
        phase: 'valid',
        secondsLeft: (epochs - epoch) * trainBatches * secondsPerBatch,
      });
    },
    onEpoch(row) {
      bar.line(describeEpoch(row, epochs));
    },
    onEnd() {
      bar.clear();
    },
    onFailure() {
      bar.clear();
    },
  };
}

/** One line about an epoch. */
export function describeEpoch(row: EpochRow, epochs: number): string {
  const width = String(epochs).length;
  const validation =
    row.validationTop1 === undefined
      ? ''
      : `  valid loss ${formatNumber(row.validationLoss).padEnd(7)} accuracy ${formatPercent(row.validationTop1).padStart(8)}`;
  return (
    `epoch ${String(row.epoch).padStart(width)}/${epochs}  ` +
    `train loss ${formatNumber(row.trainLoss).padEnd(7)} accuracy ${formatPercent(row.trainTop1).padStart(8)}${validation}  ` +
    `${formatInteger(row.imagesPerSecond).padStart(6)} images/s  ${formatSeconds(row.seconds)}`
  );
}
