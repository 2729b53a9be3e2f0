import { EvenkeelError } from '../../errors';
import { show } from '../../options';
import { batch } from './batch';
import { batchRenorm } from './batch-renorm';
import { bnFree } from './bn-free';
import { bnp } from './bnp';
import { evoNormB0, evoNormS0 } from './evo-norm';
import { frn } from './filter-response';
import { ghost } from './ghost';
import { group } from './group';
import { ic } from './independent-component';
import { instance } from './instance';
import { kalman } from './kalman';
import { layer } from './layer';
import { none } from './none';
import type { Normalization } from './normalization';
import { online } from './online';
import { proxy } from './proxy';
import { rms } from './rms';
import { switchable } from './switchable';
import { weightStandardizedGroup } from './weight-standardized-group';

/**
 * The normalization methods by name. Each entry makes a method from its options: `normalizations.group({ groups: 8 })`. A model takes
 * the result, or just the name for the defaults.
 */
export const normalizations = {
  none,
  batch,
  'batch-renorm': batchRenorm,
  ghost,
  group,
  layer,
  instance,
  rms,
  frn,
  proxy,
  'evonorm-s0': evoNormS0,
  'evonorm-b0': evoNormB0,
  switchable,
  online,
  'weight-standardized-group': weightStandardizedGroup,
  'bn-free': bnFree,
  ic,
  kalman,
  bnp,
} as const;

/** A name of the table {@link normalizations}. */
export type NormalizationName = keyof typeof normalizations;

/**
 * Turns a name into a method with its default options; a method object is returned as it is.
 *
 * @throws EvenkeelError `INVALID_ARGUMENT` for a name that is not in the table.
 */
export function resolveNormalization(norm: NormalizationName | Normalization): Normalization {
  if (typeof norm === 'object' && norm !== null && typeof norm.name === 'string') return norm;
  if (typeof norm === 'string' && Object.hasOwn(normalizations, norm)) return normalizations[norm]();
  throw new EvenkeelError(
    'INVALID_ARGUMENT',
    `there is no normalization ${show(norm)}; ` +
      `the names are ${Object.keys(normalizations).join(', ')}; or give an object of the interface Normalization`,
  );
}
