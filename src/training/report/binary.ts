import { type BinaryLayerRow, meanOfLayers, NEAR_ZERO } from '../binary-metrics';
import { formatInteger } from '../format';
import { renderChart, type Series } from './chart';
import { escapeHtml } from './html';

/** The binary layers after one epoch. */
export interface BinaryEpoch {
  /** Counted from 1. */
  readonly epoch: number;
  readonly layers: readonly BinaryLayerRow[];
}

/** Curves of the flip ratio and of the weights near zero, and the layers after the last epoch; empty for a float network. */
export function renderBinary(epochs: readonly BinaryEpoch[]): string {
  const last = epochs.at(-1);
  if (last === undefined) {
    return '';
  }
  const charts = [
    { title: 'Signs that flip in a step', key: 'flipRatio' },
    { title: 'Latent weights near zero', key: 'nearZero' },
  ] as const;
  const figures = charts.map(({ title, key }) => {
    const series = (name: string, colour: Series['colour'], value: (epoch: BinaryEpoch) => number | undefined) => ({
      name,
      colour,
      points: epochs.map((epoch) => [epoch.epoch, value(epoch) ?? Number.NaN] as const),
    });
    return renderChart({
      title,
      across: 'epoch',
      format: 'percent',
      series: [
        series('all layers', 'plain', ({ layers }) => meanOfLayers(layers)[key]),
        series('first layer', 'train', ({ layers }) => layers[0]?.[key]),
        series('last layer', 'validation', ({ layers }) => layers.at(-1)?.[key]),
      ],
    });
  });
  return `<h2>Binary weights</h2>
<p class="note">Near zero: smaller than ${NEAR_ZERO} of the mean magnitude of the same output's weights (of the standardized weights, where they are).</p>
<section class="grid2">${figures.join('')}</section>
${layerTable(last)}`;
}

function layerTable({ epoch, layers }: BinaryEpoch): string {
  const percent = (share: number | undefined) => (share === undefined ? '' : `${(100 * share).toFixed(3)} %`);
  const rows = layers.map(
    ({ name, weights, flipRatio, nearZero }) =>
      `<tr><td>${escapeHtml(name)}</td><td class="number">${formatInteger(weights)}</td><td class="number">${percent(flipRatio)}</td><td class="number">${percent(nearZero)}</td></tr>`,
  );
  return `<div class="card scroll"><table class="lines"><thead><tr><th>Layer, after epoch ${epoch}</th><th class="number">Weights</th><th class="number">Flips in a step</th><th class="number">Near zero</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}
