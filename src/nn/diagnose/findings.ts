import type { LayerDiagnosis } from './diagnose';
import type { SampleDependence } from './sample-dependence';

/** What can be found. */
export type FindingKind =
  | 'non-finite'
  | 'constant-collapse'
  | 'uniform-instances'
  | 'correlated-channels'
  | 'ill-conditioned'
  | 'dead-units'
  | 'vanishing-gradient'
  | 'exploding-gradient'
  | 'sample-dependence';

/** Something worth a change, with the number that shows it. */
export interface Finding {
  readonly kind: FindingKind;
  /** `warning`: training will suffer; `note`: worth knowing. */
  readonly severity: 'warning' | 'note';
  /** The layer with the strongest evidence; `''` for the whole model. */
  readonly layer: string;
  /** What was measured, and where. */
  readonly evidence: string;
  /** What to do. */
  readonly advice: string;
}

/** Where a measurement becomes a finding. */
export const LIMITS = {
  /** Share of P1 in the power. */
  constantShare: 0.5,
  /** Share of P3 + P4 in the power. */
  instanceShare: 0.01,
  /** Mean absolute correlation. */
  correlation: 0.5,
  conditionNumber: 1e4,
  /** Share of channels; below it is a note. */
  deadShare: 0.1,
  leastGradientRatio: 1e-6,
  mostGradientRatio: 1,
  relativeDifference: 1e-5,
  /** Batches from this size on make batch statistics reliable: a note. */
  reliableBatch: 16,
} as const;

/** The findings, warnings first. */
export function findingsOf(
  layers: readonly LayerDiagnosis[],
  samples: SampleDependence | undefined,
  batchSize: number,
): Finding[] {
  const normalizes = layers.some(({ kind }) => kind === 'norm');
  const weights = layers.filter(({ kind }) => kind === 'weight');
  // Norms are what the power decomposition is defined on; without them, every layer with a weight but the classifier.
  const powered = normalizes ? layers.filter(({ kind }) => kind === 'norm') : weights.slice(0, -1);
  const maps = powered.filter(({ shape }) => shape.length > 1 && shape.slice(0, -1).some((extent) => extent > 1));
  const found = [
    nonFiniteFinding(layers),
    worst(
      powered,
      ({ power }) => power?.shares.constant,
      LIMITS.constantShare,
      (layer, count) => ({
        kind: 'constant-collapse',
        severity: 'warning',
        layer: layer.name,
        evidence: `${percent(layer.power?.shares.constant)} of the pre-activations' power at ${layer.name} (depth ${layer.depth} of ${layers.length}) is one constant for each channel, the same for all inputs; above ${percent(LIMITS.constantShare)} in ${layersText(count)}`,
        advice:
          'use a method that recentres each channel: proxy normalization (norm proxy), or batch norm for large batches',
      }),
    ),
    worst(
      batchSize < 2 ? [] : maps,
      ({ instanceVariability }) => (instanceVariability === undefined ? undefined : -instanceVariability),
      -LIMITS.instanceShare,
      (layer, count) => ({
        kind: 'uniform-instances',
        severity: 'note',
        layer: layer.name,
        evidence: `only ${percent(layer.instanceVariability)} of the power at ${layer.name} tells the statistics of one input from those of another (P3 + P4); below ${percent(LIMITS.instanceShare)} in ${layersText(count)}`,
        advice:
          'prefer statistics over several channels (layer, group or proxy) to statistics of single channels (instance, frn) if contrast or colour matter',
      }),
    ),
    worst(
      powered,
      ({ correlation }) => correlation,
      LIMITS.correlation,
      (layer, count) => ({
        kind: 'correlated-channels',
        severity: 'note',
        layer: layer.name,
        evidence: `channels of ${layer.name} have a mean absolute correlation of ${short(layer.correlation)} (${short(layer.mutualInformation)} nats of mutual information a pair); above ${LIMITS.correlation} in ${layersText(count)}`,
        advice:
          'the layer has fewer directions than channels: reduce its width, initialize with orthogonal or larger weights, or decorrelate with dropout',
      }),
    ),
    worst(
      weights,
      ({ conditionNumber }) => conditionNumber,
      LIMITS.conditionNumber,
      (layer, count) => ({
        kind: 'ill-conditioned',
        severity: 'note',
        layer: layer.name,
        evidence: `the covariance of the inputs of ${layer.name} has the condition number ${short(layer.conditionNumber)}; above ${short(LIMITS.conditionNumber)} in ${layersText(count)}`,
        advice: 'plain gradient descent is slow in the flat directions: normalize the layer before, or use Adam',
      }),
    ),
    worst(
      layers,
      ({ deadShare }) => deadShare,
      0,
      (layer, count) => ({
        kind: 'dead-units',
        severity: (layer.deadShare ?? 0) >= LIMITS.deadShare ? 'warning' : 'note',
        layer: layer.name,
        evidence: `${layer.deadChannels.length} of ${layer.channels} channels of ${layer.name} have one value for all inputs (${percent(layer.deadShare)}); dead channels in ${layersText(count)}`,
        advice:
          'lower the learning rate or warm it up, or use an activation with a slope on both sides (leakyRelu, silu) or a learned threshold (frn)',
      }),
    ),
    worst(
      weights,
      ({ gradientToWeight }) => (gradientToWeight === undefined ? undefined : -gradientToWeight),
      -LIMITS.leastGradientRatio,
      (layer, count) => ({
        kind: 'vanishing-gradient',
        severity: 'warning',
        layer: layer.name,
        evidence: `the gradient of ${layer.name} is ${short(layer.gradientToWeight)} of its weight; below ${LIMITS.leastGradientRatio} in ${layersText(count)}`,
        advice: 'these layers do not learn: add residual connections or normalization, or smaller steps in depth',
      }),
    ),
    worst(
      weights,
      ({ gradientToWeight }) => gradientToWeight,
      LIMITS.mostGradientRatio,
      (layer, count) => ({
        kind: 'exploding-gradient',
        severity: 'warning',
        layer: layer.name,
        evidence: `the gradient of ${layer.name} is ${short(layer.gradientToWeight)} of its weight; above ${LIMITS.mostGradientRatio} in ${layersText(count)}`,
        advice: 'warm up the learning rate, clip the gradient (--clip-norm, or adaptively with bn-free), or normalize',
      }),
    ),
    sampleFinding(samples, batchSize),
  ];
  return found
    .filter((finding) => finding !== undefined)
    .sort((first, second) => Number(second.severity === 'warning') - Number(first.severity === 'warning'));
}

