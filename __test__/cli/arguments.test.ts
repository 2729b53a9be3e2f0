import { describeOptions, type OptionTable, parseOptions, UsageError } from '../../src/cli/arguments';

const TABLE = {
  epochs: { kind: 'integer', least: 1, help: 'Passes over the data.' },
  lr: { kind: 'number', least: 0, help: 'Learning rate.' },
  run: { kind: 'text', alias: 'name', placeholder: 'NAME', help: 'Name.' },
  optimizer: { kind: 'text', choices: ['sgd', 'adam'], help: 'Optimizer.' },
  'norm-option': { kind: 'list', placeholder: 'KEY=VALUE', help: 'Option.' },
  json: { kind: 'flag', help: 'JSON.' },
} as const satisfies OptionTable;

test('values of every kind, aliases, lists and both ways of writing a value', () => {
  const { values, positionals } = parseOptions(
    ['--epochs=3', '--lr', '1e-2', '--name', 'x', '--norm-option', 'a=1', 'FILE', '--norm-option=b=2', '--json'],
    TABLE,
    ['FILE'],
  );
  expect(values).toEqual({ epochs: 3, lr: 0.01, run: 'x', 'norm-option': ['a=1', 'b=2'], json: true });
  expect(positionals).toEqual(['FILE']);
});

test.each<[string[], RegExp]>([
  [['--epoch', '3'], /Unknown option --epoch\. Did you mean --epochs\?/],
  [['--optimiser', 'sgd'], /Did you mean --optimizer\?/],
  [['--nmae', 'x'], /Did you mean --name\?/],
  [['--zzz'], /Unknown option --zzz\.$/],
  [['--constructor'], /Unknown option --constructor/],
  [['-x'], /Unknown option -x/],
  [['--epochs', '0'], /at least 1/],
  [['--epochs', '1.5'], /whole number/],
  [['--epochs', 'ten'], /"ten"/],
  [['--epochs'], /--epochs needs a value: --epochs/],
  [['--epochs='], /needs a value/],
  [['--lr', 'NaN'], /number/],
  [['--lr=-1'], /at least 0/],
  [['--json=yes'], /takes no value/],
  [['--optimizer', 'adm'], /one of sgd, adam.*Did you mean adam\?/],
  [['stray'], /Unexpected argument stray/],
])('%j is refused', (args, message) => {
  expect(() => parseOptions(args, TABLE)).toThrow(UsageError);
  expect(() => parseOptions(args, TABLE)).toThrow(message);
});

test('a missing argument is named', () => {
  expect(() => parseOptions([], TABLE, ['FILE'])).toThrow(/Missing argument: FILE/);
});

test('help lines up and wraps', () => {
  const help = describeOptions({ ...TABLE, long: { kind: 'flag', help: 'word '.repeat(40).trim() } });
  expect(help).toContain('--run, --name NAME');
  expect(Math.max(...help.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
});
