import { EvenkeelError } from '../errors';
import { show } from '../options';

/** Returns `shape` if it is that of an image of at least `least` by `least` pixels; otherwise throws `INVALID_ARGUMENT`. */
export function checkImageShape(
  owner: string,
  shape: readonly number[],
  least: number,
): readonly [height: number, width: number, channels: number] {
  const whole = Array.isArray(shape) && shape.length === 3 && shape.every((size) => Number.isInteger(size) && size > 0);
  if (whole && Math.min(shape[0], shape[1]) >= least) return shape as [number, number, number];
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `${owner}: inputShape is ${show(shape)}; give [height, width, channels] with at least ${least} by ${least} pixels`,
  );
}
