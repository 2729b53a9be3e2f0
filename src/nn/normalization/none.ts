import { checkNames } from '../check';
import type { Normalization } from './normalization';

/** No normalization at all: weight layers with bias, and plain activations. */
export function none(options: Readonly<Record<never, never>> = {}): Normalization {
  checkNames('normalization none', options, []);
  return { name: 'none', mixesSamples: false, bias: true };
}
