#!/usr/bin/env node
import { isTransient } from '../src/errors.ts';
import { nearestName } from '../src/config/nearest-name.ts';
import type { Queue } from '../src/queue.ts';
import type { Signalbox } from '../src/signalbox.ts';
import type { WorkerEnd } from '../src/worker/worker.ts';
import type { WorkerOptions } from '../src/worker/worker-options.ts';
import { EXIT, runIfMain, UsageError } from './command-line.ts';
import type { Command, GivenOptions } from './command-line.ts';
import { guardProcess } from './process-guard.ts';

export const runWorker: Command = {
  name: 'run-worker',
  describe:
    'Runs the tasks of the queues until it is told to stop. SIGTERM, SIGINT and SIGQUIT let running tasks end, ' +
    'a second one aborts them; SIGUSR2 pauses, SIGCONT resumes. Logs go to standard error.',
  options: {
    queue: { describe: 'Only this queue; default: all that are not sync', value: 'NAME' },
    limit: {
      describe: 'With --queue: end after N iterations, each a task processed or a look that found nothing',
      value: 'N',
    },
    concurrency: { describe: 'Tasks that run at the same time', value: 'N' },
    'stop-when-empty': { describe: 'End at the first look that finds nothing' },
    'memory-limit': { describe: 'End once the process is larger, in MiB', value: 'MB' },
    'time-limit': { describe: 'End after so many seconds', value: 'SECONDS' },
  },
  examples: [
    ['', 'work on all queues'],
    ['--queue=priority --concurrency=4', 'on one queue, four tasks at a time'],
    ['--queue=standard --limit=5', 'five tasks, then end'],
    ['--stop-when-empty', 'drain the queues, then end'],
  ],
  run,
};

async function run(given: GivenOptions): Promise<number> {
  const limits = readLimits(given);
  const [{ loadConfig }, { wireSignalbox }, { createLogger }] = await Promise.all([
    import('./load-config.ts'),
    import('../src/signalbox.ts'),
    import('./logger.ts'),
  ]);
  const { config, folder } = await loadConfig(given.text('config'));
  const logger = await createLogger(given.logLevel ?? config.log.level ?? 'info');
  const signalbox = await wireSignalbox(config, { logger });
  const guard = guardProcess(signalbox.events, given);
  try {
    const queues = chooseQueues(signalbox, given.text('queue'));
    if (queues.length === 0) return await sayNoWorkerIsNeeded(given);
    const [{ registerTaskFiles }, { bindSignals }] = await Promise.all([
      import('./task-files.ts'),
      import('../src/worker/signals.ts'),
    ]);
    await registerTaskFiles(config.tasks, folder, signalbox.registry);
    await checkInitialized(signalbox, queues);
    const worker = signalbox.createWorker({ queues: queues.map(({ name }) => name), ...limits });
    bindSignals(worker);
    const counts = countEnds(signalbox);
    const end = await worker.run();
    guard.release();
    await given.print(endText(end, counts), { ...end, ...counts });
    return end.exitCode;
  } finally {
    guard.release();
    await signalbox.close();
  }
}

type Limits = Pick<
  WorkerOptions,
  'limit' | 'concurrency' | 'stopWhenEmpty' | 'memoryLimitMb' | 'timeLimitMs'
>;

function readLimits(given: GivenOptions): Limits {
  if (given.has('limit') && !given.has('queue')) {
    throw new UsageError('--limit needs --queue: it counts the iterations on one queue.');
  }
  const limit = given.wholeNumber('limit', 1);
  const concurrency = given.wholeNumber('concurrency', 1);
  const memoryLimitMb = given.wholeNumber('memory-limit', 1);
  const timeLimit = given.wholeNumber('time-limit', 1);
  return {
    stopWhenEmpty: given.flag('stop-when-empty'),
    ...(limit === undefined ? {} : { limit }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(memoryLimitMb === undefined ? {} : { memoryLimitMb }),
    ...(timeLimit === undefined ? {} : { timeLimitMs: timeLimit * 1_000 }),
  };
}

/** Those that need a worker. */
function chooseQueues({ dispatcher }: Signalbox, name: string | undefined): readonly Queue[] {
  if (name !== undefined && !dispatcher.hasQueue(name)) {
    const names = dispatcher.getQueueNames();
    const nearest = nearestName(name, names);
    const hint = nearest === undefined ? '' : ` Did you mean "${nearest}"?`;
    throw new UsageError(
      `There is no queue "${name}"; there are ${names.join(', ')}.${hint}`,
      'QUEUE_UNKNOWN',
    );
  }
  const queues = name === undefined ? dispatcher.queues : [dispatcher.getQueue(name)];
  return queues.filter((queue) => !queue.isSync);
}

async function sayNoWorkerIsNeeded(given: GivenOptions): Promise<number> {
  const name = given.text('queue');
  const which = name === undefined ? 'All queues are' : `Queue "${name}" is`;
  await given.print(`${which} sync: tasks run inside \`enqueue\`, and no worker is needed.`, {
    processed: 0,
    reason: 'sync',
    exitCode: EXIT.ok,
  });
  return EXIT.ok;
}

/** A worker waits for a storage that is down; one that was never prepared does not mend itself. */
async function checkInitialized({ taskLog }: Signalbox, queues: readonly Queue[]): Promise<void> {
  try {
    for (const queue of queues) await queue.count();
    await taskLog.search({ ids: [] }, { limit: 1 });
  } catch (error) {
    if (!isTransient(error)) throw error;
  }
}

interface EndCounts {
  completed: number;
  failed: number;
  cancelled: number;
  retrying: number;
}

function countEnds({ events }: Signalbox): EndCounts {
  const counts: EndCounts = { completed: 0, failed: 0, cancelled: 0, retrying: 0 };
  events.on('task:completed', () => (counts.completed += 1));
  events.on('task:failed', () => (counts.failed += 1));
  events.on('task:cancelled', () => (counts.cancelled += 1));
  events.on('task:retrying', () => (counts.retrying += 1));
  return counts;
}

function endText({ processed, reason }: WorkerEnd, counts: EndCounts): string {
  const { completed, failed, cancelled, retrying } = counts;
  const parts = [`${completed} completed`, `${failed} failed`];
  if (cancelled > 0) parts.push(`${cancelled} cancelled`);
  if (retrying > 0) parts.push(`${retrying} to be tried again`);
  const tasks = processed === 1 ? '1 task' : `${processed} tasks`;
  return `Worker finished: ${tasks} (${parts.join(', ')}), reason ${reason}`;
}

await runIfMain(runWorker, import.meta.url);
