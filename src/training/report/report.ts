import { formatInteger, formatNumber, formatPercent, formatSeconds } from '../format';
import type { Mistake } from '../metrics';
import type { EpochRow } from '../run-directory';
import { type BinaryEpoch, renderBinary } from './binary';
import { type Chart, renderChart } from './chart';
import { frequentConfusions, renderClassAccuracy, renderConfusion } from './confusion';
import { escapeHtml } from './html';
import { type PixelImage, pngDataAddress } from './png';
import { SCRIPT, STYLE } from './style';

/** Everything the report shows. */
export interface ReportContent {
  /** The run's name. */
  readonly title: string;
  /** How the run ended, in a few words. */
  readonly status: string;
  /** Whether it ended as planned; otherwise its status is shown as a warning. */
  readonly complete: boolean;
  readonly epochs: readonly EpochRow[];
  /** Loss and learning rate of single steps, for a finer curve; may be empty. */
  readonly steps: readonly StepPoint[];
  /** The values to list, in order. */
  readonly configuration: Readonly<Record<string, unknown>>;
  /** Heading, rows and total of the table of layers. */
  readonly layers?: LayerTable;
  /** The binary layers after each epoch; none in a float network. */
  readonly binary?: readonly BinaryEpoch[];
  /** Which class was taken for which on the validation data. */
  readonly confusion?: readonly (readonly number[])[];
  readonly classNames?: readonly string[];
  readonly mistakes?: readonly IllustratedMistake[];
  /** Written at the foot: version, machine, date. */
  readonly footer: string;
}

/** One training step on the curves. */
export interface StepPoint {
  readonly step: number;
  readonly loss: number;
  readonly learningRate: number;
}

/** A mistake with its picture. */
export interface IllustratedMistake extends Mistake {
  readonly image?: PixelImage;
}

/** The model summary as the report shows it. */
export interface LayerTable {
  readonly heading: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly total?: readonly string[];
}

/** One self-contained HTML page about a training run. */
export function renderReport(content: ReportContent): string {
  const title = escapeHtml(content.title);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} · Evenkeel</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<header><h1>${title}</h1><span class="chip${content.complete ? '' : ' warn'}">${escapeHtml(content.status)}</span>
<p>${escapeHtml(subtitle(content))}</p></header>
${tiles(content)}
${curves(content)}
${renderBinary(content.binary ?? [])}
${classes(content)}
${mistakes(content)}
<h2>Configuration and model</h2>
<div class="grid2 wide">${configuration(content)}${layers(content)}</div>
${epochTable(content.epochs)}
<footer>${escapeHtml(content.footer)}</footer>
</main>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function subtitle({ configuration: { model, data, norm, batchSize } }: ReportContent): string {
  const parts = [
    model === undefined ? undefined : String(model),
    norm === undefined ? undefined : `norm ${String(norm)}`,
    data === undefined ? undefined : `on ${String(data)}`,
    batchSize === undefined ? undefined : `batch size ${String(batchSize)}`,
  ];
  return parts.filter((part) => part !== undefined).join(' · ');
}

/** The best epoch by validation accuracy, or by training accuracy where nothing was validated. */
function bestEpoch(epochs: readonly EpochRow[]): EpochRow | undefined {
  const score = (row: EpochRow) => row.validationTop1 ?? row.trainTop1;
  return epochs.reduce<EpochRow | undefined>(
    (best, row) => (best === undefined || score(row) > score(best) ? row : best),
    undefined,
  );
}

