import { checkOptions, optionNames } from '../../options';
import { concatenate, type Tensor } from '../../tensor';
import { batchNorm } from '../../tensor/operations/normalization';
import { checkInteger, formatOptions } from '../check';
import { BatchNorm, type BatchNormOptions, batchNormNames } from './batch-norm';

/** Options of {@link GhostBatchNorm}. */
export interface GhostBatchNormOptions extends BatchNormOptions {
  /** Samples that share their statistics. Default 32. */
  readonly groupSize?: number;
}

const ghostBatchNormOptions = optionNames<GhostBatchNormOptions>({ ...batchNormNames, groupSize: true });

/**
 * Ghost batch normalization (Hoffer, Hubara and Soudry, "Train longer, generalize better", 2017): in training, neighbouring samples
 * of a batch form groups with statistics of their own, as if each were a batch on a machine of its own. Small groups also show what
 * a small batch does to batch normalization while everything else stays.
 *
 * Samples that do not fill a group join the last one, and a batch smaller than `groupSize` is one group. The running statistics
 * move once a batch, by `momentum`, towards the average over the groups; a group that is not finite is left out. Evaluation is that
 * of {@link BatchNorm}. It takes a tensor, or a pair `[x, shortcut]`, as BatchNorm does.
 */
export class GhostBatchNorm extends BatchNorm {
  /** Samples that share their statistics. */
  readonly groupSize: number;

  constructor(options: GhostBatchNormOptions) {
    checkOptions('GhostBatchNorm', options, ghostBatchNormOptions);
    const { groupSize = 32, ...batchNorm } = options;
    super(batchNorm);
    this.groupSize = checkInteger('GhostBatchNorm', 'groupSize', groupSize, 1);
  }

  override forward(input: Parameters<BatchNorm['forward']>[0]): Tensor {
    const [x, residual] = Array.isArray(input) ? (input as [Tensor, Tensor]) : [input as Tensor, undefined];
    const batch = x.shape[0] ?? 0;
    const groups = Math.floor(batch / this.groupSize);
    if (!this.training || groups <= 1) return super.forward(input);
    const { gamma, beta, runningMean, runningVariance, epsilon, activation } = this;
    const parts = Array.from({ length: groups }, (_, group) => {
      const [start, end] = [group * this.groupSize, group === groups - 1 ? batch : (group + 1) * this.groupSize];
      const part = (whole: Tensor): Tensor => whole.slice({ starts: [start], ends: [end] });
      return batchNorm(part(x), {
        ...{ gamma, beta, runningMean, runningVariance, epsilon, activation },
        training: true,
        momentum: momentumOf(group, groups, this.momentum),
        residual: residual === undefined ? undefined : part(residual),
      });
    });
    return concatenate(parts, 0);
  }

  override describe(): string {
    return formatOptions({ groupSize: this.groupSize }).concat(', ', super.describe());
  }
}

/**
 * The momentum of one group's update such that, after all of them, each group has the weight `momentum / groups` in the running
 * statistics: `m_g · Π (1 − m_later) = momentum / groups`.
 */
function momentumOf(group: number, groups: number, momentum: number): number {
  const share = momentum / groups;
  return share / (1 - (groups - 1 - group) * share);
}
