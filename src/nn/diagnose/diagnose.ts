import { EvenkeelError } from '../../errors';
import { checkOptions, optionNames } from '../../options';
import { keep, noGrad, scope, type Tensor } from '../../tensor';
import { checkFloat } from '../../tensor/operations/check';
import { AuxiliaryLoss, isAuxiliaryNetwork } from '../auxiliary-loss';
import { checkMethods } from '../check';
import { CrossEntropyLoss, type Loss } from '../losses';
import type { Module } from '../module';
import { type ChannelValues, constantChannels, hasNonFinite, powerDecomposition } from './channels';
import { dependence } from './covariance';
import { type Finding, findingsOf } from './findings';
import { type LayerKind, weightOf } from './layer-kind';
import { type Observation, observe, release } from './observe';
import { type SampleDependence, sampleDependence } from './sample-dependence';

/** The batch that a model is diagnosed on; it stays the caller's. */
export interface DiagnosisBatch {
  /** The model's input, samples first. */
  readonly images: Tensor;
  /** Targets of the loss; without them there are no gradients. */
  readonly labels?: Tensor;
}

/** Options of {@link diagnose}. */
export interface DiagnoseOptions {
  /** The loss whose gradient is taken. Default: cross entropy. */
  readonly loss?: Loss;
}

/** Shares of the power of a layer's pre-activations; they add up to 1. */
export interface PowerShares {
  /** P1: one constant for each channel, the same for all inputs. */
  readonly constant: number;
  /** P2: variation within an input. */
  readonly within: number;
  /** P3: means that differ between inputs. */
  readonly means: number;
  /** P4: deviations that differ between inputs. */
  readonly deviations: number;
}

/** What was measured at one layer. What does not apply to its kind is `undefined`. */
export interface LayerDiagnosis {
  /** Dotted name. */
  readonly name: string;
  /** Class name. */
  readonly type: string;
  readonly kind: LayerKind;
  /** Place in the order of the calls, from 1. */
  readonly depth: number;
  /** Shape of the output without the batch axis. */
  readonly shape: readonly number[];
  readonly channels: number;
  /** Norms (before scale, shift and activation) and weights: mean square of the values and its parts. */
  readonly power: { readonly total: number; readonly shares: PowerShares } | undefined;
  /** P3 + P4 as a share of the power: how much the statistics of inputs differ. */
  readonly instanceVariability: number | undefined;
  /** Mean absolute correlation between the channels of the pre-activations. */
  readonly correlation: number | undefined;
  /** Mean mutual information between two of them in nats, as if they were Gaussian. */
  readonly mutualInformation: number | undefined;
  /** Weights: condition number of the covariance of the inputs' channels. */
  readonly conditionNumber: number | undefined;
  /** Activations: channels with one value for all samples and positions. */
  readonly deadChannels: readonly number[];
  /** Their share; `undefined` where there is no activation. */
  readonly deadShare: number | undefined;
  /** Weights: norm of the gradient by norm of the weight; NaN or infinite where the gradient is. */
  readonly gradientToWeight: number | undefined;
  /** Whether a value is NaN or infinite. */
  readonly nonFinite: boolean;
}

/** What {@link diagnose} found. */
export interface Diagnosis {
  readonly batchSize: number;
  /** The loss on the batch; `undefined` without labels. */
  readonly loss: number | undefined;
  /** Convolutions, linear layers, norms and activations in the order of their calls. */
  readonly layers: readonly LayerDiagnosis[];
  /** `undefined` for a batch of one. */
  readonly sampleDependence: SampleDependence | undefined;
  /** What is worth a change, warnings first. */
  readonly findings: readonly Finding[];
}

const diagnoseOptions = optionNames<DiagnoseOptions>({ loss: true });

/**
 * Examines a model on one batch, in training mode: one forward and one backward pass with every layer observed, and a few samples on their
 * own. The model is left as it was, with its modes, gradients and running statistics; random generators move on.
 *
 * Estimates at small batches are coarse: P1 is too high by about P3 / batch size. 64 samples are a good number.
 *
 * @throws EvenkeelError `INVALID_ARGUMENT` for an empty batch, and whatever the model or the loss throws.
 */
export async function diagnose(
  model: Module<Tensor, Tensor>,
  batch: DiagnosisBatch,
  options: DiagnoseOptions = {},
): Promise<Diagnosis> {
  checkOptions('diagnose', options, diagnoseOptions);
  checkMethods('diagnose', 'model', model, ['call', 'modules'], 'a Module, such as models.create(…)');
  const { images, labels } = Object(batch) as DiagnosisBatch;
  checkFloat('diagnose', { images });
  const batchSize = images.shape[0] ?? 0;
  if (batchSize < 1 || images.rank < 2) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `diagnose: the images have the shape [${images.shape.join(', ')}]; give at least one sample, [batch, ...]`,
    );
  }
  const restore = await remember(model);
  try {
    model.train();
    const { observations, loss } = pass(model, images, labels, options.loss ?? new CrossEntropyLoss());
    const layers: LayerDiagnosis[] = [];
    try {
      for (const [index, observation] of observations.entries()) {
        layers.push(await measure(observation, index + 1, batchSize));
      }
    } finally {
      for (const observation of observations) release(observation);
    }
    const lossValue = await loss?.item();
    loss?.dispose();
    const samples = await sampleDependence(model, images);
    const findings = findingsOf(layers, samples, batchSize);
    return { batchSize, loss: lossValue, layers, sampleDependence: samples, findings };
  } finally {
    restore();
  }
}

