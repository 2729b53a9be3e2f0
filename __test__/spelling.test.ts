import { advice, editDistance, nearest } from '../src/spelling';

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

test.each([
  ['eps', ['channels', 'epsilon'], 'did you mean epsilon?'],
  ['num_features', ['channels', 'epsilon'], 'did you mean channels?'],
  ['p', ['probability', 'training'], 'did you mean probability?'],
  ['p', ['rate'], 'did you mean rate?'],
  ['in_channels', ['inChannels', 'outChannels'], 'did you mean inChannels?'],
  ['milestones', ['at', 'factor'], 'did you mean at?'],
  ['lr', ['rate'], undefined],
  ['inplace', ['rate'], 'leave it out: operations make new tensors, and their memory is reused'],
])('%s among %p: %s', (name, known, help) => {
  expect(advice(name, known)).toBe(help);
});
