/** The report's style sheet: system fonts, two palettes that follow the reader's setting, nothing from outside. */
export const STYLE = `
:root { color-scheme: light dark;
  --page: #f5f6f8; --card: #ffffff; --ink: #14181f; --soft: #5b6472; --faint: #8d96a5; --rule: #e4e7ec;
  --train: #2f6fed; --validation: #e8710a; --plain: #0f9d7a; --right: #2f6fed; --wrong: #e5484d; --none: #f3f5f8;
  --good: #12805c; --good-tint: #e3f5ee; --warn: #a15c07; --warn-tint: #fdf1dd;
  --shadow: 0 1px 2px rgb(16 24 40 / 6%), 0 4px 16px rgb(16 24 40 / 5%); }
@media (prefers-color-scheme: dark) { :root {
  --page: #0e1116; --card: #171b22; --ink: #e9edf3; --soft: #a2acba; --faint: #737e8e; --rule: #262c36;
  --train: #6ea0ff; --validation: #ffa14d; --plain: #4fd1ab; --right: #5b8ff5; --wrong: #ff6b70; --none: #1c212a;
  --good: #5fd3a6; --good-tint: #12301f; --warn: #f5c063; --warn-tint: #35270c; --shadow: none; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; -webkit-font-smoothing: antialiased; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 6px 14px; margin-bottom: 24px; }
h1 { font-size: 28px; line-height: 1.2; letter-spacing: -0.02em; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 18px; letter-spacing: -0.01em; margin: 44px 0 14px; }
h3 { font-size: 14px; font-weight: 600; margin: 0; }
header p { margin: 0; color: var(--soft); flex-basis: 100%; }
.chip { font-size: 12.5px; font-weight: 600; padding: 2px 10px; border-radius: 99px; color: var(--good);
  background: var(--good-tint); }
.chip.warn { color: var(--warn); background: var(--warn-tint); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 14px; box-shadow: var(--shadow);
  padding: 18px 20px; margin: 0; min-width: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); gap: 14px; }
.tile { padding: 14px 18px; } .tile span { display: block; color: var(--soft); font-size: 13px; }
.tile strong { display: block; font-size: 25px; line-height: 1.25; letter-spacing: -0.02em; font-weight: 650;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.tile small { color: var(--faint); font-size: 12.5px; }
.tile.first strong { color: var(--train); }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 18px; align-items: start; }
.stack { display: grid; gap: 18px; }
.grid2.wide { grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); } .wide table { font-size: 12.5px; }
.wide td, .wide th { padding-left: 6px; padding-right: 6px; }
@media (max-width: 860px) { .grid2.wide { grid-template-columns: minmax(0, 1fr); } }
figcaption { display: flex; justify-content: space-between; gap: 12px; margin-bottom: 8px; }
.legend { display: flex; gap: 14px; color: var(--soft); font-size: 13px; } .key { display: flex; align-items: center; gap: 6px; }
.swatch { width: 14px; height: 3px; border-radius: 2px; background: currentColor; }
.chart { position: relative; } .chart svg { display: block; width: 100%; height: auto; overflow: visible; }
.train { color: var(--train); } .validation { color: var(--validation); } .plain { color: var(--plain); }
.curve { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
circle { fill: currentColor; } .grid { stroke: var(--rule); stroke-width: 1; }
.tick { fill: var(--faint); font-size: 11.5px; font-variant-numeric: tabular-nums; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.hover { visibility: hidden; } .hover circle { stroke: var(--card); stroke-width: 2; }
.cursor { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 3 3; }
.tooltip { position: absolute; display: none; pointer-events: none; z-index: 1; padding: 7px 11px; border-radius: 9px;
  background: var(--ink); color: var(--page); font-size: 12.5px; line-height: 1.45; white-space: nowrap;
  font-variant-numeric: tabular-nums; transform: translate(-50%, -100%); }
.tooltip i { display: inline-block; width: 8px; height: 8px; border-radius: 50%; margin-right: 6px; }
.confusion { display: block; width: 100%; height: auto; margin: 0 auto; }
.cell.right { fill: var(--right); } .cell.wrong { fill: var(--wrong); } .cell.none { fill: var(--none); }
.count { fill: var(--ink); font-size: 12px; text-anchor: middle; font-variant-numeric: tabular-nums; pointer-events: none; }
.count.strong { fill: #ffffff; font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; font-weight: 500; } thead th { color: var(--soft); border-bottom: 1px solid var(--rule); padding: 6px 8px; }
td, tbody th { padding: 5px 8px; } .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.faint { color: var(--faint); } .lines tr + tr > * { border-top: 1px solid var(--rule); }
.lines code { overflow-wrap: anywhere; } tfoot td, tfoot th { border-top: 2px solid var(--rule); font-weight: 650; }
.bars th { white-space: nowrap; width: 1%; } .bars .bar { width: 80%; } .bar span { display: block; height: 10px; border-radius: 5px; background: var(--right);
  min-width: 2px; } .bar { background: linear-gradient(var(--none), var(--none)) center / calc(100% - 16px) 10px no-repeat; }
.scroll { overflow-x: auto; max-height: 520px; overflow-y: auto; }
.scroll thead th { position: sticky; top: 0; background: var(--card); }
code, pre { font: 12.5px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; } pre { margin: 0; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); gap: 14px; }
.mistake { text-align: center; font-size: 12.5px; line-height: 1.4; margin: 0; min-width: 0; }
.mistake img { width: 100%; aspect-ratio: 1; object-fit: contain; image-rendering: pixelated; border-radius: 10px; display: block;
  margin-bottom: 6px; background: var(--none); }
.mistake b { color: var(--wrong); font-weight: 600; } .mistake span { color: var(--soft); display: block; }
.note { color: var(--soft); margin: 0 0 12px; font-size: 13.5px; } footer { margin-top: 44px; color: var(--faint); font-size: 13px; }
@media print { body { background: #fff; } .card { box-shadow: none; break-inside: avoid; } }
`;

