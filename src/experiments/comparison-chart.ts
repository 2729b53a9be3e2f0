import { escapeHtml } from '../training/report/html';
import type { ComparedGroup } from './compare-runs';

const PLOT_WIDTH = 550;
const PANEL_HEIGHT = 300;
const LEFT = 60;
const TOP = 46;
const BOTTOM = 44;
const COLOURS = ['#0f766e', '#d97706', '#4f46e5', '#be185d', '#0369a1', '#65a30d', '#9333ea', '#dc2626'];
const STYLE = `text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1f2937}.title{font-weight:600;font-size:15px}
.tick{fill:#6b7280;font-size:12px}.grid{stroke:#e5e7eb}.axis{stroke:#9ca3af}.curve{fill:none;stroke-width:2.5;stroke-linejoin:round}.background{fill:#fff}`;

/** Validation accuracy by epoch, averaged over the seeds of a group. */
function curveOf(group: ComparedGroup): (readonly [epoch: number, accuracy: number])[] {
  const sums = new Map<number, { total: number; count: number }>();
  for (const { epoch, validationTop1 } of group.runs.flatMap((run) => run.epochs)) {
    if (validationTop1 === undefined) continue;
    const sum = sums.get(epoch) ?? { total: 0, count: 0 };
    sums.set(epoch, { total: sum.total + validationTop1, count: sum.count + 1 });
  }
  return [...sums].sort(([a], [b]) => a - b).map(([epoch, { total, count }]) => [epoch, total / count] as const);
}

/** Label positions near `wanted`, at least `gap` apart. */
function spread(wanted: readonly number[], gap: number): number[] {
  const order = wanted.map((y, index) => ({ y, index })).sort((a, b) => a.y - b.y);
  const placed = new Array<number>(wanted.length);
  let last = Number.NEGATIVE_INFINITY;
  for (const { y, index } of order) {
    last = Math.max(y, last + gap);
    placed[index] = last;
  }
  return placed;
}

/**
 * A standalone SVG picture: one panel for each batch size, one curve of validation accuracy for each method. A method has the same
 * colour in every panel, and all panels share their scale.
 */
export function comparisonChart(groups: readonly ComparedGroup[], title: string): string {
  const batchSizes = [...new Set(groups.map((group) => group.batchSize))];
  const methods = [...new Set(groups.map((group) => group.label))].sort();
  // Room for the labels on the right, at about 7 pixels a letter.
  const right = Math.max(150, 7 * Math.max(...methods.map((label) => label.length)) + 70);
  const width = LEFT + PLOT_WIDTH + right;
  const curves = new Map(groups.map((group) => [group, curveOf(group)]));
  const values = [...curves.values()].flat();
  const lastEpoch = Math.max(...values.map(([epoch]) => epoch));
  const low = Math.floor(Math.min(...values.map(([, accuracy]) => accuracy)) * 10) / 10;
  const high = Math.min(1, Math.ceil(Math.max(...values.map(([, accuracy]) => accuracy)) * 10) / 10);
  const panels = batchSizes.map((batchSize, index) => {
    const top = TOP + index * PANEL_HEIGHT + 26;
    const bottom = TOP + (index + 1) * PANEL_HEIGHT - BOTTOM;
    const x = (epoch: number): number => LEFT + ((epoch - 1) / Math.max(1, lastEpoch - 1)) * (width - LEFT - right);
    const y = (accuracy: number): number => bottom - ((accuracy - low) / (high - low || 1)) * (bottom - top);
    const ticks: string[] = [];
    for (let tick = low; tick < high + 1e-9; tick += 0.1) {
      const at = y(tick).toFixed(1);
      ticks.push(
        `<line class="grid" x1="${LEFT}" x2="${width - right}" y1="${at}" y2="${at}"/>`,
        `<text class="tick" x="${LEFT - 8}" y="${at}" dy="0.33em" text-anchor="end">${Math.round(tick * 100)} %</text>`,
      );
    }
    const step = Math.max(1, Math.ceil(lastEpoch / 10));
    for (let epoch = 1; epoch <= lastEpoch; epoch += step) {
      ticks.push(
        `<text class="tick" x="${x(epoch).toFixed(1)}" y="${bottom + 18}" text-anchor="middle">${epoch}</text>`,
      );
    }
    const shown = groups.filter((group) => Object.is(group.batchSize, batchSize));
    const labels = spread(
      shown.map((group) => y(curves.get(group)?.at(-1)?.[1] ?? low)),
      16,
    );
    const lines = shown.map((group, place) => {
      const points = (curves.get(group) ?? []).map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`);
      const colour = COLOURS[methods.indexOf(group.label) % COLOURS.length];
      const last = curves.get(group)?.at(-1)?.[1] ?? 0;
      return (
        `<polyline class="curve" stroke="${colour}" points="${points.join(' ')}"/>` +
        `<text x="${width - right + 10}" y="${labels[place]?.toFixed(1)}" dy="0.33em" style="fill:${colour}">` +
        `${escapeHtml(group.label)} ${(100 * last).toFixed(1)} %</text>`
      );
    });
    return `<text class="title" x="${LEFT}" y="${top - 12}">${Number.isNaN(batchSize) ? '' : `batch size ${batchSize}`}</text>${ticks.join('')}
<line class="axis" x1="${LEFT}" x2="${width - right}" y1="${bottom}" y2="${bottom}"/>
<text class="tick" x="${(LEFT + width - right) / 2}" y="${bottom + 36}" text-anchor="middle">epoch</text>${lines.join('\n')}`;
  });
  const height = TOP + batchSizes.length * PANEL_HEIGHT;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeHtml(title)}">
<style>${STYLE}</style>
<rect class="background" width="${width}" height="${height}"/>
<text class="title" x="${LEFT}" y="26">${escapeHtml(title)}</text>
${panels.join('\n')}
</svg>
`;
}
