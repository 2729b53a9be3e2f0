import { escapeHtml, scriptJson } from './html';

/** One curve of a chart. */
export interface Series {
  readonly name: string;
  /** Which of the report's colours: `train`, `validation` or `plain`. */
  readonly colour: 'train' | 'validation' | 'plain';
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** A line chart. */
export interface Chart {
  readonly title: string;
  /** What the horizontal axis counts. */
  readonly across: string;
  readonly series: readonly Series[];
  /** How values are written on the axis and while hovering. */
  readonly format: 'number' | 'percent';
  /** Spread small values out (for losses over several orders of magnitude). */
  readonly logarithmic?: boolean;
}

const WIDTH = 640;
const HEIGHT = 280;
const LEFT = 56;
const RIGHT = 16;
const TOP = 14;
const BOTTOM = 38;
/** More points than pixels only make the file large. */
const MAXIMUM_POINTS = 400;

/** A `<figure>` with the chart as SVG, a legend, and the numbers that the report's script shows while hovering. */
export function renderChart(chart: Chart): string {
  const series = chart.series
    .map((one) => ({ ...one, points: thin(one.points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y))) }))
    .filter(({ points }) => points.length > 0);
  if (series.length === 0) {
    return '';
  }
  const points = series.flatMap((one) => one.points);
  const across = scaleOf(
    points.map(([x]) => x),
    LEFT,
    WIDTH - RIGHT,
  );
  const values = points.map(([, y]) => y);
  const logarithmic = chart.logarithmic === true && Math.min(...values) > 0;
  const ticks = logarithmic ? logarithmicTicks(values) : niceTicks(Math.min(...values), Math.max(...values), 5);
  const up = scaleOf([...ticks, ...values], HEIGHT - BOTTOM, TOP, logarithmic);
  const acrossTicks = niceTicks(across.low, across.high, 7).filter(
    (tick) => tick >= across.low && tick <= across.high && (across.high - across.low < 2 || Number.isInteger(tick)),
  );
  const format = chart.format === 'percent' ? formatPercentTick : formatTick;
  const grid = ticks.map((tick) => {
    const y = up.place(tick).toFixed(1);
    return `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}"/><text class="tick end" x="${LEFT - 8}" y="${y}" dy="0.32em">${format(tick)}</text>`;
  });
  const marks = acrossTicks.map((tick) => {
    const x = across.place(tick).toFixed(1);
    return `<text class="tick middle" x="${x}" y="${HEIGHT - BOTTOM + 18}">${formatTick(tick)}</text>`;
  });
  const curves = series.map((one) => {
    const placed = one.points.map(([x, y]) => `${across.place(x).toFixed(1)},${up.place(y).toFixed(1)}`);
    const dots =
      one.points.length <= 40
        ? placed.map((place) => `<circle class="${one.colour}" cx="${place.replace(',', '" cy="')}" r="2.6"/>`).join('')
        : '';
    return `<polyline class="curve ${one.colour}" points="${placed.join(' ')}"/>${dots}`;
  });
  const legend = series.map(
    (one) => `<span class="key"><span class="swatch ${one.colour}"></span>${escapeHtml(one.name)}</span>`,
  );
  const hover = {
    across: chart.across,
    format: chart.format,
    series: series.map((one) => ({
      name: one.name,
      colour: one.colour,
      points: one.points.map(([x, y]) => [
        Number(x.toFixed(4)),
        Number(y.toPrecision(6)),
        round(across.place(x)),
        round(up.place(y)),
      ]),
    })),
  };
  return `<figure class="card chart">
<figcaption><h3>${escapeHtml(chart.title)}</h3><span class="legend">${legend.join('')}</span></figcaption>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(describe(chart, series))}">
${grid.join('')}
${marks.join('')}
<text class="tick middle" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 4}">${escapeHtml(chart.across)}</text>
${curves.join('\n')}
<g class="hover"><line class="cursor" y1="${TOP}" y2="${HEIGHT - BOTTOM}"/></g>
</svg>
<div class="tooltip"></div>
<script type="application/json">${scriptJson(hover)}</script>
</figure>`;
}

/** What a screen reader says instead of the picture. */
function describe(chart: Chart, series: readonly Series[]): string {
  const format = chart.format === 'percent' ? formatPercentTick : formatTick;
  const ranges = series.map((one) => {
    const [first] = one.points;
    const last = one.points.at(-1);
    return `${one.name} from ${format(first?.[1] ?? 0)} to ${format(last?.[1] ?? 0)}`;
  });
  return `${chart.title} by ${chart.across}: ${ranges.join(', ')}`;
}

/** Averages neighbours until at most {@link MAXIMUM_POINTS} points are left. */
export function thin(points: readonly (readonly [number, number])[]): (readonly [number, number])[] {
  const group = Math.ceil(points.length / MAXIMUM_POINTS);
  if (group <= 1) {
    return [...points];
  }
  const thinned: [number, number][] = [];
  for (let start = 0; start < points.length; start += group) {
    const some = points.slice(start, start + group);
    const mean = (pick: 0 | 1) => some.reduce((sum, point) => sum + point[pick], 0) / some.length;
    thinned.push([mean(0), mean(1)]);
  }
  return thinned;
}

interface Scale {
  low: number;
  high: number;
  place(value: number): number;
}

function scaleOf(values: readonly number[], from: number, to: number, logarithmic = false): Scale {
  const bend = logarithmic ? Math.log10 : (value: number) => value;
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low === high) {
    // A single value sits in the middle.
    const margin = Math.abs(low) || 1;
    low -= logarithmic ? margin / 2 : margin;
    high += margin;
  }
  const start = bend(low);
  const span = bend(high) - start;
  return { low, high, place: (value) => from + ((bend(value) - start) / span) * (to - from) };
}

/** Round numbers that cover `low` to `high` in about `count` steps of 1, 2 or 5 times a power of ten. */
export function niceTicks(low: number, high: number, count: number): number[] {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) ?? 10) * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

/** 1, 2 and 5 times powers of ten from just below the smallest value to just above the largest. */
function logarithmicTicks(values: readonly number[]): number[] {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const all: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    all.push(...[1, 2, 5].map((factor) => Number((factor * 10 ** power).toPrecision(12))));
  }
  const below = all.filter((tick) => tick <= low).at(-1) ?? low;
  const above = all.find((tick) => tick >= high) ?? high;
  const inside = all.filter((tick) => tick >= below && tick <= above);
  return inside.length <= 7 ? inside : inside.filter((tick) => /^10*$|^0?\.?0*1$/.test(String(tick)));
}

function formatTick(value: number): string {
  const magnitude = Math.abs(value);
  if (magnitude >= 10_000) {
    return `${Number((value / 1000).toPrecision(4))}k`;
  }
  if (magnitude !== 0 && magnitude < 1e-3) {
    return value.toExponential(0);
  }
  return String(Number(value.toPrecision(4)));
}

function formatPercentTick(value: number): string {
  return `${Number((100 * value).toPrecision(4))}%`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
