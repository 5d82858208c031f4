import { TaskError } from '../src/errors.ts';
import type { EventBus, TaskEvent } from '../src/events.ts';
import { EXIT, shownError } from './command-line.ts';
import type { GivenOptions } from './command-line.ts';

const MOST_NAMED = 10;
const ENDS = ['task:completed', 'task:failed', 'task:cancelled', 'task:retrying'] as const;

/**
 * Until it is released: a process that ends, for instance because a handler calls `process.exit`, says so on standard
 * error, names the tasks that were running, and never ends with 0. An error that nobody catches ends the process with 1,
 * since nobody knows what else it broke.
 */
export function guardProcess(events: EventBus, given: GivenOptions): { release(): void } {
  const running = watchRunning(events);
  const isDebugging = given.logLevel === 'debug' || given.logLevel === 'trace';
  const say = (what: string, withStack: boolean, cause?: unknown): void => {
    const message = `${what} before the worker had ended; ${runningText([...running.values()])}.`;
    const error = new TaskError('WORKER_CRASHED', message, { cause });
    process.stderr.write(`${shownError(error, given.flag('json'), withStack)}\n`);
  };
  const onExit = (code: number): void => {
    say(`The process was ended with exit code ${code}`, isDebugging);
    if (code === EXIT.ok) process.exitCode = EXIT.failed;
  };
  const onUncaught = (error: unknown, origin: string): void => {
    release();
    const what = origin === 'unhandledRejection' ? 'A promise was rejected' : 'An error was thrown';
    say(`${what} and nobody caught it`, true, error);
    process.exit(EXIT.failed);
  };
  const release = (): void => {
    process.off('exit', onExit);
    process.off('uncaughtException', onUncaught);
  };
  process.on('exit', onExit);
  process.on('uncaughtException', onUncaught);
  return { release };
}

function watchRunning(events: EventBus): ReadonlyMap<string, TaskEvent> {
  const running = new Map<string, TaskEvent>();
  events.on('task:started', (task) => running.set(task.taskId, task));
  for (const name of ENDS) events.on(name, ({ taskId }) => running.delete(taskId));
  return running;
}

function runningText(tasks: readonly TaskEvent[]): string {
  if (tasks.length === 0) return 'no task was running';
  const named = tasks.slice(0, MOST_NAMED).map(({ taskId, taskName }) => `${taskName} (${taskId})`);
  if (tasks.length > MOST_NAMED) named.push(`${tasks.length - MOST_NAMED} more`);
  return `${tasks.length === 1 ? '1 task was' : `${tasks.length} tasks were`} running: ${named.join(', ')}`;
}
