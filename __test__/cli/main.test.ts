import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { models, nn } from '../../src';
import { main } from '../../src/cli/main';

let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'evenkeel-cli-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the command line inside this process. */
async function evenkeel(...args: string[]) {
  let out = '';
  let error = '';
  const code = await main(args, {
    out: {
      write(text) {
        out += text;
      },
    },
    error: {
      write(text) {
        error += text;
      },
    },
  });
  const lines = () =>
    out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  return { code, out, error, lines };
}

/** Quick options: a tiny perceptron on a part of the digits. */
const QUICK = ['train', '--model', 'mlp', '--norm', 'layer', '--epochs', '2', '--train-limit', '200'];

function quick(run: string, ...more: string[]) {
  return evenkeel(...QUICK, '--out', folder, '--run', run, ...more);
}

describe('help and usage', () => {
  test.each([['--help'], ['help'], ['-h']])('%s shows every command and how to start', async (...args) => {
    const { code, out, error } = await evenkeel(...args);
    expect([code, error]).toEqual([0, '']);
    for (const word of ['train', 'eval', 'predict', 'inspect', 'evenkeel train', 'Exit codes']) {
      expect(out).toContain(word);
    }
  });

  test.each(['train', 'eval', 'predict', 'inspect'])('%s --help teaches by example', async (command) => {
    const { code, out } = await evenkeel(command, '--help');
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`Examples\n {2}evenkeel ${command} `));
    expect(out).toMatch(/Options\n {2}--/);
    expect(out).toContain('--json');
    expect((await evenkeel('help', command)).out).toBe(out);
    expect(Math.max(...out.split('\n').map((line) => line.length))).toBeLessThanOrEqual(125);
  });

  test.each(['train', 'train-binary', 'doctor'])('%s --help names every method and model', async (command) => {
    const words = new Set((await evenkeel(command, '--help')).out.split(/[\s,.]+/));
    expect([...Object.keys(nn.normalizations), ...models.names()].filter((name) => !words.has(name))).toEqual([]);
  });

  test('no command is wrong usage; --version is the version', async () => {
    expect((await evenkeel()).code).toBe(2);
    const { version } = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8'));
    expect(await evenkeel('--version')).toMatchObject({ code: 0, out: `${version}\n` });
  });

  test.each<[string[], RegExp]>([
    [['trian'], /Unknown command trian\. Did you mean evenkeel train\?/],
    [['train', '--epoch', '3'], /Did you mean --epochs\?/],
    [['train', '--data', 'cifra10'], /Did you mean cifar10\?/],
    [['train', '--model', 'resent20'], /Did you mean resnet20\?/],
    [['train', '--norm', 'bacth'], /Did you mean batch\?/],
    [['train', '--data', 'cifar10', '--data-dir', ''], /needs a value/],
    [['train', '--augment', '--no-augment'], /contradict/],
    [['train', '--resume', '--overwrite'], /contradict/],
    [['train', '--run', '../x'], /--run takes a name/],
    [['train', '--norm-option', 'groups'], /KEY=VALUE/],
    [['train', 'digits'], /Unexpected argument digits/],
    [['eval'], /Missing argument: CHECKPOINT/],
    [['predict', 'x'], /Say which images/],
    [['predict', 'x', '--index', '-1'], /whole number from 0/],
    [['inspect', 'a', 'b'], /Unexpected argument b/],
  ])('%j is wrong usage', async (args, message) => {
    const { code, out, error } = await evenkeel(...args);
    expect(error).toMatch(message);
    expect(error).toMatch(/Try: evenkeel .*--help/);
    expect([code, out]).toEqual([2, '']);
  });

  test('with --json a failure is an object, too', async () => {
    const { code, lines } = await evenkeel('inspect', join(folder, 'none'), '--json');
    expect(code).toBe(1);
    expect(lines()).toEqual([{ type: 'error', code: 'FILE_NOT_FOUND', message: expect.any(String) }]);
  });

  test('a data set without its folder says what to do', async () => {
    const before = process.env['EVENKEEL_DATA'];
    delete process.env['EVENKEEL_DATA'];
    const { code, error } = await evenkeel('train', '--data', 'cifar10', '--out', folder);
    process.env['EVENKEEL_DATA'] = before;
    expect(code).toBe(2);
    expect(error).toContain('--data-dir');
    const missing = await evenkeel('train', '--data', 'cifar10', '--out', folder, '--data-dir', join(folder, 'none'));
    expect(missing.code).toBe(1);
  });
});

