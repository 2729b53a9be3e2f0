/** Pictures of a number by two lengths, as SVG. */
export interface HeatMap {
  readonly title: string;
  readonly columns: readonly number[];
  readonly rows: readonly number[];
  readonly across: string;
  readonly down: string;
  readonly format: (value: number) => string;
  /** The value between the two colours, orange below and green above, on a logarithmic scale. */
  readonly middle: number;
  /** Column by column: the first column's rows, then the second's. */
  readonly values: readonly number[];
}

const CELL_WIDTH = 36;
const CELL_HEIGHT = 22;
const LEFT = 84;
const TOP = 84;
const STYLE = `text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1f2937}.title{font-weight:600;font-size:15px}
.tick{fill:#6b7280}.cell{font-size:11px}.background{fill:#fff}`;

/** From orange (a quarter of the middle and less) over white to green (four times the middle and more). */
function colour(value: number, middle: number): string {
  const place = Math.max(-1, Math.min(1, Math.log2(value / middle) / 2));
  const [hue, strength] = place < 0 ? [30, -place] : [172, place];
  return `hsl(${hue} ${Math.round(30 + 50 * strength)}% ${Math.round(98 - 40 * strength)}%)`;
}

function panel(map: HeatMap, top: number): string {
  const texts = [
    `<text class="title" x="${LEFT}" y="${top - 40}">${map.title}</text>`,
    `<text class="tick" x="${LEFT}" y="${top - 22}">${map.across} →</text>`,
    `<text class="tick" x="${LEFT - 8}" y="${top - 6}" text-anchor="end">${map.down} ↓</text>`,
    ...map.columns.map(
      (column, index) =>
        `<text class="tick" x="${LEFT + (index + 0.5) * CELL_WIDTH}" y="${top - 6}" text-anchor="middle">${column}</text>`,
    ),
    ...map.rows.map(
      (row, index) =>
        `<text class="tick" x="${LEFT - 8}" y="${top + (index + 0.5) * CELL_HEIGHT}" dy="0.33em" text-anchor="end">${row}</text>`,
    ),
  ];
  const cells = map.values.map((value, index) => {
    const x = LEFT + Math.floor(index / map.rows.length) * CELL_WIDTH;
    const y = top + (index % map.rows.length) * CELL_HEIGHT;
    return (
      `<rect x="${x}" y="${y}" width="${CELL_WIDTH - 1}" height="${CELL_HEIGHT - 1}" fill="${colour(value, map.middle)}"/>` +
      `<text class="cell" x="${x + CELL_WIDTH / 2}" y="${y + CELL_HEIGHT / 2}" dy="0.33em" text-anchor="middle">${map.format(value)}</text>`
    );
  });
  return [...texts, ...cells].join('\n');
}

/** The maps under each other. */
export function heatMaps(title: string, maps: readonly HeatMap[]): string {
  const columns = Math.max(...maps.map((map) => map.columns.length));
  const rows = Math.max(...maps.map((map) => map.rows.length));
  const panelHeight = rows * CELL_HEIGHT + TOP;
  const width = LEFT + columns * CELL_WIDTH + 20;
  const height = 40 + maps.length * panelHeight;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${title}">
<style>${STYLE}</style>
<rect class="background" width="${width}" height="${height}"/>
<text class="title" x="20" y="26">${title}</text>
${maps.map((map, index) => panel(map, 20 + index * panelHeight + TOP)).join('\n')}
</svg>
`;
}
