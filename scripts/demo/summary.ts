import Table from 'cli-table3';
import { Report } from '../../src/index.ts';
import type { TaskLogEntry } from '../../src/index.ts';
import type { CatalogueEntry } from './catalogue-file.ts';
import type { ListedFile } from './listing.ts';
import { WEIGHTS } from './state.ts';
import type { DemoRun } from './state.ts';
import { count, duration, printable, shortened, size } from './text.ts';

interface Catalogued extends CatalogueEntry {
  readonly path: string;
  readonly task: TaskLogEntry;
}

interface Failure {
  readonly path: string;
  readonly reason: string;
}

const ROWS = 10;
const PATH_WIDTH = 64;
/** A longer time in which nothing ran was a pause of the demo, not work. */
const PAUSE_MS = 1_000;

export interface Summary {
  readonly text: string;
  /** Files that were catalogued, and files of which it is known why not. */
  readonly accountedFor: number;
  /** Of the slowest file, if any was catalogued. */
  readonly slowestTaskId: string | undefined;
}

/** What the task log says about a catalogue. */
export function summarize(run: DemoRun, entries: ReadonlyMap<number, TaskLogEntry>): Summary {
  const catalogued: Catalogued[] = [];
  const failures: Failure[] = [];
  for (const [index, task] of entries) {
    const file = run.listing.files[index];
    if (file === undefined || task.finishedAt === null) continue;
    const outcome = outcomeOf(file, task);
    if ('reason' in outcome) failures.push(outcome);
    else catalogued.push(outcome);
  }
  const slowest = catalogued.toSorted((a, b) => b.tookMs - a.tookMs);
  const parts = [
    queueTable(catalogued),
    slowestTable(slowest),
    duplicatesText(catalogued),
    failuresText([...run.listing.unread, ...failures]),
  ];
  return {
    text: [...parts, totals(catalogued)].join('\n\n'),
    accountedFor: catalogued.length + failures.length,
    slowestTaskId: slowest[0]?.task.id,
  };
}

function outcomeOf({ path }: ListedFile, task: TaskLogEntry): Catalogued | Failure {
  const report = task.report === null ? null : Report.fromJSON(task.report);
  if (report?.type === 'success' && report.data !== null) {
    return { ...(report.data as CatalogueEntry), path, task };
  }
  return { path, reason: report?.message ?? `The task was ${task.status}` };
}

function queueTable(catalogued: readonly Catalogued[]): string {
  const table = plainTable(['queue', 'weight', 'files', 'bytes', 'files/s', 'mean', 'slowest'], 1);
  for (const [queue, weight] of Object.entries(WEIGHTS)) {
    const files = catalogued.filter(({ task }) => task.queue === queue);
    const times = files.map(({ tookMs }) => tookMs);
    const some = files.length > 0;
    table.push([
      queue,
      String(weight),
      count(files.length),
      size(sum(files.map(({ bytes }) => bytes))),
      some ? perSecond(files.length, busyMs(files)) : '-',
      some ? duration(sum(times) / files.length) : '-',
      some ? duration(Math.max(...times)) : '-',
    ]);
  }
  return table.toString();
}

function slowestTable(slowest: readonly Catalogued[]): string {
  if (slowest.length === 0) return 'No file was catalogued.';
  const table = plainTable(['slowest', 'time', 'size', 'lines', 'words', 'gzip'], 1);
  for (const { path, tookMs, bytes, lines, words, gzipBytes } of slowest.slice(0, ROWS)) {
    table.push([shown(path), duration(tookMs), size(bytes), count(lines), count(words), size(gzipBytes)]);
  }
  return table.toString();
}

interface DuplicateGroup {
  readonly paths: readonly string[];
  readonly wastedBytes: number;
}