describe('train, eval, predict, inspect', () => {
  test('work together on one run', async () => {
    const trained = await quick('demo');
    expect(trained.code).toBe(0);
    for (const text of [
      'multiply-adds',
      'total',
      'best',
      'last',
      'finished after 2 epochs',
      join(folder, 'demo', 'report.html'),
    ]) {
      expect(trained.out).toContain(text);
    }
    expect(trained.error).toMatch(/epoch 1\/2.*\nepoch 2\/2/);

    const evaluated = await evenkeel('eval', join(folder, 'demo'), '--json');
    expect(evaluated.code).toBe(0);
    const [result] = evaluated.lines();
    expect(result).toMatchObject({ data: 'digits', examples: 360 });
    expect((await evenkeel('eval', join(folder, 'demo'), '--batch-size', '7')).out).toContain('360 test images');

    const predicted = await evenkeel('predict', join(folder, 'demo'), '--index', '0', '--index', '5', '--json');
    expect(predicted.lines()).toHaveLength(2);
    expect(predicted.lines()[0].classes).toHaveLength(3);

    const inspected = await evenkeel('inspect', join(folder, 'demo'), '--json');
    expect(inspected.lines()[0].metadata['evenkeel.config']).toMatchObject({ model: 'mlp', norm: 'layer' });
    expect((await evenkeel('inspect', join(folder, 'demo', 'last.safetensors'))).out).toMatch(/optimizer\.0\.velocity/);
  });

  test('predict reads raw files and checks their size', async () => {
    await quick('raw');
    const file = join(folder, 'image.raw');
    writeFileSync(file, new Uint8Array(64).fill(8));
    const { code, out } = await evenkeel('predict', join(folder, 'raw'), '--file', file);
    expect(code).toBe(0);
    expect(out).toContain(file);
    writeFileSync(file, new Uint8Array(63));
    expect(await evenkeel('predict', join(folder, 'raw'), '--file', file)).toMatchObject({ code: 1 });
    expect(await evenkeel('predict', join(folder, 'raw'), '--index', '360')).toMatchObject({ code: 2 });
  });

  test('--json keeps standard output for programs', async () => {
    const { code, lines, error } = await quick('json', '--json');
    expect(code).toBe(0);
    expect(lines().map(({ type }) => type)).toEqual(['start', 'epoch', 'epoch', 'result']);
    expect(lines().at(-1)).toMatchObject({ reason: 'finished', epochs: 2 });
    expect(error).toContain('multiply-adds');
  });

  test('a taken name is not overwritten unasked, and default names are numbered', async () => {
    await quick('taken');
    const before = readFileSync(join(folder, 'taken', 'last.safetensors'));
    const again = await quick('taken');
    expect(again.code).toBe(2);
    expect(again.error).toMatch(/--resume.*--overwrite/);
    expect(readFileSync(join(folder, 'taken', 'last.safetensors'))).toEqual(before);
    expect((await quick('taken', '--overwrite', '--seed', '2')).code).toBe(0);
    expect(readFileSync(join(folder, 'taken', 'last.safetensors'))).not.toEqual(before);
    await evenkeel(...QUICK, '--out', folder);
    await evenkeel(...QUICK, '--out', folder);
    expect(existsSync(join(folder, 'digits-mlp-layer', 'report.html'))).toBe(true);
    expect(existsSync(join(folder, 'digits-mlp-layer-2', 'report.html'))).toBe(true);
  });

  test('--max-steps and --resume end with the weights of one run; other options are refused', async () => {
    await quick('whole');
    expect((await quick('parts', '--max-steps', '5')).out).toContain('--resume');
    const other = await quick('parts', '--resume', '--lr', '0.3');
    expect(other.code).toBe(2);
    expect(other.error).toMatch(/learningRate was 0.05, now 0.3/);
    expect((await quick('parts', '--resume')).code).toBe(0);
    expect(await weights('parts')).toEqual(await weights('whole'));
  });
});

describe('signals', () => {
  const long = ['--epochs', '1000', '--train-limit', '400', '--schedule', 'constant', '--json'];

  /** Starts a training run in a process of its own and sends it a signal once it has finished an epoch. */
  async function interrupted(
    run: string,
    signal: NodeJS.Signals,
    times = 1,
  ): Promise<{ code: number | null; last: string }> {
    const program = join(__dirname, '../../src/cli/main.ts');
    const args = [...QUICK, '--out', folder, '--run', run, ...long];
    const child = spawn(process.execPath, ['-r', 'ts-node/register/transpile-only', program, ...args], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let out = '';
    let sent = false;
    child.stdout.on('data', (chunk) => {
      out += chunk;
      if (!sent && out.includes('"type":"epoch"')) {
        sent = true;
        for (let count = 0; count < times; count += 1) {
          child.kill(signal);
        }
      }
    });
    const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
    return { code, last: out.trim().split('\n').at(-1) ?? '' };
  }

  test.each<NodeJS.Signals>(['SIGINT', 'SIGTERM'])(
    '%s saves and stops, and the run can go on',
    async (signal) => {
      const { code, last } = await interrupted(signal, signal);
      expect(code).toBe(1);
      const result = JSON.parse(last);
      expect(result).toMatchObject({ type: 'result', reason: 'interrupted' });
      const resumed = await quick(signal, ...long, '--resume', '--max-steps', String(result.steps + 3));
      expect(resumed.lines()[0]).toMatchObject({ type: 'start', resumedAtStep: result.steps });
      expect(readFileSync(join(folder, signal, 'report.html'), 'utf8')).toContain('</html>');
    },
    120_000,
  );

  test('a reader of the output that goes away ends no run', async () => {
    const program = join(__dirname, '../../src/cli/main.ts');
    const args = [...QUICK, '--out', folder, '--run', 'unread', '--threads', '1'];
    const child = spawn(process.execPath, ['-r', 'ts-node/register/transpile-only', program, ...args]);
    child.stdout.destroy();
    let error = '';
    child.stderr.on('data', (chunk) => {
      error += chunk;
    });
    const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
    expect(error).not.toContain('EPIPE');
    expect(code).toBe(0);
    expect(readFileSync(join(folder, 'unread', 'report.html'), 'utf8')).toContain('</html>');
  }, 60_000);
});

/** All tensors of a run's last checkpoint, as JSON of their checksums. */
async function weights(run: string): Promise<unknown> {
  const { lines } = await evenkeel('inspect', join(folder, run, 'last.safetensors'), '--json');
  return lines()[0].metadata['evenkeel.tensor_checksums'];
}
