import { inspect } from 'node:util';
import { EvenkeelError } from '../errors';
import { show } from '../options';
import { noGrad, scope, Tensor, zeros } from '../tensor';
import { BinaryLayer } from './binary';
import { checkMethods } from './check';
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
  /** Those of the multiply-adds that are of signs by signs. */
  readonly binaryMultiplyAdds: number;
  /** Those of the parameters that are latent weights of binary layers, of which only the signs count. */
  readonly binaryParameters: number;
  /**
   * Bits to store the module and everything below it for use: one for a binary weight, 32 for any other parameter, for a value of a buffer,
   * and for the scale of each output of a binary layer, which takes in its gain.
   */
  readonly bits: number;
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
  /** Those of them that are of signs by signs. */
  readonly binaryMultiplyAdds: number;
  /** The share of binary multiply-adds, 0 to 1. */
  readonly binaryShare: number;
  /** Latent weights of binary layers. */
  readonly binaryParameters: number;
  /** The operations that the literature on binary networks counts: a 64th for a binary multiply-add, 1 for any other. */
  readonly operations: number;
  /** Bits to store the model for use; see {@link SummaryRow.bits}. */
  readonly bits: number;
  /** The leaves as a text table, with totals. */
  toString(): string;
  /** `console.log(summary(…))` shows the table of {@link ModelSummary.toString}. */
  [inspect.custom](): string;
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
  checkMethods('summary', 'model', model, ['call', 'modules'], 'a Module, such as models.create(…)');
  if (!Array.isArray(inputShape) || inputShape.some((size) => !Number.isInteger(size) || size < 1)) {
    throw new EvenkeelError(
      'INVALID_ARGUMENT',
      `summary: the input shape is ${show(inputShape)}; give the sizes of one sample, such as [32, 32, 3]`,
    );
  }
  const modules = model.namedModules();
  const calls = observe(model, modules, inputShape);
  const counted = new Set<Tensor>();
  const own = modules.map(([name, module]) => ({ name, ...ownSizes(module, counted), ...calls.get(name) }));
  const rows = modules.map(([name, module]): SummaryRow => {
    const members = own.filter((part) => name === '' || part.name === name || part.name.startsWith(`${name}.`));
    const total = (key: 'parameters' | 'multiplyAdds' | 'binaryMultiplyAdds' | 'binaryParameters' | 'bits') =>
      members.reduce((sum, part) => sum + (part[key] ?? 0), 0);
    return {
      name,
      type: module.constructor.name,
      depth: name === '' ? 0 : name.split('.').length,
      leaf: module.children().length === 0,
      outputShape: calls.get(name)?.outputShape,
      parameters: total('parameters'),
      multiplyAdds: total('multiplyAdds'),
      binaryMultiplyAdds: total('binaryMultiplyAdds'),
      binaryParameters: total('binaryParameters'),
      bits: total('bits'),
    };
  });
  const { parameters, multiplyAdds, binaryMultiplyAdds, binaryParameters, bits } = rows[0]!;
  return {
    inputShape: [...inputShape],
    rows,
    parameters,
    multiplyAdds,
    binaryMultiplyAdds,
    binaryShare: multiplyAdds === 0 ? 0 : binaryMultiplyAdds / multiplyAdds,
    binaryParameters,
    operations: multiplyAdds - binaryMultiplyAdds + binaryMultiplyAdds / 64,
    bits,
    toString: () => drawTable(rows),
    [inspect.custom]: () => drawTable(rows),
  };
}

/** The sizes of a module without its children; what is in `counted` belongs to another. */
function ownSizes(module: AnyModule, counted: Set<Tensor>) {
  const [parameters, buffers] = [module.namedParameters(), module.namedBuffers()].map((named) =>
    named.flatMap(([path, tensor]) => {
      if (path.includes('.') || counted.has(tensor)) return [];
      counted.add(tensor);
      return [tensor.size];
    }),
  );
  const sum = (sizes: readonly number[] = []) => sizes.reduce((total, size) => total + size, 0);
  const all = sum(parameters) + sum(buffers);
  const binary = module instanceof BinaryLayer && module.binaryWeights ? module : undefined;
  const binaryParameters = binary?.weight.size ?? 0;
  const scales = binary !== undefined && binary.gain === undefined ? (binary.weight.shape.at(-1) ?? 0) : 0;
  return {
    parameters: sum(parameters),
    binaryParameters,
    bits: binaryParameters + 32 * (all - binaryParameters + scales),
  };
}

interface Call {
  readonly outputShape: readonly number[] | undefined;
  readonly multiplyAdds: number;
  readonly binaryMultiplyAdds: number;
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
      const before = calls.get(name);
      const binary = module instanceof BinaryLayer ? module.binaryMultiplyAdds(input as Tensor, output as Tensor) : 0;
      calls.set(name, {
        outputShape: output instanceof Tensor ? output.shape.slice(1) : undefined,
        multiplyAdds: (before?.multiplyAdds ?? 0) + module.multiplyAdds(input, output),
        binaryMultiplyAdds: (before?.binaryMultiplyAdds ?? 0) + binary,
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

/** Lines for people: the leaves and the total; networks with binary layers have three columns more and a line about them. */
function drawTable(rows: readonly SummaryRow[]): string {
  const count = (value: number) => value.toLocaleString('en-US');
  const total = rows[0]!;
  const binary = total.binaryParameters > 0;
  const numbers = (row: SummaryRow) => [
    count(row.parameters),
    count(row.multiplyAdds),
    ...(binary ? [count(row.binaryMultiplyAdds), count(row.binaryParameters), count(row.bits)] : []),
  ];
  const table = [
    ['name', 'type', 'output', 'parameters', 'multiply-adds', ...(binary ? ['binary', '1-bit weights', 'bits'] : [])],
    ...rows
      .filter((row) => row.leaf)
      .map((row) => [
        row.name,
        row.type,
        row.outputShape === undefined ? '' : `[${row.outputShape.join(', ')}]`,
        ...numbers(row),
      ]),
    ['total', total.type, '', ...numbers(total)],
  ];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((cells) => cells[column]?.length ?? 0))) ?? [];
  const lines = table.map((cells) =>
    cells
      .map((cell, column) => (column < 3 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
  const rule = '-'.repeat(widths.reduce((sum, width) => sum + width + 2, -2));
  const share = describeBinary(total);
  return [lines[0], rule, ...lines.slice(1, -1), rule, lines.at(-1), ...(share === undefined ? [] : [share])].join(
    '\n',
  );
}

/** How much of a network is binary, in a line; `undefined` if nothing is. */
export function describeBinary(
  total: Pick<SummaryRow, 'multiplyAdds' | 'binaryMultiplyAdds' | 'parameters' | 'binaryParameters' | 'bits'>,
): string | undefined {
  if (total.binaryParameters === 0) return undefined;
  const share = ((100 * total.binaryMultiplyAdds) / Math.max(1, total.multiplyAdds)).toFixed(1);
  const size = (total.bits / 8e6).toFixed(2);
  const float = ((32 * total.parameters) / 8e6).toFixed(2);
  return `${share} % of the multiply-adds are binary; stored for use ${size} MB, in float32 ${float} MB`;
}
