import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { createSignalbox, TaskLog, TaskLogEntry } from '../../src/index.ts';
import { CatalogueFile } from './catalogue-file.ts';
import type { DemoRun } from './state.ts';
import { printable } from './text.ts';
import { WorkerProcess } from './worker-process.ts';

export type DemoSignalbox = Awaited<ReturnType<typeof createSignalbox>>;

export interface Watcher {
  /** @param done Files of an earlier, interrupted run. */
  begin(done: number): void;
  progress(done: number): void;
  killed(signal: string): void;
}

/** Tasks that wait for the worker at most; the others are enqueued while it works. */
const AHEAD = 400;
const LOOK_EVERY_MS = 100;
const PAGE = 500;
const MAX_LABEL_LENGTH = 200;

/** Enqueues what is not enqueued yet and has a worker at it, until every file is done or `stop` is aborted. Resolves with the number done. */
export async function catalogueFiles(
  run: DemoRun,
  { dispatcher, taskLog }: DemoSignalbox,
  stop: AbortSignal,
  watcher: Watcher,
): Promise<number> {
  const total = run.listing.files.length;
  const missing = await filesWithoutTask(run, taskLog);
  let done = await countDone(taskLog);
  watcher.begin(done);
  if (done >= total) return done;
  const worker = new WorkerProcess((signal) => watcher.killed(signal));
  try {
    while (done < total && !stop.aborted) {
      worker.ensureRunning();
      const { enqueued } = await taskLog.stats();
      const next = missing.splice(0, Math.max(0, AHEAD - enqueued));
      await Promise.all(next.map((index) => dispatcher.enqueue(...taskOf(run, index))));
      await sleep(LOOK_EVERY_MS, undefined, { signal: stop }).catch(() => undefined);
      done = await countDone(taskLog);
      watcher.progress(done);
    }
  } finally {
    await worker.stop();
  }
  return countDone(taskLog);
}

/** The rows of all files that have one, by the index of the file. */
export async function entriesByFile(taskLog: TaskLog): Promise<ReadonlyMap<number, TaskLogEntry>> {
  const found = new Map<number, TaskLogEntry>();
  for (let after: string | undefined; ;) {
    const page = await taskLog.search(
      { taskNames: [CatalogueFile.taskName] },
      { limit: PAGE, ...(after === undefined ? {} : { after }) },
    );
    for (const entry of page.entries) found.set(Number.parseInt(entry.label, 10) - 1, entry);
    after = page.next;
    if (after === undefined) return found;
  }
}

async function countDone(taskLog: TaskLog): Promise<number> {
  const { completed, failed, cancelled, archived } = await taskLog.stats();
  return completed + failed + cancelled + archived;
}

async function filesWithoutTask({ listing }: DemoRun, taskLog: TaskLog): Promise<number[]> {
  const known = await entriesByFile(taskLog);
  return listing.files.map((_, i) => i).filter((i) => !known.has(i));
}

/** The label begins with the number of the file: that is how its row is found again. */
function taskOf({ folder, listing }: DemoRun, index: number): [CatalogueFile, string] {
  const { path = '', bytes = 0 } = listing.files[index] ?? {};
  const label = `${index + 1}/${listing.files.length} ${printable(path).slice(-MAX_LABEL_LENGTH)}`;
  return [new CatalogueFile({ path: join(folder, path), bytes }), label];
}