function duplicatesText(catalogued: readonly Catalogued[]): string {
  const groups = duplicateGroups(catalogued);
  if (groups.length === 0) return 'Duplicates: none.';
  const copies = sum(groups.map(({ paths }) => paths.length - 1));
  const wasted = sum(groups.map(({ wastedBytes }) => wastedBytes));
  const table = plainTable(['duplicate', 'copies', 'wasted'], 1);
  for (const { paths, wastedBytes } of groups.slice(0, ROWS)) {
    table.push([shown(paths[0] ?? ''), count(paths.length), size(wastedBytes)]);
  }
  const more = others(groups.length, 'group');
  return `Duplicates: ${count(groups.length, 'group')}, ${count(copies)} more than needed, ${size(wasted)} wasted.\n${table.toString()}${more}`;
}

/** Files with the same SHA-256, the most wasteful first. Empty files are alike, but waste nothing. */
function duplicateGroups(catalogued: readonly Catalogued[]): DuplicateGroup[] {
  const byHash = new Map<string, Catalogued[]>();
  for (const file of catalogued) {
    if (file.bytes > 0) byHash.set(file.sha256, [...(byHash.get(file.sha256) ?? []), file]);
  }
  return [...byHash.values()]
    .filter((group) => group.length > 1)
    .map((group) => ({
      paths: group.map(({ path }) => path).sort(),
      wastedBytes: sum(group.slice(1).map(({ bytes }) => bytes)),
    }))
    .sort((a, b) => b.wastedBytes - a.wastedBytes);
}

function failuresText(failures: readonly Failure[]): string {
  if (failures.length === 0) return 'Failures: none.';
  const table = plainTable(['failed', 'reason'], 2);
  for (const { path, reason } of failures.slice(0, ROWS)) table.push([shown(path), printable(reason)]);
  return `Failures: ${count(failures.length)}.\n${table.toString()}${others(failures.length, 'failure')}`;
}

function totals(catalogued: readonly Catalogued[]): string {
  const bytes = sum(catalogued.map((file) => file.bytes));
  const gzipBytes = sum(catalogued.map((file) => file.gzipBytes));
  const lines = sum(catalogued.map((file) => file.lines));
  const words = sum(catalogued.map((file) => file.words));
  const ms = busyMs(catalogued);
  const saved = bytes === 0 ? 0 : Math.round(100 * (1 - gzipBytes / bytes));
  // Small files grow by the header.
  const savedText = saved > 0 ? `${saved} %` : 'nothing';
  return [
    `Total: ${count(catalogued.length, 'file')}, ${size(bytes)} in ${duration(ms)}: ${perSecond(catalogued.length, ms)} files/s, ${size(bytes / (ms / 1_000))}/s.`,
    `${count(lines, 'line')}, ${count(words, 'word')}; gzip saves ${savedText}.`,
  ].join('\n');
}

/** From the first start to the last end, without the pauses of an interrupted run; at least 1. */
function busyMs(files: readonly Catalogued[]): number {
  const spans = files
    .map(({ task }) => ({ from: task.startedAt ?? task.createdAt, to: task.finishedAt ?? task.updatedAt }))
    .sort((a, b) => a.from - b.from);
  let busy = 0;
  let until = spans[0]?.from ?? 0;
  for (const { from, to } of spans) {
    const start = from - until > PAUSE_MS ? from : until;
    busy += Math.max(0, to - start);
    until = Math.max(until, to);
  }
  return Math.max(1, busy);
}

/** Without colours, which would be in the way in a file. @param texts How many columns, from the left, are no numbers. */
function plainTable(head: readonly string[], texts: number): Table.Table {
  return new Table({
    head: [...head],
    colAligns: head.map((_, i) => (i < texts ? 'left' : 'right')),
    style: { head: [], border: [], compact: true },
  });
}

function others(groups: number, noun: string): string {
  return groups <= ROWS ? '' : `\n… and ${count(groups - ROWS, `more ${noun}`)}`;
}

function shown(path: string): string {
  return shortened(printable(path), PATH_WIDTH);
}

function perSecond(n: number, ms: number): string {
  return count(Math.round(n / (ms / 1_000)));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0);
}
