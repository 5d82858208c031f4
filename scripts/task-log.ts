#!/usr/bin/env node
import { Report } from '../src/report.ts';
import type { TaskLog } from '../src/task-log.ts';
import type { TaskLogEntry } from '../src/task-log-broker.ts';
import { categorizeStatus } from '../src/task-status.ts';
import { escaped, runIfMain, UsageError } from './command-line.ts';
import type { Command, GivenOptions } from './command-line.ts';
import { tableText } from './table.ts';

type Action = (taskLog: TaskLog, given: GivenOptions) => Promise<void>;

const ACTIONS: Readonly<Record<string, Action>> = {
  stats: showStats,
  available: showAvailable,
  'get-task': showTask,
  archive: archiveTask,
  cancel: cancelTask,
};

export const taskLog: Command = {
  name: 'task-log',
  describe: 'Shows the tasks of all owners, archives and cancels them.',
  options: {
    stats: { describe: 'How many tasks of each status there are' },
    available: { describe: 'Tasks that are neither archived nor cancelled, newest first' },
    limit: { describe: 'With --available: at most so many; default 20', value: 'N' },
    offset: { describe: 'With --available: leave out the first; default 0', value: 'N' },
    'get-task': { describe: 'One task, with its report', value: 'ID' },
    archive: { describe: 'Archive a task that has ended or still waits', value: 'ID' },
    cancel: { describe: 'Cancel a task; a running one is asked to end', value: 'ID' },
    force: { describe: 'With --archive and --cancel: whatever the status of the task' },
  },
  examples: [
    ['--stats', '1. Stats: tasks of each status'],
    ['--available --limit=20 --offset=10', '2. List: tasks that are neither archived nor cancelled'],
    ['--get-task=ID', '3. Get: one task'],
    ['--archive=ID --force', '4. Archive: take a task out of the lists; --force is optional'],
    ['--cancel=ID --force', '5. Cancel: a waiting task never runs; --force is optional'],
  ],
  run,
};

async function run(given: GivenOptions): Promise<number> {
  const action = readAction(given);
  if (action === undefined) {
    await given.showHelp();
    return 0;
  }
  const [{ loadConfig }, { wireSignalbox }, { createLogger }] = await Promise.all([
    import('./load-config.ts'),
    import('../src/signalbox.ts'),
    import('./logger.ts'),
  ]);
  const { config } = await loadConfig(given.text('config'));
  const logger = await createLogger(given.logLevel ?? config.log.level ?? 'warn');
  const signalbox = await wireSignalbox(config, { logger });
  try {
    await action(signalbox.taskLog, given);
    return 0;
  } finally {
    await signalbox.close();
  }
}

/** Undefined when none was given. */
function readAction(given: GivenOptions): Action | undefined {
  const [name, other] = Object.keys(ACTIONS).filter((action) => given.has(action));
  if (other !== undefined) throw new UsageError(`--${name} and --${other} cannot be given together.`);
  for (const option of ['limit', 'offset']) {
    if (given.has(option) && name !== 'available') throw new UsageError(`--${option} needs --available.`);
  }
  if (given.has('force') && name !== 'archive' && name !== 'cancel') {
    throw new UsageError('--force needs --archive or --cancel.');
  }
  given.wholeNumber('limit', 1);
  given.wholeNumber('offset', 0);
  return name === undefined ? undefined : ACTIONS[name];
}

async function showStats(log: TaskLog, given: GivenOptions): Promise<void> {
  const { enqueued, dequeued, running, child_running, completed, failed, cancelled, archived } =
    await log.stats();
  const counts = {
    numberOfTasksQueued: enqueued,
    numberOfTasksInProgress: dequeued + running + child_running,
    numberOfTasksCompleted: completed,
    numberOfTasksFailed: failed,
    numberOfTasksCancelled: cancelled,
    numberOfTasksArchived: archived,
  };
  const rows = [
    ['queued', counts.numberOfTasksQueued],
    ['in progress', counts.numberOfTasksInProgress],
    ['completed', completed],
    ['failed', failed],
    ['cancelled', cancelled],
    ['archived', archived],
  ].map((row) => row.map(String));
  await given.print(await tableText(['status', 'tasks'], rows), counts);
}

async function showAvailable(log: TaskLog, given: GivenOptions): Promise<void> {
  const entries = await log.findAvailable({
    limit: given.wholeNumber('limit', 1) ?? 20,
    offset: given.wholeNumber('offset', 0) ?? 0,
  });
  const tasks = entries.map(describeTask);
  const columns = ['id', 'taskName', 'taskLabel', 'status', 'queue', 'attempts', 'createdAt'] as const;
  const rows = tasks.map((task) => columns.map((column) => oneLine(String(task[column]))));
  const text = tasks.length === 0 ? 'There are no tasks.' : await tableText(columns, rows);
  await given.print(text, tasks);
}

async function showTask(log: TaskLog, given: GivenOptions): Promise<void> {
  const task = describeTask(await log.getById(given.text('get-task') ?? ''));
  const { report, ...fields } = task;
  const lines = Object.entries(fields).map(
    ([name, value]) => `${name.padEnd(10)}  ${value === null ? '-' : oneLine(String(value))}`,
  );
  lines.push(`report      ${report === null ? '-' : oneLine(`${report.type}: ${report.message}`)}`);
  if (report !== null && (report.data !== null || report.children.length > 0)) {
    lines.push(escaped(JSON.stringify(report, null, 2)));
  }
  await given.print(lines.join('\n'), task);
}

async function archiveTask(log: TaskLog, given: GivenOptions): Promise<void> {
  await log.archive(given.text('archive') ?? '', { force: given.flag('force') });
  await given.print('Archived: 1', { archived: 1 });
}

async function cancelTask(log: TaskLog, given: GivenOptions): Promise<void> {
  const id = given.text('cancel') ?? '';
  const status = await log.cancel(id, { force: given.flag('force') });
  if (status === 'cancelled') await given.print('Cancelled: 1', { cancelled: 1, requested: 0 });
  else
    await given.print(`Cancellation requested: task ${id} is ${status}, and was asked to end.`, {
      cancelled: 0,
      requested: 1,
    });
}

interface TaskDescription {
  readonly id: string;
  readonly taskName: string;
  readonly taskLabel: string;
  readonly status: string;
  readonly queue: string;
  readonly attempts: number;
  readonly worker: string | null;
  readonly createdAt: string | null;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly report: Report | null;
}

function describeTask(entry: TaskLogEntry): TaskDescription {
  return {
    id: entry.id,
    taskName: entry.taskName,
    taskLabel: entry.label,
    status: categorizeStatus(entry.status),
    queue: entry.queue,
    attempts: entry.attempts,
    worker: entry.worker,
    createdAt: instant(entry.createdAt),
    startedAt: instant(entry.startedAt),
    finishedAt: instant(entry.finishedAt),
    report: entry.report === null ? null : Report.fromJSON(entry.report),
  };
}

function instant(milliseconds: number | null): string | null {
  return milliseconds === null ? null : new Date(milliseconds).toISOString();
}

/** What a task or a user wrote must not move the cursor of a terminal. */
function oneLine(text: string): string {
  return text.replace(/\p{C}+/gu, ' ');
}

await runIfMain(taskLog, import.meta.url);
