import { systemClock } from './environment.ts';
import type { Clock } from './environment.ts';
import { InvalidArgumentError, TaskError } from './errors.ts';
import { EventBus } from './events.ts';
import { Report } from './report.ts';
import type {
  TaskAct,
  TaskLine,
  TaskLogBroker,
  TaskLogEntry,
  TaskLogPage,
  TaskLogQuery,
  Page,
} from './task-log-broker.ts';
import { isFinished, isTaskStatus } from './task-status.ts';
import type { TaskStatus } from './task-status.ts';

export interface TaskLogOptions {
  readonly broker: TaskLogBroker;
  readonly events?: EventBus;
  readonly clock?: Clock;
}

export interface WaitOptions {
  /** Milliseconds; absent: for ever. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** How many tasks of each status there are; a status without tasks is 0. */
export type TaskCounts = Readonly<Record<TaskStatus, number>>;

const DEFAULT_LIMIT = 20;
/** A look at a task that is waited for: soon at first, then once a second. */
const FIRST_LOOK_MS = 20;
const SLOWEST_LOOK_MS = 1_000;

/** What happened to every task: one row each, from enqueue to archive. Everything rejects with a BrokerError when the storage fails. */
export class TaskLog {
  readonly broker: TaskLogBroker;
  readonly events: EventBus;
  readonly #clock: Clock;

  constructor({ broker, events = new EventBus(), clock = systemClock }: TaskLogOptions) {
    if (typeof broker?.search !== 'function') {
      throw new InvalidArgumentError(
        'INVALID_ARGUMENT',
        'A task log needs a broker: `new TaskLog({ broker })`.',
      );
    }
    this.broker = broker;
    this.events = events;
    this.#clock = clock;
  }

  /** Creates the tables. Repeatable. */
  createContainer(): Promise<void> {
    return this.broker.createContainer();
  }

  /** `unknown` when there is no such task. */
  async getStatus(id: string): Promise<TaskStatus | 'unknown'> {
    const entry = await this.find(id);
    return entry !== null && isTaskStatus(entry.status) ? entry.status : 'unknown';
  }

  /** Null while there is none, and for a task that does not exist. */
  async getReport(id: string): Promise<Report | null> {
    const entry = await this.find(id);
    return entry === null || entry.report === null ? null : Report.fromJSON(entry.report);
  }

  async find(id: string): Promise<TaskLogEntry | null> {
    const { entries } = await this.broker.search({ ids: [id] }, { limit: 1 });
    return entries[0] ?? null;
  }

  /** @throws TaskError `TASK_NOT_FOUND` */
  async getById(id: string): Promise<TaskLogEntry> {
    const entry = await this.find(id);
    if (entry === null)
      throw new TaskError('TASK_NOT_FOUND', `There is no task ${id}.`, { place: { task: id } });
    return entry;
  }

  /**
   * Newest first; 20 rows unless the page says otherwise.
   * @throws InvalidArgumentError `INVALID_ARGUMENT` when `limit` or `offset` is no whole number of at least 0.
   */
  async search(query: TaskLogQuery = {}, page: Partial<Page> = {}): Promise<TaskLogPage> {
    return this.broker.search(query, checkPage({ limit: DEFAULT_LIMIT, ...page }));
  }

  /** All that is neither archived nor cancelled; pages as for `search`. */
  async findAvailable(page: Partial<Page> = {}): Promise<readonly TaskLogEntry[]> {
    const { entries } = await this.search({ notStatuses: ['archived', 'cancelled'] }, page);
    return entries;
  }

  async stats(query: TaskLogQuery = {}): Promise<TaskCounts> {
    const none: TaskCounts = {
      enqueued: 0,
      dequeued: 0,
      running: 0,
      child_running: 0,
      completed: 0,
      failed: 0,
      cancelled: 0,
      archived: 0,
    };
    return { ...none, ...(await this.broker.stats(query)) };
  }

