import { checkOptions, optionNames } from '../../options';
import type { Normalization } from './normalization';

const noneOptions = optionNames<Readonly<Record<never, never>>>({});

/** No normalization at all: weight layers with bias, and plain activations. */
export function none(options: Readonly<Record<never, never>> = {}): Normalization {
  checkOptions('normalization none', options, noneOptions);
  return { name: 'none', mixesSamples: false, bias: true };
}
