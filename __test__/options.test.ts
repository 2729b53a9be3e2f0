import { checkOptions, optionNames, show } from '../src/options';
import { codeOf } from './support/tensors';

interface ExampleOptions {
  readonly size: number;
  readonly padding?: number;
}

interface SwitchOptions {
  readonly fast?: boolean;
  readonly exact: boolean;
  readonly threshold?: boolean | number;
}

const known = optionNames<ExampleOptions>({ size: true, padding: true });

test.each([
  [{ size: 1, pading: 2 }, 'there is no option pading (did you mean padding?); the options are size, padding'],
  [{ foo: 1, SIZE: 2 }, 'there is no option foo, SIZE (did you mean size?); the options are size, padding'],
  [undefined, 'expected an object of options, got undefined; the options are size, padding'],
  [null, 'expected an object of options, got null; the options are size, padding'],
  [3, 'expected an object of options, got a number; the options are size, padding'],
  [[1], 'expected an object of options, got an array; the options are size, padding'],
])('%p is refused with what there is', (options, message) => {
  expect(() => checkOptions('example', options as object, known)).toThrow(`example: ${message}`);
});

test('a value of undefined is an option all the same', () => {
  expect(codeOf(() => checkOptions('example', { size: undefined }, known))).toBe('no error');
  expect(codeOf(() => checkOptions('example', { siz: undefined }, known))).toBe('INVALID_ARGUMENT');
});

test('who has no options says so', () => {
  const none = optionNames<Record<never, never>>({});
  expect(() => checkOptions('example', { size: 1 }, none)).toThrow(
    'example: there is no option size; it has no options',
  );
});

test('the compiler asks for all names and for no others', () => {
  // @ts-expect-error padding is missing
  optionNames<ExampleOptions>({ size: true });
  // @ts-expect-error pading is none
  optionNames<ExampleOptions>({ size: true, padding: true, pading: true });
});

test('the compiler asks which options are booleans', () => {
  optionNames<SwitchOptions>({ fast: 'boolean', exact: 'boolean', threshold: true });
  // @ts-expect-error fast is a boolean
  optionNames<SwitchOptions>({ fast: true, exact: 'boolean', threshold: true });
  // @ts-expect-error size is none
  optionNames<ExampleOptions>({ size: 'boolean', padding: true });
});

test.each([
  [{ fast: 'no', exact: true }, "fast is 'no'; give true or false"],
  [{ exact: 0 }, 'exact is 0; give true or false'],
  [{ exact: null }, 'exact is null; give true or false'],
])('%p is refused where a boolean belongs', (options, message) => {
  const switches = optionNames<SwitchOptions>({ fast: 'boolean', exact: 'boolean', threshold: true });
  expect(() => checkOptions('example', options, switches)).toThrow(`example: ${message}`);
  expect(codeOf(() => checkOptions('example', { fast: undefined, exact: false, threshold: 3 }, switches))).toBe(
    'no error',
  );
});

test('what the prototype has is no unknown name', () => {
  const inherited = Object.assign(Object.create({ more: 1 }) as object, { size: 1 });
  expect(codeOf(() => checkOptions('example', inherited, known))).toBe('no error');
  expect(codeOf(() => checkOptions('example', Object.assign(inherited, { siz: 1 }), known))).toBe('INVALID_ARGUMENT');
});

test.each([
  ['3', "'3'"],
  [3, '3'],
  [Number.NaN, 'NaN'],
  [undefined, 'undefined'],
  [null, 'null'],
  [[1, 'a', [2]], "[1, 'a', [2]]"],
  [new Array(9).fill(1), 'an array of 9'],
  [new Float32Array(2), 'a Float32Array'],
  [new Int32Array(2), 'an Int32Array'],
  [new Map(), 'a Map'],
  [Object.create(null), 'an empty object'],
  [{ a: 1 }, 'an object { a }'],
  [() => 1, 'a function'],
])('%p is shown as it was given', (value, text) => {
  expect(show(value)).toBe(text);
});
