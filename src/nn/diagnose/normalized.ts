import { concatenate, full, type Tensor } from '../../tensor';
import { kalmanNorm } from '../../tensor/operations/kalman';
import {
  batchNorm,
  filterResponseNorm,
  groupNorm,
  instanceNorm,
  layerNorm,
  rmsNorm,
} from '../../tensor/operations/normalization';
import * as layers from '../layers';
import type { AnyModule } from '../module';
import { stateOf } from '../statistics-chain';

/**
 * What a norm makes of its input before its scale, shift and activation, computed anew without the parameters; nothing of the layer
 * moves. For norms that are not known here `undefined`: then the output has to do.
 */
export function normalized(module: AnyModule, input: Tensor): Tensor | undefined {
  if (!(module instanceof layers.NormalizationLayer)) return undefined;
  const { epsilon } = module;
  if (module instanceof layers.GhostBatchNorm && module.training) return ghost(module, input);
  if (module instanceof layers.BatchNorm || module instanceof layers.IndependentComponent) {
    const { runningMean, runningVariance } = module;
    return batch(module, input, { runningMean, runningVariance });
  }
  // The corrections towards the running statistics, which may be limited, are left out.
  if (module instanceof layers.BatchRenorm) {
    const { runningMean, runningDeviation } = module;
    return batch(module, input, { runningMean, runningVariance: runningDeviation.square().sub(epsilon) });
  }
  // The statistics behind the batch instead of one for each sample.
  if (module instanceof layers.OnlineNorm) {
    const { runningMean, runningVariance } = module;
    return batchNorm(input, { training: false, epsilon, runningMean, runningVariance });
  }
  if (module instanceof layers.BatchKalmanNorm) return kalman(module, input);
  if (module instanceof layers.SwitchableNorm) return switchable(module, input);
  if (module instanceof layers.EvoNormS0 || module instanceof layers.EvoNormB0) return evolved(module, input);
  if (module instanceof layers.ProxyNorm || module instanceof layers.GroupNorm) {
    return groupNorm(input, { groups: module.groups, epsilon });
  }
  if (module instanceof layers.LayerNorm) return layerNorm(input, { over: module.over, epsilon });
  if (module instanceof layers.InstanceNorm) return instanceNorm(input, { epsilon });
  if (module instanceof layers.RMSNorm) return rmsNorm(input, { epsilon });
  if (module instanceof layers.FilterResponseNorm) {
    const { epsilonOffset, epsilonForm } = module;
    return filterResponseNorm(input, { epsilon, learnedEpsilon: epsilonOffset, epsilonForm });
  }
  return undefined;
}

interface Running {
  readonly runningMean: Tensor;
  readonly runningVariance: Tensor;
}

/** Batch normalization; without the running statistics nothing is updated in training. */
function batch({ training, epsilon }: layers.NormalizationLayer<never>, input: Tensor, running: Running): Tensor {
  return batchNorm(input, training ? { training, epsilon } : { training, epsilon, ...running });
}

function ghost({ groupSize, epsilon }: layers.GhostBatchNorm, input: Tensor): Tensor {
  const samples = input.shape[0] ?? 0;
  const groups = Math.max(1, Math.floor(samples / groupSize));
  const parts = Array.from({ length: groups }, (_, group) => {
    const [start, end] = [group * groupSize, group === groups - 1 ? samples : (group + 1) * groupSize];
    return batchNorm(input.slice({ starts: [start], ends: [end] }), { training: true, epsilon });
  });
  return concatenate(parts, 0);
}

function kalman(module: layers.BatchKalmanNorm, input: Tensor): Tensor {
  const { epsilon, guarded, runningMean, runningVariance, channels, priorWeight, priorWeightLogit } = module;
  if (!module.training) return batchNorm(input, { training: false, epsilon, runningMean, runningVariance });
  const samples = input.shape[0] ?? 0;
  const groups = samples / Math.min(module.groupSize ?? samples, samples);
  const prior = stateOf(input)?.state;
  const usable = prior !== undefined && prior.shape[1] === groups && prior.shape[2] === channels;
  const weight = () => priorWeightLogit?.sigmoid() ?? full([1], priorWeight);
  return kalmanNorm(input, { epsilon, groups, guarded, ...(usable ? { prior, priorWeight: weight() } : {}) }).output;
}

const mean = (values: Tensor, axes: readonly number[]): Tensor => values.mean({ axes, keepDims: true });
const variance = (values: Tensor, axes: readonly number[]): Tensor =>
  mean(values.sub(mean(values, axes)).square(), axes);

/** `[samples, positions, channels]` for any input. */
function flattened(input: Tensor): Tensor {
  return input.reshape([input.shape[0] ?? 0, -1, input.shape.at(-1) ?? 1]);
}

/** With the layer's own mixture of the statistics of instances, samples and the batch. */
function switchable(module: layers.SwitchableNorm, input: Tensor): Tensor {
  const flat = flattened(input);
  const sets = [[1], [1, 2], [0, 1]] as const;
  const mixed = (logits: Tensor, statistic: typeof mean, running: Tensor): Tensor => {
    const weights = logits.softmax();
    return sets
      .map((axes, index) => {
        const value = index === 2 && !module.training ? running : statistic(flat, axes);
        return value.mul(weights.slice({ starts: [index], ends: [index + 1] }));
      })
      .reduce((sum, term) => sum.add(term));
  };
  const centre = mixed(module.meanLogits, mean, module.runningMean);
  const spread = mixed(module.varianceLogits, variance, module.runningVariance);
  return flat.sub(centre).div(spread.add(module.epsilon).sqrt()).reshape(input.shape);
}

/** Norm and activation are one, so this is the input by the deviation that the layer divides by where its nonlinearity does nothing. */
function evolved(module: layers.EvoNormS0 | layers.EvoNormB0, input: Tensor): Tensor {
  // A layer without nonlinearity does not normalize.
  if (module.slope === undefined) return input;
  const flat = flattened(input);
  const [samples = 0, positions = 0, channels = 0] = flat.shape;
  if (module instanceof layers.EvoNormS0) {
    const grouped = flat.reshape([samples, positions, module.groups, channels / module.groups]);
    return grouped.div(variance(grouped, [1, 3]).add(module.epsilon).sqrt()).reshape(input.shape);
  }
  const whole = module.training ? variance(flat, [0, 1]) : module.runningVariance;
  return flat.div(whole.add(module.epsilon).sqrt()).reshape(input.shape);
}
