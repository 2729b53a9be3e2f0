/** Averages over the examples seen so far. Fractions are between 0 and 1. */
export interface Metrics {
  /** How many examples went in. */
  examples: number;
  /** Mean loss per example. */
  loss: number;
  /** Fraction of examples whose largest output is the label's. */
  top1: number;
  /** Fraction of examples whose label is among the five largest outputs; only with six classes or more. */
  top5?: number;
}

/** The running sums behind {@link Metrics}: plain numbers, so that a checkpoint can hold them exactly. */
export interface MetricSums {
  examples: number;
  loss: number;
  top1: number;
  top5: number;
  classes: number;
}

/** From this many classes on, top-5 says something. */
const TOP5_CLASSES = 6;

/** Adds up loss and accuracy batch by batch. */
export class MetricTotals {
  private sums: MetricSums = { examples: 0, loss: 0, top1: 0, top5: 0, classes: 0 };

  /**
   * Adds one batch.
   *
   * @param loss the mean loss of the batch.
   * @param logits `[batch, classes]`, row after row.
   * @param labels the true class of each row.
   */
  add(loss: number, logits: ArrayLike<number>, labels: ArrayLike<number>): void {
    const batch = labels.length;
    if (batch === 0) {
      return;
    }
    const classes = logits.length / batch;
    const { sums } = this;
    sums.examples += batch;
    sums.loss += loss * batch;
    sums.classes = classes;
    for (let row = 0; row < batch; row += 1) {
      const rank = rankOf(logits, row * classes, classes, labels[row] ?? -1);
      sums.top1 += rank < 1 ? 1 : 0;
      sums.top5 += rank < 5 ? 1 : 0;
    }
  }

  /** The averages so far; all `NaN` before the first batch. */
  values(): Metrics {
    const { examples, loss, top1, top5, classes } = this.sums;
    const metrics: Metrics = { examples, loss: loss / examples, top1: top1 / examples };
    if (classes >= TOP5_CLASSES) {
      metrics.top5 = top5 / examples;
    }
    return metrics;
  }

  /** The exact running sums, for a checkpoint. */
  state(): MetricSums {
    return { ...this.sums };
  }

  /** Continues from sums that {@link state} gave. */
  loadState(sums: MetricSums): void {
    this.sums = { ...sums };
  }
}

/** How many classes are ahead of `label`; of equal outputs the first class wins, as in {@link argmax}. */
function rankOf(logits: ArrayLike<number>, start: number, classes: number, label: number): number {
  const own = logits[start + label];
  if (own === undefined || label < 0 || label >= classes || Number.isNaN(own)) {
    return classes;
  }
  let rank = 0;
  for (let index = 0; index < classes; index += 1) {
    const other = logits[start + index] ?? 0;
    // A NaN output counts as ahead: it must never look like a success.
    if (!(other <= own) || (other === own && index < label)) {
      rank += 1;
    }
  }
  return rank;
}

/** The index of the largest of `count` values from `start`; of equal ones the first. */
export function argmax(values: ArrayLike<number>, start: number, count: number): number {
  let best = 0;
  for (let index = 1; index < count; index += 1) {
    if ((values[start + index] ?? 0) > (values[start + best] ?? 0)) {
      best = index;
    }
  }
  return best;
}

/** Softmax of one row of outputs, in double precision. */
export function softmaxRow(logits: ArrayLike<number>, start: number, count: number): number[] {
  const row = Array.from({ length: count }, (_, index) => logits[start + index] ?? 0);
  const largest = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const powers = row.map((value) => Math.exp(value - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

/** An example that the network got wrong. */
export interface Mistake {
  /** Position of the example in its dataset. */
  index: number;
  label: number;
  predicted: number;
  /** The probability that the network gave to its wrong answer. */
  confidence: number;
}

/** What an evaluation found, beyond averages: which class was taken for which, and the most confident mistakes. */
export interface Findings {
  /** `confusion[label][predicted]`: how many examples. */
  confusion: number[][];
  /** The mistakes with the highest confidence, highest first. */
  mistakes: Mistake[];
}

/** Collects {@link Findings} batch by batch. */
export class FindingsCollector {
  private readonly classes: number;
  private readonly keep: number;
  private readonly confusion: number[][];
  private mistakes: Mistake[] = [];
  private position = 0;

  /**
   * @param classes how many outputs the network has.
   * @param keep how many mistakes to keep.
   */
  constructor(classes: number, keep = 16) {
    this.classes = classes;
    this.keep = keep;
    this.confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  }

  /** Adds one batch; arguments as {@link MetricTotals.add}. */
  add(logits: ArrayLike<number>, labels: ArrayLike<number>): void {
    const { classes } = this;
    for (let row = 0; row < labels.length; row += 1) {
      const label = labels[row] ?? -1;
      const predicted = argmax(logits, row * classes, classes);
      const line = this.confusion[label];
      if (line !== undefined) {
        line[predicted] = (line[predicted] ?? 0) + 1;
      }
      if (predicted !== label) {
        const confidence = softmaxRow(logits, row * classes, classes)[predicted] ?? 0;
        this.mistakes.push({ index: this.position + row, label, predicted, confidence });
      }
    }
    this.position += labels.length;
    if (this.mistakes.length > 4 * this.keep) {
      this.mistakes = this.mostConfident();
    }
  }

  /** What was found so far. */
  findings(): Findings {
    return { confusion: this.confusion, mistakes: this.mostConfident() };
  }

  private mostConfident(): Mistake[] {
    return this.mistakes.sort((a, b) => b.confidence - a.confidence || a.index - b.index).slice(0, this.keep);
  }
}
