import { EvenkeelError } from '../errors';
import { noGrad, scope, Tensor, zeros } from '../tensor';
import type { AnyModule, Module } from './module';

/** One module in a {@link ModelSummary}. */
export interface SummaryRow {
  /** Dotted name; `''` for the model itself. */
  readonly name: string;
  /** Class name. */
  readonly type: string;
  /** Depth in the tree; 0 for the model itself. */
  readonly depth: number;
  /** Whether the module has no modules below it. */
  readonly leaf: boolean;
  /** Shape of the output for one sample, without the batch axis; `undefined` if the module was not called. */
  readonly outputShape: readonly number[] | undefined;
  /** Trainable values of the module and everything below it; shared ones count where they come first. */
  readonly parameters: number;
  /** Multiply-adds for one sample of the module and everything below it. */
  readonly multiplyAdds: number;
}

/** What {@link summary} found. */
export interface ModelSummary {
  /** Shape of one input sample. */
  readonly inputShape: readonly number[];
  /** Every module, parents first, in definition order. */
  readonly rows: readonly SummaryRow[];
  /** Trainable values of the model. */
  readonly parameters: number;
  /** Multiply-adds of convolutions and linear layers for one sample. */
  readonly multiplyAdds: number;
  /** The leaves as a text table, with totals. */
  toString(): string;
}

/**
 * Runs a model once on zeros, in evaluation mode and without recording gradients, and reports every module's output shape,
 * parameters and multiply-adds. The model is left as it was.
 *
 * @param model - A model that takes one tensor.
 * @param inputShape - Shape of one sample, without the batch axis: `[32, 32, 3]`.
 * @throws EvenkeelError `INVALID_ARGUMENT` for a shape that holds anything but positive integers, and whatever the model throws when
 * the input does not fit.
 */
export function summary(model: Module<Tensor, unknown>, inputShape: readonly number[]): ModelSummary {
  if (inputShape.some((size) => !Number.isInteger(size) || size < 1)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `summary: the input shape is [${inputShape.join(', ')}]; give the sizes of one sample, such as [32, 32, 3]`,
    );
  }
  const modules = model.namedModules();
  const calls = observe(model, modules, inputShape);
  const counted = new Set<Tensor>();
  const own = modules.map(([name, module]) => {
    const mine = module.namedParameters().filter(([path, parameter]) => !path.includes('.') && !counted.has(parameter));
    for (const [, parameter] of mine) counted.add(parameter);
    return { name, parameters: mine.reduce((sum, [, parameter]) => sum + parameter.size, 0) };
  });
  const rows = modules.map(([name, module]): SummaryRow => {
    const within = (other: string) => name === '' || other === name || other.startsWith(`${name}.`);
    const members = own.filter((part) => within(part.name));
    return {
      name,
      type: module.constructor.name,
      depth: name === '' ? 0 : name.split('.').length,
      leaf: module.children().length === 0,
      outputShape: calls.get(name)?.outputShape,
      parameters: members.reduce((sum, part) => sum + part.parameters, 0),
      multiplyAdds: members.reduce((sum, part) => sum + (calls.get(part.name)?.multiplyAdds ?? 0), 0),
    };
  });
  const parameters = rows[0]?.parameters ?? 0;
  const multiplyAdds = rows[0]?.multiplyAdds ?? 0;
  return { inputShape: [...inputShape], rows, parameters, multiplyAdds, toString: () => drawTable(rows) };
}

interface Call {
  readonly outputShape: readonly number[] | undefined;
  readonly multiplyAdds: number;
}

/** Runs the model once and records the calls of its modules by name. */
function observe(
  model: Module<Tensor, unknown>,
  modules: readonly (readonly [string, AnyModule])[],
  inputShape: readonly number[],
): Map<string, Call> {
  const calls = new Map<string, Call>();
  const modes = modules.map(([, module]) => module.training);
  const removers = modules.map(([name, module]) =>
    module.onCall((_, input, output) => {
      calls.set(name, {
        outputShape: output instanceof Tensor ? output.shape.slice(1) : undefined,
        multiplyAdds: (calls.get(name)?.multiplyAdds ?? 0) + module.multiplyAdds(input, output),
      });
    }),
  );
  try {
    model.eval();
    noGrad(() =>
      scope(() => {
        model.call(zeros([1, ...inputShape]));
      }),
    );
  } finally {
    for (const remove of removers) remove();
    for (const [index, [, module]] of modules.entries()) module.training = modes[index] ?? true;
  }
  return calls;
}

function drawTable(rows: readonly SummaryRow[]): string {
  const count = (value: number) => value.toLocaleString('en-US');
  const own = rows.filter((row) => row.leaf);
  const total = rows[0];
  const table = [
    ['name', 'type', 'output', 'parameters', 'multiply-adds'],
    ...own.map((row) => [
      row.name,
      row.type,
      row.outputShape === undefined ? '' : `[${row.outputShape.join(', ')}]`,
      count(row.parameters),
      count(row.multiplyAdds),
    ]),
    ['total', total?.type ?? '', '', count(total?.parameters ?? 0), count(total?.multiplyAdds ?? 0)],
  ];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((cells) => cells[column]?.length ?? 0))) ?? [];
  const lines = table.map((cells) =>
    cells
      .map((cell, column) => (column < 3 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
  const rule = '-'.repeat(widths.reduce((sum, width) => sum + width + 2, -2));
  return [lines[0], rule, ...lines.slice(1, -1), rule, lines.at(-1)].join('\n');
}
