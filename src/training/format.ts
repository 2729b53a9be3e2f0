/** Small text formats shared by the progress bar, the tables, the command line and the report. */

/** `0:07`, `3:05`, `2:03:04`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) {
    return '-:--';
  }
  const whole = Math.max(0, Math.round(seconds));
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const twoDigits = (value: number) => String(value).padStart(2, '0');
  return hours > 0 ? `${hours}:${twoDigits(minutes)}:${twoDigits(whole % 60)}` : `${minutes}:${twoDigits(whole % 60)}`;
}

/** How long something took: `4.2 s` below a minute, then as {@link formatDuration}. */
export function formatSeconds(seconds: number): string {
  return seconds < 59.95 ? `${seconds.toFixed(1)} s` : formatDuration(seconds);
}

/** Thousands separated by commas: `1,234,567`. */
export function formatInteger(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');
}

/** Three digits and a suffix: `987`, `1.23 k`, `40.6 M`, `1.20 G`. */
export function formatScaled(value: number): string {
  const suffixes = ['', ' k', ' M', ' G', ' T'];
  let scaled = value;
  let index = 0;
  while (Math.abs(scaled) >= 999.5 && index < suffixes.length - 1) {
    scaled /= 1000;
    index += 1;
  }
  const text = index === 0 ? String(Math.round(scaled)) : scaled.toPrecision(3);
  return text + (suffixes[index] ?? '');
}

/** A fraction as a percentage with two decimals: `97.50 %`. */
export function formatPercent(fraction: number | undefined): string {
  return fraction === undefined || Number.isNaN(fraction) ? '-' : `${(100 * fraction).toFixed(2)} %`;
}

/** A loss or a learning rate with four significant digits. */
export function formatNumber(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) {
    return '-';
  }
  const magnitude = Math.abs(value);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e5)) {
    return value.toExponential(3);
  }
  return String(Number(value.toPrecision(4)));
}

/**
 * A text table: first row as the heading, a rule below it, columns of numbers to the right.
 *
 * @param total a last row below a rule of its own.
 */
export function formatTable(rows: readonly (readonly string[])[], total?: readonly string[]): string {
  const [heading = [], ...body] = rows;
  const all = total === undefined ? rows : [...rows, total];
  const widths = heading.map((_, column) => Math.max(...all.map((row) => displayWidth(row[column] ?? ''))));
  const toRight = heading.map((_, column) => body.every((row) => /^(-|[-+]?\d.*)?$/.test(row[column] ?? '')));
  const line = (row: readonly string[]) =>
    widths
      .map((width, column) => {
        const cell = row[column] ?? '';
        const space = ' '.repeat(width - displayWidth(cell));
        return toRight[column] ? space + cell : cell + space;
      })
      .join('   ')
      .trimEnd();
  const rule = '─'.repeat(widths.reduce((sum, width) => sum + width + 3, -3));
  const foot = total === undefined ? [] : [rule, line(total)];
  return [line(heading), rule, ...body.map(line), ...foot].join('\n');
}

function displayWidth(text: string): number {
  return [...text].length;
}
