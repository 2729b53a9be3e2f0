// Collects what checks and tests found, and prints it as a table with the totals as the last line.

/** The results of a run of `npm test`. */
export class Report {
  /** @type {{ name: string, passed: number, failed: number, skipped: number, seconds: number, note: string }[]} */
  #rows = [];

  /**
   * Runs a step and records what it returns; an exception counts as one failure.
   *
   * @param {string} name
   * @param {() => { passed?: number, failed?: number, skipped?: number, note?: string }} step
   */
  step(name, step) {
    const start = Date.now();
    process.stdout.write(`\n── ${name}\n`);
    let outcome;
    try {
      outcome = step();
    } catch (error) {
      outcome = { failed: 1, note: error instanceof Error ? error.message : String(error) };
    }
    const seconds = (Date.now() - start) / 1000;
    this.#rows.push({ name, passed: 0, failed: 0, skipped: 0, note: '', ...outcome, seconds });
    return outcome.failed === undefined || outcome.failed === 0;
  }

  #total(key) {
    return this.#rows.reduce((sum, row) => sum + row[key], 0);
  }

  /** True when nothing failed and something passed. */
  get succeeded() {
    return this.#total('failed') === 0 && this.#total('passed') > 0;
  }

  /** The table, and as its last line `N passed, N failed`. */
  toString() {
    const cells = [
      ['', 'passed', 'failed', 'skipped', 'seconds', ''],
      ...this.#rows.map((row) => [
        row.name,
        String(row.passed),
        String(row.failed),
        String(row.skipped),
        row.seconds.toFixed(1),
        row.note,
      ]),
    ];
    const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)));
    const lines = cells.map((row) =>
      row
        .map((cell, column) =>
          column === 0 || column === 5 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]),
        )
        .join('  ')
        .trimEnd(),
    );
    return [...lines, '', `${this.#total('passed')} passed, ${this.#total('failed')} failed`].join('\n');
  }
}