  /** Lines that the task wrote, and its runs that did not end it; oldest first, 1,000 unless the page, as for `search`, says otherwise. */
  async lines(id: string, page: Partial<Page> = {}): Promise<readonly TaskLine[]> {
    return this.broker.lines(id, checkPage({ limit: 1_000, order: 'oldest', ...page }));
  }

  /**
   * A waiting task never runs; a running one is asked to end (`running` is answered). `force` ends anything at once:
   * what a run that goes on would write is refused.
   * @throws TaskError `TASK_NOT_FOUND`, `CHANGE_REFUSED`
   */
  async cancel(id: string, options: { readonly force?: boolean } = {}): Promise<TaskStatus> {
    const status = await this.#change('cancel', id, options.force ?? false);
    if (status === 'cancelled') {
      const { taskName, queue, label } = await this.getById(id);
      this.events.emit('task:cancelled', { taskId: id, taskName, queue, label });
    }
    return status;
  }

  /**
   * Takes a finished or a waiting task out of the lists; a waiting one never runs.
   * @throws TaskError `TASK_NOT_FOUND`, `CHANGE_REFUSED`
   */
  async archive(id: string, options: { readonly force?: boolean } = {}): Promise<TaskStatus> {
    const force = options.force ?? false;
    const status = await this.#change('archive', id, force);
    this.events.emit('task:archived', { taskId: id, forced: force });
    return status;
  }

  /**
   * Resolves when the task is finished. An end in this process is seen at once, others by looking.
   * @throws TaskError `TASK_NOT_FOUND`, `RESULT_TIMEOUT`
   */
  async waitFor(id: string, { timeoutMs = Infinity, signal }: WaitOptions = {}): Promise<TaskLogEntry> {
    const deadline = this.#clock.monotonic() + timeoutMs;
    for (let lookMs = FIRST_LOOK_MS; ; lookMs = Math.min(lookMs * 2, SLOWEST_LOOK_MS)) {
      const entry = await this.getById(id);
      if (isFinished(entry.status)) return entry;
      const leftMs = deadline - this.#clock.monotonic();
      if (leftMs <= 0 || signal?.aborted === true) {
        throw new TaskError('RESULT_TIMEOUT', `Task ${id} is still ${entry.status}.`, {
          place: { task: id, queue: entry.queue },
        });
      }
      await this.#endOf(id, Math.min(lookMs, leftMs), signal);
    }
  }

  close(): Promise<void> {
    return this.broker.close();
  }

  async #change(act: TaskAct, id: string, force: boolean): Promise<TaskStatus> {
    const [changed] = await this.broker.change(act, [id], { force });
    if (changed !== undefined) return changed.status;
    const { status, queue } = await this.getById(id);
    throw new TaskError('CHANGE_REFUSED', `Task ${id} is ${status}, so ${act} is refused.`, {
      place: { task: id, queue },
    });
  }

  /** Resolves at the task's end in this process, at the latest after `ms`. */
  async #endOf(id: string, ms: number, signal: AbortSignal | undefined): Promise<void> {
    const ended = new AbortController();
    const end = (): void => ended.abort();
    const stops = (['task:completed', 'task:failed', 'task:cancelled'] as const).map((name) =>
      this.events.on(name, (event) => {
        if (event.taskId === id) end();
      }),
    );
    signal?.addEventListener('abort', end);
    await this.#clock.sleep(ms, ended.signal);
    signal?.removeEventListener('abort', end);
    for (const stop of stops) stop();
  }
}

function checkPage(page: Page): Page {
  for (const name of ['limit', 'offset'] as const) {
    const rows = page[name] ?? 0;
    if (Number.isSafeInteger(rows) && rows >= 0) continue;
    throw new InvalidArgumentError(
      'INVALID_ARGUMENT',
      `\`${name}\` of a page is a whole number of at least 0; got ${String(rows)}.`,
    );
  }
  return page;
}