function tiles({ epochs }: ReportContent): string {
  const best = bestEpoch(epochs);
  const last = epochs.at(-1);
  if (best === undefined || last === undefined) {
    return '<p class="note">No epoch was finished.</p>';
  }
  const seconds = epochs.reduce((sum, row) => sum + row.seconds, 0);
  const speed = [...epochs].map((row) => row.imagesPerSecond).sort((a, b) => a - b)[epochs.length >> 1] ?? 0;
  const validated = best.validationTop1 !== undefined;
  const shown: [label: string, value: string, note: string][] = [
    [
      validated ? 'Best accuracy' : 'Training accuracy',
      formatPercent(best.validationTop1 ?? best.trainTop1),
      `in epoch ${best.epoch} of ${last.epoch}`,
    ],
    ...(best.validationTop5 === undefined
      ? []
      : [['Top-5 accuracy', formatPercent(best.validationTop5), 'in the same epoch'] as [string, string, string]]),
    [
      `Last ${validated ? 'validation' : 'training'} loss`,
      formatNumber(last.validationLoss ?? last.trainLoss),
      validated ? `training ${formatNumber(last.trainLoss)}` : '',
    ],
    ['Steps', formatInteger(last.step), `${last.epoch} ${last.epoch === 1 ? 'epoch' : 'epochs'}`],
    ['Speed', formatInteger(speed), 'images/s, median'],
    ['Time', formatSeconds(seconds), 'validation included'],
  ];
  const tile = ([label, value, note]: [string, string, string], index: number) =>
    `<div class="card tile${index === 0 ? ' first' : ''}"><span>${label}</span><strong>${escapeHtml(value)}</strong><small>${escapeHtml(note)}</small></div>`;
  return `<section class="tiles">${shown.map(tile).join('')}</section>`;
}

function curves({ epochs, steps }: ReportContent): string {
  const byEpoch = (key: keyof EpochRow) =>
    epochs.flatMap((row): [number, number][] => {
      const value = row[key];
      return value === undefined ? [] : [[row.epoch, value]];
    });
  const fewEpochs = epochs.length < 2;
  const charts: Chart[] = [
    {
      title: 'Loss',
      across: 'epoch',
      format: 'number',
      logarithmic: true,
      series: [
        { name: 'training', colour: 'train', points: byEpoch('trainLoss') },
        { name: 'validation', colour: 'validation', points: byEpoch('validationLoss') },
      ],
    },
    {
      title: 'Accuracy',
      across: 'epoch',
      format: 'percent',
      series: [
        { name: 'training', colour: 'train', points: byEpoch('trainTop1') },
        { name: 'validation', colour: 'validation', points: byEpoch('validationTop1') },
      ],
    },
    {
      title: 'Loss of single batches',
      across: 'step',
      format: 'number',
      logarithmic: true,
      series: [{ name: 'training', colour: 'train', points: steps.map(({ step, loss }) => [step, loss]) }],
    },
    {
      title: 'Learning rate',
      across: steps.length > 1 ? 'step' : 'epoch',
      format: 'number',
      series: [
        {
          name: 'learning rate',
          colour: 'plain',
          points:
            steps.length > 1 ? steps.map(({ step, learningRate }) => [step, learningRate]) : byEpoch('learningRate'),
        },
      ],
    },
  ];
  const shown = charts.filter(({ across }) => !(across === 'epoch' && fewEpochs && epochs.length === 0));
  return `<h2>Curves</h2><section class="grid2">${shown.map(renderChart).join('')}</section>`;
}

function classes({ confusion, classNames = [] }: ReportContent): string {
  if (confusion === undefined || confusion.length === 0) {
    return '';
  }
  const names = confusion.map((_, index) => classNames[index] ?? String(index));
  const pairs = frequentConfusions(confusion, 8).map(
    ({ label, predicted, examples }) =>
      `<tr><td>${escapeHtml(names[label] ?? '')}</td><td>${escapeHtml(names[predicted] ?? '')}</td><td class="number">${formatInteger(examples)}</td></tr>`,
  );
  const table =
    pairs.length === 0
      ? '<p class="note">Not one mistake.</p>'
      : `<table class="lines"><thead><tr><th>True class</th><th>Taken for</th><th class="number">Times</th></tr></thead><tbody>${pairs.join('')}</tbody></table>`;
  const matrix = `<figure class="card"><figcaption><h3>Confusion matrix</h3><span class="legend">rows: true · columns: predicted</span></figcaption>
${renderConfusion(confusion, names)}</figure>`;
  const accuracy = `<div class="card"><h3>Accuracy by class</h3>${renderClassAccuracy(confusion, names)}</div>`;
  const frequent = `<div class="card"><h3>Most frequent confusions</h3>${table}</div>`;
  // The list of classes is the taller column when there are many.
  const [left, right] = names.length > 14 ? [matrix + frequent, accuracy] : [matrix, accuracy + frequent];
  return `<h2>Classes</h2>
<p class="note">On the validation data, after the last finished epoch.</p>
<div class="grid2"><div class="stack">${left}</div><div class="stack">${right}</div></div>`;
}

