/** Whole training steps of networks: what a user waits for. */
import { type Case, type CompareOptions, type Comparison, compare } from './compare';
import { resnet18, resnet20, tiny } from './training-case';

function* cases(): Generator<Case> {
  yield tiny();
  for (const norm of ['batch', 'group', 'frn'] as const) {
    for (const batch of [2, 32, 128]) yield resnet20(norm, batch);
  }
  yield resnet18('batch');
}

export function run(options: CompareOptions): Promise<Comparison[]> {
  return compare(cases(), options);
}