/** Takes note of modes, buffers and gradients and returns what puts them back. Gradients are set aside. */
async function remember(model: Module<Tensor, Tensor>): Promise<() => void> {
  const modes = model.modules().map((module) => ({ module, training: module.training }));
  const buffers: { buffer: Tensor; values: Awaited<ReturnType<Tensor['data']>> }[] = [];
  for (const buffer of model.buffers()) buffers.push({ buffer, values: (await buffer.data()).slice() });
  const gradients = model.parameters().map((parameter) => ({ parameter, gradient: parameter.grad }));
  for (const { parameter } of gradients) parameter.grad = undefined;
  return () => {
    for (const { module, training } of modes) module.training = training;
    for (const { buffer, values } of buffers) buffer.copyFrom(values);
    model.zeroGrad();
    for (const { parameter, gradient } of gradients) parameter.grad = gradient;
  };
}

function pass(
  model: Module<Tensor, Tensor>,
  images: Tensor,
  labels: Tensor | undefined,
  plainLoss: Loss,
): { observations: Observation[]; loss: Tensor | undefined } {
  let loss: Tensor | undefined;
  const auxiliary = isAuxiliaryNetwork(model);
  const observations = observe(model, images.shape[0] ?? 0, () => {
    scope(() => {
      if (labels === undefined) {
        noGrad(() => model.call(images));
        if (auxiliary) model.takeAuxiliaryLogits()?.dispose();
        return;
      }
      const objective = auxiliary ? new AuxiliaryLoss({ model, loss: plainLoss }) : plainLoss;
      const value = objective.call(model.call(images), labels);
      loss = keep(value.detach());
      if (model.parameters().some((parameter) => parameter.requiresGrad)) value.backward();
    });
  });
  return { observations, loss };
}

async function measure(observation: Observation, depth: number, batchSize: number): Promise<LayerDiagnosis> {
  const { name, module, kind, shape } = observation;
  const channelsOf = async (tensor: Tensor | undefined): Promise<ChannelValues | undefined> => {
    if (tensor === undefined) return undefined;
    const channels = tensor.shape[tensor.rank - 1] ?? 1;
    const positions = tensor.size / channels / batchSize;
    return { values: await tensor.data(), samples: batchSize, positions, channels };
  };
  const preActivation = await channelsOf(observation.preActivation);
  const activation = await channelsOf(observation.activation);
  const input = await channelsOf(observation.input);
  const parts = preActivation === undefined ? undefined : powerDecomposition(preActivation);
  const between = preActivation === undefined ? undefined : dependence(preActivation);
  const gradientToWeight = kind === 'weight' ? await gradientRatio(module) : undefined;
  const deadChannels = activation === undefined ? [] : constantChannels(activation);
  const channels = shape.at(-1) ?? 1;
  const share = (part: number): number => (parts === undefined || parts.total === 0 ? 0 : part / parts.total);
  return {
    name,
    type: module.constructor.name,
    kind,
    depth,
    shape,
    channels,
    power:
      parts === undefined || !(parts.total > 0)
        ? undefined
        : {
            total: parts.total,
            shares: {
              constant: share(parts.constant),
              within: share(parts.within),
              means: share(parts.means),
              deviations: share(parts.deviations),
            },
          },
    instanceVariability: parts === undefined || !(parts.total > 0) ? undefined : share(parts.means + parts.deviations),
    correlation: between?.correlation,
    mutualInformation: between?.mutualInformation,
    conditionNumber: input === undefined ? undefined : dependence(input).conditionNumber,
    deadChannels,
    deadShare: activation === undefined ? undefined : deadChannels.length / channels,
    gradientToWeight,
    nonFinite: [preActivation, activation].some((values) => values !== undefined && hasNonFinite(values)),
  };
}

async function gradientRatio(module: Observation['module']): Promise<number | undefined> {
  const weight = weightOf(module);
  const gradient = weight?.grad;
  if (weight === undefined || gradient === undefined) return undefined;
  const size = norm(await weight.data());
  return size === 0 ? undefined : norm(await gradient.data()) / size;
}

function norm(values: ArrayLike<number>): number {
  let squares = 0;
  for (let index = 0; index < values.length; index++) squares += (values[index] ?? 0) ** 2;
  return Math.sqrt(squares);
}