function mistakes({ mistakes: all = [], classNames = [] }: ReportContent): string {
  if (all.length === 0) {
    return '';
  }
  const name = (label: number) => escapeHtml(classNames[label] ?? String(label));
  const shown = all.map(({ image, label, predicted, confidence, index }) => {
    const picture =
      image === undefined ? '' : `<img src="${pngDataAddress(image)}" alt="example ${index}, which is ${name(label)}">`;
    return `<figure class="mistake">${picture}<b>${name(predicted)}</b> ${(100 * confidence).toFixed(0)} %<span>is ${name(label)} · #${index}</span></figure>`;
  });
  return `<h2>Most confident mistakes</h2><div class="card mistakes">${shown.join('')}</div>`;
}

function configuration({ configuration: values }: ReportContent): string {
  const rows = Object.entries(values)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([key, value]) => {
      const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
      return `<tr><th scope="row">${escapeHtml(spacedWords(key))}</th><td><code>${escapeHtml(text)}</code></td></tr>`;
    });
  return `<div class="card"><table class="lines"><tbody>${rows.join('')}</tbody></table></div>`;
}

/** `labelSmoothing` becomes `label smoothing`. */
function spacedWords(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function layers({ layers: table }: ReportContent): string {
  if (table === undefined) {
    return '';
  }
  const cells = (row: readonly string[], tag: 'td' | 'th') =>
    row.map((cell, column) => `<${tag}${column > 1 ? ' class="number"' : ''}>${escapeHtml(cell)}</${tag}>`).join('');
  const total = table.total === undefined ? '' : `<tfoot><tr>${cells(table.total, 'td')}</tr></tfoot>`;
  return `<div class="card scroll"><table class="lines"><thead><tr>${cells(table.heading, 'th')}</tr></thead><tbody>${table.rows
    .map((row) => `<tr>${cells(row, 'td')}</tr>`)
    .join('')}</tbody>${total}</table></div>`;
}

function epochTable(epochs: readonly EpochRow[]): string {
  if (epochs.length === 0) {
    return '';
  }
  const columns: [string, (row: EpochRow) => string][] = [
    ['Epoch', (row) => String(row.epoch)],
    ['Step', (row) => formatInteger(row.step)],
    ['Learning rate', (row) => formatNumber(row.learningRate)],
    ['Training loss', (row) => formatNumber(row.trainLoss)],
    ['Training accuracy', (row) => formatPercent(row.trainTop1)],
    ['Validation loss', (row) => formatNumber(row.validationLoss)],
    ['Validation accuracy', (row) => formatPercent(row.validationTop1)],
    ['Images/s', (row) => formatInteger(row.imagesPerSecond)],
    ['Time', (row) => formatSeconds(row.seconds)],
  ];
  const heading = columns.map(([name]) => `<th class="number">${name}</th>`).join('');
  const body = epochs.map(
    (row) => `<tr>${columns.map(([, cell]) => `<td class="number">${escapeHtml(cell(row))}</td>`).join('')}</tr>`,
  );
  return `<h2>Epochs</h2><div class="card scroll"><table class="lines"><thead><tr>${heading}</tr></thead><tbody>${body.join('')}</tbody></table></div>`;
}
