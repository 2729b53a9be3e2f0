import { cpus } from 'node:os';
import { basename } from 'node:path';
import { optionNames } from '../options';
import type { BinaryLayerRow } from './binary-metrics';
import type { Findings } from './metrics';
import type { BinaryEpoch } from './report/binary';
import type { PixelImage } from './report/png';
import { type LayerTable, renderReport, type StepPoint } from './report/report';
import type { EpochRow } from './run-directory';
import { RunDirectory, type RunEvent } from './run-directory';
import type { StepReport } from './types';

/** What the report shows beside the numbers of the run. */
export interface ReportOptions {
  /** The heading. Default: the name of the run directory. */
  readonly title?: string;
  /** Names of the classes, in order. Default: their numbers. */
  readonly classNames?: readonly string[];
  /** The table of layers. */
  readonly layers?: LayerTable;
  /** The picture of a validation example, for the gallery of mistakes. */
  readonly image?: (index: number) => PixelImage | undefined;
}

/** The names of {@link ReportOptions}. */
export const reportOptions = optionNames<ReportOptions>({ title: true, classNames: true, layers: true, image: true });

/** Steps between two that are logged in `events.jsonl` or whose flips are counted: 25, or fewer where the epoch is short. */
export function sampledSteps(batches: number): number {
  return Math.min(25, Math.max(1, Math.floor(batches / 10)));
}

/** Keeps the files of a run directory up to date while a run goes on. */
export class RunRecorder {
  readonly directory: RunDirectory;
  readonly #config: Readonly<Record<string, unknown>>;
  readonly #report: ReportOptions;

  constructor(path: string, config: Readonly<Record<string, unknown>>, report: ReportOptions = {}) {
    this.directory = new RunDirectory(path);
    this.#config = config;
    this.#report = report;
  }

  /** The files that a finished run has. */
  get files(): string[] {
    const { config, metrics, events, report, best, last } = this.directory;
    return [config, metrics, events, report, best, last];
  }

  async begin(): Promise<void> {
    await this.directory.begin(this.#config);
    await this.event({ type: 'start', step: 0 });
  }

  async resume(step: number): Promise<void> {
    await this.directory.truncateAfter(step);
    await this.event({ type: 'resume', step });
  }

  async step(report: StepReport): Promise<void> {
    if (report.step % sampledSteps(report.batches) === 0) {
      const { step, epoch, loss, learningRate, imagesPerSecond } = report;
      await this.event({ type: 'step', step, epoch, loss, learningRate, imagesPerSecond: Math.round(imagesPerSecond) });
    }
  }

  async epoch(row: EpochRow): Promise<void> {
    await this.directory.appendEpoch(row);
    await this.event({ type: 'epoch', ...row });
  }

  /** The binary layers after an epoch. */
  async binary(step: number, epoch: number, layers: readonly BinaryLayerRow[]): Promise<void> {
    await this.event({ type: 'binary', step, epoch, layers });
  }

  async event(event: RunEvent): Promise<void> {
    await this.directory.appendEvent(event);
  }

  /** Writes `report.html` from the logs and the last validation. */
  async writeReport(
    history: readonly EpochRow[],
    findings: Findings | undefined,
    status: string,
    complete: boolean,
  ): Promise<void> {
    const { title, classNames, layers, image } = this.#report;
    const events = await this.directory.readEvents();
    const html = renderReport({
      title: title ?? basename(this.directory.path),
      status,
      complete,
      epochs: history,
      steps: events.filter(({ type }) => type === 'step').map(toStepPoint),
      configuration: this.#config,
      binary: events.filter(({ type }) => type === 'binary').map(toBinaryEpoch),
      ...(layers === undefined ? {} : { layers }),
      ...(classNames === undefined ? {} : { classNames }),
      ...(findings === undefined
        ? {}
        : {
            confusion: findings.confusion,
            mistakes: findings.mistakes.map((mistake) => {
              const picture = image?.(mistake.index);
              return picture === undefined ? mistake : { ...mistake, image: picture };
            }),
          }),
      footer: `Evenkeel · Node.js ${process.versions.node} · ${cpus()[0]?.model ?? process.arch} · ${new Date().toISOString().slice(0, 10)}`,
    });
    await this.directory.writeReport(html);
  }
}

function toBinaryEpoch({ epoch, layers }: RunEvent): BinaryEpoch {
  return { epoch: Number(epoch), layers: layers as readonly BinaryLayerRow[] };
}

function toStepPoint({ step, loss, learningRate }: RunEvent): StepPoint {
  return { step, loss: Number(loss), learningRate: Number(learningRate) };
}