/** Shows the values under the pointer in every chart. */
export const SCRIPT = `
for (const figure of document.querySelectorAll('.chart')) {
  const { across, format, series } = JSON.parse(figure.querySelector('script').textContent);
  const svg = figure.querySelector('svg'), hover = figure.querySelector('.hover'), tooltip = figure.querySelector('.tooltip');
  const cursor = hover.querySelector('line');
  const write = (value) => format === 'percent' ? (100 * value).toFixed(2) + ' %' : String(Number(value.toPrecision(4)));
  const dots = series.map(({ colour }) => {
    const dot = document.createElementNS(svg.namespaceURI, 'circle');
    dot.setAttribute('class', colour); dot.setAttribute('r', 5); hover.append(dot); return dot;
  });
  const show = (event) => {
    const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
    const pointer = (event.clientX - box.left) / scale;
    const nearest = series.map(({ points }) =>
      points.reduce((best, point) => Math.abs(point[2] - pointer) < Math.abs(best[2] - pointer) ? point : best));
    const x = nearest.reduce((best, point) => Math.abs(point[2] - pointer) < Math.abs(best[2] - pointer) ? point : best)[2];
    cursor.setAttribute('x1', x); cursor.setAttribute('x2', x);
    tooltip.replaceChildren(across + ' ' + Number(nearest[0][0].toPrecision(6)));
    nearest.forEach((point, index) => {
      dots[index].setAttribute('cx', point[2]); dots[index].setAttribute('cy', point[3]);
      const line = document.createElement('div'), mark = document.createElement('i');
      line.className = series[index].colour; mark.style.background = 'currentColor';
      const text = document.createElement('span'); text.style.color = 'var(--page)';
      text.textContent = series[index].name + ' ' + write(point[1]);
      line.append(mark, text); tooltip.append(line);
    });
    hover.style.visibility = 'visible'; tooltip.style.display = 'block';
    const frame = figure.getBoundingClientRect();
    const left = box.left - frame.left + x * scale;
    tooltip.style.left = Math.min(Math.max(left, 70), frame.width - 70) + 'px';
    tooltip.style.top = box.top - frame.top + Math.min(...nearest.map((point) => point[3])) * scale - 12 + 'px';
  };
  svg.addEventListener('pointermove', show);
  svg.addEventListener('pointerleave', () => { hover.style.visibility = 'hidden'; tooltip.style.display = 'none'; });
}
`;
