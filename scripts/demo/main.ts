import { stat, readdir, realpath } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { constants } from 'node:os';
import { parseArgs } from 'node:util';
import { createSignalbox, isSignalboxError } from '../../src/index.ts';
import { catalogueFiles, entriesByFile } from './catalogue.ts';
import { listFolder } from './listing.ts';
import { LockedError, lockState } from './lock.ts';
import { showProgress } from './progress.ts';
import { beginRun, clearState, configOf, CONFIG_FILE, finishRun, readRun, STATE_FOLDER } from './state.ts';
import type { DemoRun } from './state.ts';
import { summarize } from './summary.ts';
import type { Summary } from './summary.ts';
import { count, printable } from './text.ts';

const HELP = `npm run demo [-- [FOLDER] [--fresh]]

Catalogues at most 2,000 files of FOLDER (default: the installed packages of this project) with three weighted queues on
SQLite and a worker in a process of its own. Ctrl-C loses nothing: run it again and it goes on.

  --fresh   forget an unfinished catalogue
  --help    this text`;

const ROOT = resolve(import.meta.dirname, '..', '..', '..');
const IS_RUN_BY_NPM = process.env['npm_lifecycle_event'] === 'demo';
/** With what a worker needs to end, this is half a minute. */
const WORK_UNTIL_MS = 24_000;
const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

/** Something that the user can mend; shown without a stack. */
class UsageError extends Error {}

process.exitCode = await run(process.argv.slice(2));

async function run(args: readonly string[]): Promise<number> {
  const interruption = new AbortController();
  const exitCode = stopOnSignals(interruption);
  try {
    const { folder, isFresh, wantsHelp } = readArguments(args);
    if (wantsHelp) return say(HELP);
    const unlock = await lockState();
    try {
      return (await catalogue(folder, isFresh, interruption.signal)) ? exitCode() : EXIT.failed;
    } finally {
      await unlock();
    }
  } catch (error) {
    return complain(error);
  }
}

/** False when the catalogue lacks files. */
async function catalogue(named: string | undefined, isFresh: boolean, stop: AbortSignal): Promise<boolean> {
  const planned = await planRun(named, isFresh, stop);
  if (stop.aborted) return true;
  if (planned.listing.files.length > 0) return work(planned, stop);
  say(`There are no files in ${printable(planned.folder)}.`);
  return true;
}

function readArguments(args: readonly string[]): { folder?: string; isFresh: boolean; wantsHelp: boolean } {
  try {
    const options = { fresh: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } as const;
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
    const [folder, other] = positionals;
    if (other !== undefined) throw new Error(`One folder at a time; "${other}" is another one`);
    const given = { isFresh: values.fresh === true, wantsHelp: values.help === true };
    return folder === undefined ? given : { ...given, folder };
  } catch (error) {
    throw new UsageError(`${printable((error as Error).message)}\n\n${HELP}`);
  }
}

/** The unfinished run, or a new one. */
async function planRun(named: string | undefined, isFresh: boolean, stop: AbortSignal): Promise<DemoRun> {
  const folder = named === undefined ? undefined : await existingFolder(named);
  if (isFresh) await clearState();
  const before = await readRun();
  if (before !== null && !before.isFinished) {
    if (folder === undefined || folder === before.folder) return before;
    throw new UsageError(
      `The catalogue of ${printable(before.folder)} is not finished. Go on with it: ${demoCommand()}\n` +
        `Or forget it and begin with the other folder: add --fresh.`,
    );
  }
  const chosen = folder ?? (await existingFolder(join(ROOT, 'node_modules')));
  say(`Listing ${printable(chosen)} …`);
  const listing = await listFolder(chosen, resolve(STATE_FOLDER), stop);
  if (listing.files.length === 0 || stop.aborted)
    return { folder: chosen, listing, database: '', isFinished: true };
  return beginRun(chosen, listing);
}

async function existingFolder(named: string): Promise<string> {
  // npm runs its scripts in the folder of package.json, wherever it was called.
  const path = resolve((IS_RUN_BY_NPM ? process.env['INIT_CWD'] : undefined) ?? '.', named);
  try {
    if (!(await stat(path)).isDirectory()) throw new UsageError(`${printable(path)} is not a folder.`);
    await readdir(path);
    return await realpath(path);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const { code = '' } = error as NodeJS.ErrnoException;
    const reason = code === 'ENOENT' ? 'there is no such folder' : `it cannot be read (${code})`;
    throw new UsageError(`${printable(path)}: ${reason}.`);
  }
}

