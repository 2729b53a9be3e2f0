import { Dropout } from './layers/dropout';
import { IndependentComponent } from './layers/independent-component';
import { StochasticDepth } from './layers/stochastic-depth';
import type { AnyModule } from './module';

/**
 * Switches off what is random in training mode: dropout, also that of Independent-Component layers, and stochastic depth. Returns the
 * function that puts it back.
 */
export function silenceNoise(model: AnyModule): () => void {
  const restore: (() => void)[] = [];
  for (const module of model.modules()) {
    if (module instanceof Dropout || module instanceof StochasticDepth) {
      const { training } = module;
      restore.push(() => {
        module.training = training;
      });
      module.training = false;
    } else if (module instanceof IndependentComponent) {
      const { dropRate } = module;
      restore.push(() => {
        module.dropRate = dropRate;
      });
      module.dropRate = 0;
    }
  }
  return () => {
    for (const each of restore) each();
  };
}
