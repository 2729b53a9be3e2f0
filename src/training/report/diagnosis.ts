import type { Diagnosis, LayerDiagnosis } from '../../nn/diagnose';
import { formatNumber } from '../format';
import { type Chart, renderChart, type Series } from './chart';
import { escapeHtml } from './html';
import { SCRIPT, STYLE } from './style';

/** What stands around a diagnosis on its page. */
export interface DiagnosisPage {
  readonly title: string;
  /** Which model, data and batch. */
  readonly subtitle: string;
  /** Written at the foot. */
  readonly footer: string;
}

/** Heading and rows of the table of layers, for the terminal and for the page. */
export function diagnosisTable({ layers }: Pick<Diagnosis, 'layers'>): { heading: string[]; rows: string[][] } {
  const heading = [
    '#',
    'layer',
    'kind',
    'P1 %',
    'P2 %',
    'P3+P4 %',
    'corr.',
    'MI nats',
    'condition',
    'dead %',
    'grad/weight',
  ];
  const percent = (share: number | undefined): string => (share === undefined ? '' : (100 * share).toFixed(1));
  const number = (value: number | undefined): string =>
    value === undefined
      ? ''
      : Number.isFinite(value)
        ? String(Number(value.toPrecision(3)))
        : Number.isNaN(value)
          ? 'NaN'
          : '∞';
  const rows = layers.map((layer) => [
    String(layer.depth),
    layer.name,
    layer.type,
    percent(layer.power?.shares.constant),
    percent(layer.power?.shares.within),
    percent(layer.instanceVariability),
    number(layer.correlation),
    number(layer.mutualInformation),
    number(layer.conditionNumber),
    percent(layer.deadShare),
    number(layer.gradientToWeight),
  ]);
  return { heading, rows };
}

/** One self-contained HTML page: findings with their evidence, plots by depth, and the table of layers. */
export function renderDiagnosis(diagnosis: Diagnosis, page: DiagnosisPage): string {
  const title = escapeHtml(page.title);
  const warnings = diagnosis.findings.filter(({ severity }) => severity === 'warning').length;
  const status = warnings === 0 ? 'no warnings' : `${warnings} ${warnings === 1 ? 'warning' : 'warnings'}`;
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
<header><h1>${title}</h1><span class="chip${warnings === 0 ? '' : ' warn'}">${status}</span><p>${escapeHtml(page.subtitle)}</p></header>
${findings(diagnosis)}
<h2>By depth</h2>
<p class="note">P1: one constant for each channel, the same for all inputs. P2: variation within an input. P3 + P4: statistics that differ
between inputs. Measured on norms before scale and shift, or on the outputs of weights where there is no norm.</p>
<section class="grid2">${charts(diagnosis.layers).map(renderChart).join('')}</section>
<h2>Layers</h2>
${layerTable(diagnosis)}
<footer>${escapeHtml(page.footer)}</footer>
</main>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function findings({ findings: all, sampleDependence: samples, loss }: Diagnosis): string {
  const rows = all.map(
    ({ severity, kind, evidence, advice }) =>
      `<tr><td><span class="chip${severity === 'warning' ? ' warn' : ''}">${severity}</span></td><th scope="row">${escapeHtml(kind.replaceAll('-', ' '))}</th><td>${escapeHtml(evidence)}</td><td>${escapeHtml(advice)}</td></tr>`,
  );
  const body =
    rows.length === 0
      ? '<p class="note">Nothing found.</p>'
      : `<table class="lines"><thead><tr><th></th><th>Finding</th><th>Evidence</th><th>Advice</th></tr></thead><tbody>${rows.join('')}</tbody></table>`;
  const facts = [
    ...(loss === undefined ? [] : [`Loss on the batch ${formatNumber(loss)}.`]),
    ...(samples === undefined
      ? []
      : [
          samples.maximumDifference === 0
            ? 'Samples do not depend on each other: the same bits alone and in the batch.'
            : `Outputs of a sample alone and in the batch differ by ${formatNumber(100 * samples.relativeDifference)} %.`,
        ]),
  ];
  return `<h2>Findings</h2><p class="note">${escapeHtml(facts.join(' '))}</p><div class="card scroll">${body}</div>`;
}

function charts(layers: readonly LayerDiagnosis[]): Chart[] {
  const norms = layers.filter(({ kind }) => kind === 'norm');
  const weights = layers.filter(({ kind }) => kind === 'weight');
  const powered = norms.length > 0 ? norms : weights;
  const curve = (
    name: string,
    colour: Series['colour'],
    from: readonly LayerDiagnosis[],
    value: (layer: LayerDiagnosis) => number | undefined,
  ): Series => ({
    name,
    colour,
    points: from.map((layer) => [layer.depth, value(layer) ?? Number.NaN] as const),
  });
  const across = 'layer, in the order of the calls';
  const dead = layers.filter(({ deadShare }) => deadShare !== undefined);
  return [
    {
      title: 'Power of the pre-activations',
      across,
      format: 'percent',
      series: [
        curve('P1', 'validation', powered, ({ power }) => power?.shares.constant),
        curve('P2', 'train', powered, ({ power }) => power?.shares.within),
        curve('P3 + P4', 'plain', powered, ({ instanceVariability }) => instanceVariability),
      ],
    },
    {
      title: 'Mean absolute correlation of channels',
      across,
      format: 'number',
      series: [curve('correlation', 'train', powered, ({ correlation }) => correlation)],
    },
    {
      title: 'Condition number of inputs',
      across,
      format: 'number',
      logarithmic: true,
      series: [curve('condition number', 'validation', weights, ({ conditionNumber }) => conditionNumber)],
    },
    {
      title: 'Gradient by weight',
      across,
      format: 'number',
      logarithmic: true,
      series: [curve('ratio of norms', 'plain', weights, ({ gradientToWeight }) => gradientToWeight)],
    },
    {
      title: 'Dead channels',
      across,
      format: 'percent',
      series: [curve('dead', 'validation', dead, ({ deadShare }) => deadShare)],
    },
  ];
}

function layerTable(diagnosis: Diagnosis): string {
  const { heading, rows } = diagnosisTable(diagnosis);
  const cells = (row: readonly string[], tag: 'td' | 'th'): string =>
    row
      .map(
        (cell, column) => `<${tag}${column === 0 || column > 2 ? ' class="number"' : ''}>${escapeHtml(cell)}</${tag}>`,
      )
      .join('');
  return `<div class="card scroll"><table class="lines"><thead><tr>${cells(heading, 'th')}</tr></thead><tbody>${rows
    .map((row) => `<tr>${cells(row, 'td')}</tr>`)
    .join('')}</tbody></table></div>`;
}
