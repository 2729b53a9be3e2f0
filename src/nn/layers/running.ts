import { noGrad, scope, type Tensor, where } from '../../tensor';
import { run } from '../../tensor/tensor';

/**
 * Moves running statistics towards those of a batch in place, in stream order: `running ← running + momentum · (batch − running)`.
 * Nothing moves, in any channel, where a value of the batch's statistics is NaN or infinite.
 *
 * @param pairs - Running statistics with the batch's, of the same shape.
 */
export function moveRunning(momentum: number, pairs: readonly (readonly [running: Tensor, batch: Tensor])[]): void {
  noGrad(() =>
    scope(() => {
      // x − x is 0 for finite numbers alone.
      const differences = pairs.map(([, batch]) => batch.sub(batch).equal(0).min());
      const finite = differences.reduce((all, one) => all.mul(one));
      for (const [running, batch] of pairs) {
        accumulate(running, where(finite.expand(running.shape), batch.sub(running), 0).mul(momentum));
      }
    }),
  );
}

/** `target ← target + addend` in place, in stream order; an open graph that saved `target` notices. */
function accumulate(target: Tensor, addend: Tensor): void {
  target.storage.version++;
  run('accumulate', [], target, addend);
}
