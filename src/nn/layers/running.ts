import { noGrad, scope, type Tensor, where } from '../../tensor';
import { run } from '../../tensor/tensor';

/**
 * Moves running statistics to their next values in place, in stream order. Nothing moves, in any channel, where one of those values is
 * NaN or infinite.
 *
 * @param pairs - Running statistics with their next values, of the same shape.
 */
export function moveRunning(pairs: readonly (readonly [running: Tensor, next: Tensor])[]): void {
  noGrad(() =>
    scope(() => {
      // x − x is 0 for finite numbers alone.
      const differences = pairs.map(([, next]) => next.sub(next).equal(0).min());
      const finite = differences.reduce((all, one) => all.mul(one));
      for (const [running, next] of pairs) {
        accumulate(running, where(finite.expand(running.shape), next.sub(running), 0));
      }
    }),
  );
}

/** `target ← target + addend` in place, in stream order; an open graph that saved `target` notices. */
function accumulate(target: Tensor, addend: Tensor): void {
  target.storage.version++;
  run('accumulate', [], target, addend);
}
