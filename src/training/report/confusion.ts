import { formatPercent } from '../format';
import { escapeHtml } from './html';

/** Up to this many classes, each cell of the matrix is large enough for its count. */
const CLASSES_WITH_COUNTS = 25;

/** The confusion matrix as a heat map: one row a true class, one column a predicted one. */
export function renderConfusion(confusion: readonly (readonly number[])[], names: readonly string[]): string {
  const classes = confusion.length;
  const withCounts = classes <= CLASSES_WITH_COUNTS;
  const cell = withCounts ? Math.max(26, Math.min(48, Math.floor(520 / classes))) : 640 / classes;
  const longest = Math.max(...names.map((name) => name.length));
  const margin = withCounts ? Math.min(110, 18 + longest * 6.6) : 24;
  const slanted = withCounts && longest * 6.6 > cell;
  const above = withCounts ? (slanted ? margin * 0.75 + 14 : 30) : 24;
  const cells: string[] = [];
  for (const [label, row] of confusion.entries()) {
    const total = row.reduce((sum, count) => sum + count, 0);
    for (const [predicted, count] of row.entries()) {
      if (count === 0 && !withCounts) {
        continue;
      }
      const share = total === 0 ? 0 : count / total;
      const x = (margin + predicted * cell).toFixed(1);
      const y = (above + label * cell).toFixed(1);
      const kind = count === 0 ? 'none' : label === predicted ? 'right' : 'wrong';
      // The square root keeps one mistake in a hundred visible.
      const strength = count === 0 ? 1 : 0.12 + 0.88 * Math.sqrt(share);
      const title = `${names[label] ?? label} taken for ${names[predicted] ?? predicted}: ${count} of ${total}`;
      cells.push(
        `<rect class="cell ${kind}" x="${x}" y="${y}" width="${(cell - (withCounts ? 2 : 0)).toFixed(1)}" height="${(cell - (withCounts ? 2 : 0)).toFixed(1)}" rx="${withCounts ? 4 : 0}" fill-opacity="${strength.toFixed(3)}"><title>${escapeHtml(title)}</title></rect>`,
      );
      if (withCounts && count > 0) {
        const strong = strength > 0.55 ? ' strong' : '';
        cells.push(
          `<text class="count${strong}" x="${(margin + predicted * cell + cell / 2 - 1).toFixed(1)}" y="${(above + label * cell + cell / 2 - 1).toFixed(1)}" dy="0.35em">${count}</text>`,
        );
      }
    }
  }
  const labels = withCounts
    ? names.slice(0, classes).map((name, index) => {
        const middle = index * cell + cell / 2 - 1;
        const x = margin + middle;
        const top = slanted
          ? `<text class="tick" transform="translate(${x.toFixed(1)} ${above - 8}) rotate(-45)">${escapeHtml(name)}</text>`
          : `<text class="tick middle" x="${x.toFixed(1)}" y="${above - 8}">${escapeHtml(name)}</text>`;
        return `${top}<text class="tick end" x="${margin - 8}" y="${(above + middle).toFixed(1)}" dy="0.35em">${escapeHtml(name)}</text>`;
      })
    : [
        `<text class="tick" x="${margin}" y="14">predicted →</text>`,
        `<text class="tick" transform="translate(16 ${above}) rotate(90)">true →</text>`,
      ];
  const width = Math.ceil(margin + classes * cell + (slanted ? margin * 0.6 : 4));
  const height = Math.ceil(above + classes * cell + 4);
  return `<svg class="confusion" viewBox="0 0 ${width} ${height}" style="max-width:${width}px" role="img" aria-label="Confusion matrix: rows are true classes, columns predicted ones">${labels.join('')}${cells.join('')}</svg>`;
}

/** A bar a class: which fraction of its examples was recognized. */
export function renderClassAccuracy(confusion: readonly (readonly number[])[], names: readonly string[]): string {
  const rows = confusion.map((row, label) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    return { name: names[label] ?? String(label), total, share: total === 0 ? 0 : (row[label] ?? 0) / total };
  });
  const shown = rows.length > CLASSES_WITH_COUNTS ? [...rows].sort((a, b) => a.share - b.share).slice(0, 25) : rows;
  const note =
    shown.length < rows.length ? `<p class="note">The ${shown.length} hardest of ${rows.length} classes.</p>` : '';
  const bars = shown.map(
    ({ name, total, share }) =>
      `<tr><th scope="row">${escapeHtml(name)}</th><td class="bar"><span style="width:${(100 * share).toFixed(1)}%"></span></td><td class="number">${formatPercent(share)}</td><td class="number faint">${total}</td></tr>`,
  );
  return `${note}<table class="bars"><tbody>${bars.join('')}</tbody></table>`;
}

/** The pairs of classes mixed up most often, most frequent first. */
export function frequentConfusions(
  confusion: readonly (readonly number[])[],
  count: number,
): { label: number; predicted: number; examples: number }[] {
  const pairs = confusion.flatMap((row, label) =>
    row.map((examples, predicted) => ({ label, predicted, examples })).filter((pair) => pair.predicted !== label),
  );
  return pairs
    .filter(({ examples }) => examples > 0)
    .sort((a, b) => b.examples - a.examples || a.label - b.label || a.predicted - b.predicted)
    .slice(0, count);
}
