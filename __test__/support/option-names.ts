import { EvenkeelError } from '../../src/errors';

/** Something that takes options. */
export interface Taker {
  /** Calls it with these options, which need not be right: `never` passes for any. */
  readonly call: (options: never) => unknown;
  /** All options, with values that it accepts together. */
  readonly options: Readonly<Record<string, unknown>>;
  /** What is accepted in place of some of those, and options that do not go with them. */
  readonly others?: Readonly<Record<string, unknown>>;
  /** What its messages begin with. */
  readonly owner: string;
}

/** The message of the `INVALID_ARGUMENT` that a call with `options` ends with, at once or by a promise; any other error passes. */
export async function refusal(call: Taker['call'], options: unknown): Promise<string> {
  try {
    await call(options as never);
  } catch (error) {
    if (error instanceof EvenkeelError && error.code === 'INVALID_ARGUMENT') return error.message;
    throw error;
  }
  return 'no error';
}

/** Checks that options that are booleans in `options` are refused where they are something else. */
export async function expectBooleans({ call, options, owner }: Taker): Promise<void> {
  const booleans = Object.keys(options).filter((name) => typeof options[name] === 'boolean');
  for (const name of booleans) {
    for (const [wrong, shown] of [
      ['no', "'no'"],
      [0, '0'],
      [null, 'null'],
    ]) {
      expect(await refusal(call, { ...options, [name]: wrong })).toContain(`${owner}: ${name} is ${shown}; give true`);
    }
  }
}

/** Checks that all options are taken, and that each is missed where it is misspelt. */
export async function expectNames({ call, options, others = {}, owner }: Taker): Promise<void> {
  expect(await refusal(call, options)).toBe('no error');
  expect(await refusal(call, { ...options, ...others })).toBe('no error');
  const known = Object.keys({ ...options, ...others });
  for (const option of known) {
    const misspelt = `${option.slice(0, -1)}_`;
    const { [option]: value, ...rest } = options;
    for (const wrong of [
      { ...rest, [misspelt]: value },
      { ...options, [misspelt]: undefined },
    ]) {
      const [what, list = ''] = (await refusal(call, wrong)).split('; the options are ');
      expect(what).toBe(`${owner}: there is no option ${misspelt} (did you mean ${option}?)`);
      expect(list.split(', ').sort()).toEqual([...known].sort());
    }
  }
}
