import { editDistance, nearest } from '../src/spelling';

test('edit distance counts swaps of neighbours once', () => {
  expect(editDistance('nmae', 'name')).toBe(1);
  expect(editDistance('kitten', 'sitting')).toBe(3);
  expect(editDistance('', 'abc')).toBe(3);
});

test('the nearest word is near, whatever the case of its letters', () => {
  const words = ['padding', 'paddingValue', 'stride', 'bias'];
  expect(nearest('pading', words)).toBe('padding');
  expect(nearest('PADDINGVALUE', words)).toBe('paddingValue');
  expect(nearest('kernel', words)).toBeUndefined();
  expect(nearest('pading', [])).toBeUndefined();
});
