import { join } from 'node:path';
import { EvenkeelError } from '../errors';
import { checkInteger, checkMethods } from '../nn/check';
import { checkOptions, describe, optionNames } from '../options';
import { replaceFile } from '../serialization/replace-file';
import { type Profile, profile } from '../tensor';
import type { Network, TrainingCallback } from './types';

/** Options of {@link profileSteps}. */
export interface ProfileStepsOptions {
  /** The network, whose layers are named in the profile. */
  readonly model: Network;
  /** Folder for `profile.txt` and `trace.json`. */
  readonly directory: string;
  /** Steps that pass before: the first ones allocate. Default 5. */
  readonly skip?: number;
  /** Steps that are measured. Default 10. */
  readonly steps?: number;
  /** Gets the tables when they are ready. */
  readonly show: (text: string) => void;
}

const profileStepsOptions = optionNames<ProfileStepsOptions>({
  model: true,
  directory: true,
  skip: true,
  steps: true,
  show: true,
});

/**
 * Profiles a few steps of a training run: tables of time, arithmetic, traffic and memory by operation and by layer, and a trace that
 * Perfetto and chrome://tracing open. The steps themselves run as always.
 */
export function profileSteps(options: ProfileStepsOptions): TrainingCallback {
  checkOptions('profileSteps', options, profileStepsOptions);
  const { model, directory, skip = 5, steps = 10, show } = options;
  checkMethods('profileSteps', 'model', model, ['namedModules'], 'the Module that is trained');
  if (typeof directory !== 'string') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `profileSteps: directory is ${describe(directory)}; give the path of a folder`,
    );
  }
  checkInteger('profileSteps', 'skip', skip, 1);
  checkInteger('profileSteps', 'steps', steps, 1);
  if (typeof show !== 'function') {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `profileSteps: show is ${describe(show)}; give a function that shows a text`,
    );
  }
  let seen = 0;
  let finish: (() => void) | undefined;
  let taken: Promise<Profile<void>> | undefined;

  async function end(): Promise<void> {
    if (finish === undefined || taken === undefined) return;
    finish();
    finish = undefined;
    const result = await taken;
    await replaceFile(join(directory, 'profile.txt'), [`${result}\n`]);
    await replaceFile(join(directory, 'trace.json'), [result.toTrace()]);
    show(
      `${result}\n\n${join(directory, 'profile.txt')} holds these tables, ${join(directory, 'trace.json')} the trace\n`,
    );
  }

  return {
    async onStep() {
      seen += 1;
      if (seen === skip) {
        const layers = new Map(model.namedModules().map(([name, module]) => [module as object, name]));
        const done = new Promise<void>((resolve) => {
          finish = resolve;
        });
        taken = profile(() => done, { layers });
      } else if (seen === skip + steps) {
        await end();
      }
    },
    // A run that is shorter still shows what there was.
    onEnd: end,
  };
}