function nonFiniteFinding(layers: readonly LayerDiagnosis[]): Finding | undefined {
  const forward = layers.find(({ nonFinite }) => nonFinite);
  // Backwards, what goes wrong goes wrong in all layers before.
  const backward = [...layers]
    .reverse()
    .find(({ gradientToWeight }) => gradientToWeight !== undefined && !Number.isFinite(gradientToWeight));
  const layer = forward ?? backward;
  if (layer === undefined) return undefined;
  return {
    kind: 'non-finite',
    severity: 'warning',
    layer: layer.name,
    evidence: `${forward === undefined ? 'the gradient of ' : ''}${layer.name} (depth ${layer.depth} of ${layers.length}) is the first with NaN or infinity`,
    advice: 'lower the learning rate or the scale of the initial weights, and check the inputs',
  };
}

function sampleFinding(samples: SampleDependence | undefined, batchSize: number): Finding | undefined {
  if (samples === undefined || samples.relativeDifference <= LIMITS.relativeDifference) return undefined;
  return {
    kind: 'sample-dependence',
    severity: batchSize < LIMITS.reliableBatch ? 'warning' : 'note',
    layer: '',
    evidence: `the outputs of a sample in a batch of ${samples.companyOf} and in one of ${batchSize} differ by ${percent(samples.relativeDifference)} in training mode`,
    advice: `batch statistics are at work: keep the batch at ${LIMITS.reliableBatch} or more, or use a batch-independent method (frn, group, proxy, bn-free)`,
  };
}

/** The finding of the layer with the largest measure, where that is above the limit; with the number of layers that are. */
function worst(
  layers: readonly LayerDiagnosis[],
  measure: (layer: LayerDiagnosis) => number | undefined,
  limit: number,
  describe: (layer: LayerDiagnosis, count: number) => Finding,
): Finding | undefined {
  const over = layers
    .map((layer) => ({ layer, value: measure(layer) ?? Number.NEGATIVE_INFINITY }))
    .filter(({ value }) => value > limit);
  const [first, ...rest] = over;
  if (first === undefined) return undefined;
  return describe(rest.reduce((most, each) => (each.value > most.value ? each : most), first).layer, over.length);
}

function layersText(count: number): string {
  return count === 1 ? '1 layer' : `${count} layers`;
}

function percent(share: number | undefined): string {
  return share === undefined ? '-' : `${Number((100 * share).toPrecision(3))} %`;
}

function short(value: number | undefined): string {
  return value === undefined ? '-' : String(Number(value.toPrecision(3)));
}