/** False when it ended and lacks files. */
async function work(planned: DemoRun, interruption: AbortSignal): Promise<boolean> {
  const { files } = planned.listing;
  say(introduction(planned));
  const signalbox = await createSignalbox(configOf(planned));
  try {
    await signalbox.dispatcher.initialize();
    await signalbox.taskLog.createContainer();
    const progress = showProgress(files.length);
    const stop = stopAfter(WORK_UNTIL_MS, interruption);
    const done = await catalogueFiles(planned, signalbox, stop, progress).finally(() => progress.end());
    const isDone = done >= files.length;
    const summary = summarize(planned, await entriesByFile(signalbox.taskLog));
    if (!interruption.aborted || isDone) {
      say(`\n${summary.text}\n\nNext:\n${nextCommands(summary.slowestTaskId).join('\n')}`);
    }
    if (!isDone) {
      const why = interruption.aborted ? 'Stopped' : 'Half a minute is over';
      say(`\n${why}: ${count(done)} of ${count(files.length)} files are done, and nothing is lost.`);
      say(`Go on with: ${demoCommand()}`);
      return true;
    }
    await finishRun(planned);
    return isComplete(planned, summary);
  } finally {
    await signalbox.close();
  }
}

function isComplete({ listing: { files } }: DemoRun, { accountedFor }: Summary): boolean {
  if (accountedFor === files.length) return true;
  const lacking = count(files.length - accountedFor, 'file');
  process.stderr.write(
    `The catalogue is not complete: ${count(files.length)} files were announced, ${count(accountedFor)} are accounted for; ` +
      `${lacking} lacking. Begin anew with: ${demoCommand()}\n`,
  );
  return false;
}

function stopAfter(ms: number, interruption: AbortSignal): AbortSignal {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), ms).unref();
  interruption.addEventListener('abort', () => stop.abort());
  if (interruption.aborted) stop.abort();
  return stop.signal;
}

function introduction({ folder, listing }: DemoRun): string {
  const { files, total, isPartial, links, unread } = listing;
  const all = isPartial ? `more than ${count(total)}` : count(total);
  const spread = files.length < total ? ', evenly spread,' : '';
  const notes = [
    ...(links > 0 ? [`${count(links, 'symbolic link')} not followed`] : []),
    ...(unread.length > 0 ? [`${count(unread.length, 'folder')} not readable`] : []),
  ];
  return [
    `Cataloguing ${count(files.length)} of ${all} files${spread} in ${printable(folder)}`,
    ...(notes.length > 0 ? [`(${notes.join(', ')})`] : []),
    `with three queues on SQLite and a worker in a process of its own; all of it lies in ${STATE_FOLDER}/.`,
  ].join('\n');
}

/** Written so that they work where the demo was started. */
function nextCommands(taskId: string | undefined): string[] {
  const config = `--config=${CONFIG_FILE}`;
  const script = (name: string): string =>
    `node ${quoted(join(relative('.', ROOT), 'dist', 'scripts', name))}`;
  return [
    `  cat ${CONFIG_FILE}`,
    `  ${script('task-log.js')} ${config} --stats`,
    `  ${script('task-log.js')} ${config} --available --limit=5`,
    ...(taskId === undefined ? [] : [`  ${script('task-log.js')} ${config} --get-task=${taskId}`]),
    `  ${script('run-worker.js')} ${config} --stop-when-empty`,
  ];
}

function demoCommand(): string {
  if (IS_RUN_BY_NPM) return 'npm run demo';
  return `node ${quoted(join(relative('.', ROOT), 'dist', 'scripts', 'demo', 'main.js'))}`;
}

function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}

/** Answers what the process ends with: 128 and the number of the signal, as shells have it. */
function stopOnSignals(interruption: AbortController): () => number {
  let exitCode: number = EXIT.ok;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    // Stays: npm passes on what the terminal has sent already.
    process.on(signal, () => {
      exitCode = 128 + constants.signals[signal];
      interruption.abort();
    });
  }
  // Whoever read has seen enough.
  process.stdout.on('error', () => interruption.abort());
  return () => exitCode;
}

function complain(error: unknown): number {
  const mend = isSignalboxError(error) ? `\n  mend  ${error.mend}` : '';
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}${mend}\n`);
  return error instanceof UsageError || error instanceof LockedError ? EXIT.usage : EXIT.failed;
}

function say(text: string): number {
  process.stdout.write(`${text}\n`);
  return EXIT.ok;
}
