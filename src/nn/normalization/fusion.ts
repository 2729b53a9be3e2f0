import type { FusedActivation } from '../../tensor/operations/fused-activation';
import type { Module } from '../module';
import type { ActivationSite, PreActivation } from './normalization';

/**
 * The usual `preActivation` of a method whose layer takes a fused `activation`: fused where the activation follows directly, alone
 * where a shortcut comes in between or the activation has parameters.
 */
export function fuseActivation(site: ActivationSite, create: (activation: FusedActivation) => Module): PreActivation {
  if (site.sum || site.activation === 'prelu') return { layer: create('none') };
  return { layer: create(site.activation), appliesActivation: true };
}
