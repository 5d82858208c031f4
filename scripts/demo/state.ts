import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, relative, resolve, sep } from 'node:path';
import { defineConfig } from '../../src/index.ts';
import type { SignalboxConfig } from '../../src/index.ts';
import type { Listing } from './listing.ts';

/** Where everything lies that the demo writes, in the folder in which it was started. */
export const STATE_FOLDER = '.signalbox-demo';
export const CONFIG_FILE: string = join(STATE_FOLDER, 'signalbox.config.json');
export const WORKER_LOG: string = join(STATE_FOLDER, 'worker.log');
/** Holds the number of the process that works in the folder. */
export const LOCK_FILE: string = join(STATE_FOLDER, 'lock');
export const LEASE_MS = 5_000;

const RUN_FILE = join(STATE_FOLDER, 'run.json');
const TASKS_FILE = join(import.meta.dirname, 'catalogue-file.js');

export const WEIGHTS: Readonly<Record<string, number>> = { small: 60, source: 30, large: 10 };

/** One catalogue, as it was planned before its first file was enqueued. */
export interface DemoRun {
  readonly folder: string;
  readonly listing: Listing;
  /** Another name for every run: a worker that outlived a run before still has that one's file. */
  readonly database: string;
  /** Its tables were shown. */
  readonly isFinished: boolean;
}

/** Null when there is none. */
export async function readRun(): Promise<DemoRun | null> {
  try {
    return JSON.parse(await readFile(RUN_FILE, 'utf8')) as DemoRun;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new Error(`${RUN_FILE} cannot be read; begin anew with --fresh.`, { cause: error });
  }
}

/** Takes the place of what was there. */
export async function beginRun(folder: string, listing: Listing): Promise<DemoRun> {
  await clearState();
  const database = `catalogue-${Date.now().toString(36)}.sqlite`;
  const tasks = relative(resolve(STATE_FOLDER), TASKS_FILE).split(sep).join('/');
  await writeFile(CONFIG_FILE, `${JSON.stringify(demoConfig(database, tasks), null, 2)}\n`);
  const run: DemoRun = { folder, listing, database, isFinished: false };
  await writeRun(run);
  return run;
}

export async function finishRun(run: DemoRun): Promise<void> {
  await writeRun({ ...run, isFinished: true });
}

/** All but the lock. */
export async function clearState(): Promise<void> {
  for (const name of await readdir(STATE_FOLDER)) {
    const path = join(STATE_FOLDER, name);
    if (!path.startsWith(LOCK_FILE)) await rm(path, { recursive: true, force: true });
  }
}

/** The same settings as in the file, for this process. */
export function configOf({ database }: DemoRun): SignalboxConfig {
  return demoConfig(resolve(STATE_FOLDER, database), TASKS_FILE);
}

function demoConfig(filename: string, tasks: string): SignalboxConfig {
  return defineConfig({
    persistences: { default: { client: 'sqlite', connection: { filename } } },
    queues: Object.entries(WEIGHTS).map(([name, weight]) => ({
      name,
      weight,
      broker: { type: 'rds', persistence: 'default' },
    })),
    taskLog: { broker: { type: 'rds', persistence: 'default' } },
    tasks: [tasks],
    // A short lease: the files of a worker that was killed are soon another one's.
    worker: {
      concurrency: 4,
      leaseMs: LEASE_MS,
      pollIntervalMs: 200,
      shutdownMs: 2_000,
      abortGraceMs: 1_000,
    },
  });
}

/** Whole or not at all. */
async function writeRun(run: DemoRun): Promise<void> {
  const unfinished = `${RUN_FILE}.new`;
  await writeFile(unfinished, JSON.stringify(run));
  await rename(unfinished, RUN_FILE);
}
