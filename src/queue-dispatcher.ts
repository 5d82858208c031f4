import { hostname } from 'node:os';
import type { Clock, Logger, Random } from './environment.ts';
import { silentLogger, systemClock } from './environment.ts';
import {
  BrokerError,
  ConfigurationError,
  errorMessage,
  InvalidArgumentError,
  isBrokerError,
  isSignalboxError,
} from './errors.ts';
import type { ErrorCode } from './errors.ts';
import type { EventBus } from './events.ts';
import type { TaskExecutor } from './executor.ts';
import { LeaseKeeper } from './worker/lease-keeper.ts';
import type { NewTask } from './ledger.ts';
import { checkOptions, checkRunOptions, checkText, RUN_OPTIONS } from './options.ts';
import type { RunOptions } from './options.ts';
import { BoundQueue } from './queue.ts';
import type { Queue } from './queue.ts';
import { isQueueSelector, WeightedSelector } from './queue-selector.ts';
import type { QueueSelector } from './queue-selector.ts';
import { Routing } from './routing.ts';
import { Settler } from './worker/settler.ts';
import type { Transaction } from './store.ts';
import { ENQUEUE_OPTIONS, toNewTask } from './submission.ts';
import type { EnqueueOptions } from './submission.ts';
import { SyncQueueRunner } from './sync-queue.ts';
import { CallbackTask, isTask } from './task.ts';
import type { Callable, ResultOf, Task } from './task.ts';
import { TaskHandle } from './task-handle.ts';
import type { TaskStatus } from './task-status.ts';
import type { TaskLog } from './task-log.ts';
import { TaskRegistry, validateParameters } from './task-registry.ts';
import type { Services } from './task-runner.ts';
import { workerParts } from './worker-parts.ts';
import type { WorkerParts } from './worker-parts.ts';

export interface QueueDispatcherOptions {
  readonly queues: readonly Queue[];
  readonly taskLog: TaskLog;
  /** What this process may run. Tasks that are enqueued here register themselves. */
  readonly registry?: TaskRegistry;
  /** For tasks that nothing else maps; default: the first queue. */
  readonly defaultQueue?: string;
  /** Task name to queue name. */
  readonly taskToQueueAssociations?: Readonly<Record<string, string>>;
  /** How places are dealt to queues; default by weight, at random. */
  readonly selector?: QueueSelector;
  readonly defaults?: RunOptions;
  /** For sync queues; `maxWaitMs`: a retry due later than this runs at once instead. Default 0. */
  readonly sync?: { readonly maxWaitMs?: number };
  /** What `context.get` reaches. */
  readonly services?: Services;
  readonly executor?: TaskExecutor;
  readonly logger?: Logger;
  readonly clock?: Clock;
  readonly random?: Random;
}

const SYNC_LEASE_MS = 30_000;
const LOOK_EVERY_MS = 50;
const UNFINISHED: readonly TaskStatus[] = ['enqueued', 'dequeued', 'running', 'child_running'];

/** The service that applications talk to: holds the queues, routes every task to one of them and stores it there. */
export class QueueDispatcher {
  readonly taskLog: TaskLog;
  readonly registry: TaskRegistry;
  readonly events: EventBus;
  readonly #routing: Routing;
  readonly #bound: ReadonlyMap<string, BoundQueue>;
  readonly #parts: WorkerParts;
  readonly #syncRunner: SyncQueueRunner;
  #selector: QueueSelector;
  #owner: string | null = null;

  /** @throws ConfigurationError `QUEUES_MISSING`, `QUEUE_DUPLICATE`, `QUEUE_UNKNOWN`, `SELECTOR_INVALID`, `SHARED_QUEUE_NEEDS_SHARED_LOG` */
  constructor(options: QueueDispatcherOptions) {
    const { queues, taskLog, logger = silentLogger, clock = systemClock, random = Math.random } = options;
    this.#routing = new Routing(queues, options.taskToQueueAssociations, options.defaultQueue);
    this.#selector = checkSelector(options.selector ?? new WeightedSelector());
    if (taskLog === undefined) {
      throw new ConfigurationError('CONFIG_INVALID', 'The option `taskLog` must be set to a TaskLog.');
    }
    const defaults = options.defaults ?? {};
    checkOptions(defaults, RUN_OPTIONS, '`defaults`');
    checkRunOptions(defaults, '`defaults`');
    this.taskLog = taskLog;
    this.registry = options.registry ?? new TaskRegistry();
    this.events = taskLog.events;
    const onError = (operation: string, queue: string, error: unknown): void => {
      logger.warn({ err: error, queue, operation }, 'A step failed that a later one will mend');
      this.events.emit('broker:error', { operation, queue, error });
    };
    this.#bound = new Map(
      queues.map((queue) => [queue.name, new BoundQueue(queue, taskLog.broker, { onError })]),
    );
    this.#parts = workerParts({ ...options, registry: this.registry, logger, clock, random });
    this.#syncRunner = this.#buildSyncRunner(options.sync?.maxWaitMs ?? 0);
  }

  get queues(): readonly Queue[] {
    return this.#routing.queues;
  }

  get selector(): QueueSelector {
    return this.#selector;
  }

  getQueueNames(): readonly string[] {
    return this.queues.map((queue) => queue.name);
  }

  hasQueue(name: string): boolean {
    return this.#routing.has(name);
  }

  /** @throws InvalidArgumentError `QUEUE_UNKNOWN` */
  getQueue(name: string): Queue {
    return this.#routing.get(name);
  }

  /** Workers use it from their next draw. */
  setTaskSelector(selector: QueueSelector): this {
    this.#selector = checkSelector(selector);
    return this;
  }

  /** Tasks enqueued from now on belong to this owner unless the call names another. */
  setOwner(owner: string | null): this {
    this.#owner = owner === null ? null : checkText('The owner', owner);
    return this;
  }

  /** Maps a task (its name, class, action or definition) to a queue; replaces an earlier mapping. */
  linkTaskToQueue(task: string | object, queue: string): this {
    this.#routing.associate(task, queue);
    return this;
  }

  /** Task name to queue name. */
  getLinkedTasks(): ReadonlyMap<string, string> {
    return this.#routing.associations;
  }

  /** Every queue runs its tasks inside `enqueue`. */
  isSync(): boolean {
    return this.queues.every((queue) => queue.isSync);
  }

  /** Creates what the queues need. Repeatable; loses nothing. */
  async initialize(): Promise<void> {
    for (const queue of this.queues) await queue.initialize();
  }

  /** Messages waiting in all queues, delayed ones included. */
  async count(): Promise<number> {
    const counts = await Promise.all(this.queues.map((queue) => queue.count()));
    return counts.reduce((sum, { ready, delayed }) => sum + ready + delayed, 0);
  }

  /**
   * Stores the task; on a sync queue it has also run when this resolves. The handle is truthy.
   * @param labelOrOptions A label, or options.
   * @throws InvalidArgumentError before anything is stored, when the task cannot be carried or its queue is unknown.
   * @throws BrokerError `ENQUEUE_FAILED` (nothing will run) or `ENQUEUE_UNCERTAIN` (it may).
   */
  async enqueue<T extends Task>(
    task: T,
    labelOrOptions: string | EnqueueOptions = {},
  ): Promise<TaskHandle<ResultOf<T>>> {
    if (!isTask(task)) {
      throw new InvalidArgumentError(
        'INVALID_ARGUMENT',
        'enqueue takes a task: `new MyTask(…)`, or a defined task called with its parameters.',
      );
    }
    const options = enqueueOptions(labelOrOptions);
    this.registry.add(task.definition);
    await validateParameters(task.definition, task.parameters);
    const queue = this.#routing.queueFor(task.definition, task.parameters, options.queue);
    const newTask = toNewTask(task, queue, options, this.#owner, this.#parts.clock);
    const stored = await this.#store(this.bound(queue.name), newTask, options.transaction);
    return new TaskHandle(task.id, stored, this.taskLog);
  }

  /**
   * Wraps an action or a defined task with its parameters and enqueues it. A failed push does not reject: `isEnqueued` is
   * false then, and `error` says why.
   * @throws InvalidArgumentError when the task cannot be carried or its queue is unknown.
   */
  async createTask<P, R>(
    callable: Callable<P, R>,
    parameters: P,
    labelOrOptions: string | EnqueueOptions = {},
  ): Promise<CallbackTask<P, R>> {
    const task = new CallbackTask(callable, parameters);
    task.label = enqueueOptions(labelOrOptions).label ?? '';
    try {
      await this.enqueue(task, labelOrOptions);
      task.isEnqueued = true;
    } catch (error) {
      if (isSignalboxError(error) && !isBrokerError(error)) throw error;
      task.error = error;
    }
    return task;
  }

  /** Whether all tasks of all queues ended within `timeoutMs` milliseconds. Looks; it runs nothing itself. */
  async waitForCompletion(timeoutMs: number = Infinity): Promise<boolean> {
    const { clock } = this.#parts;
    const deadline = clock.monotonic() + timeoutMs;
    for (;;) {
      const counts = await this.taskLog.stats({ queues: this.getQueueNames(), statuses: UNFINISHED });
      if (UNFINISHED.every((status) => counts[status] === 0)) return true;
      const leftMs = deadline - clock.monotonic();
      if (leftMs <= 0) return false;
      await clock.sleep(Math.min(LOOK_EVERY_MS, leftMs));
    }
  }

  /** Closes the brokers and the task log. */
  async close(): Promise<void> {
    const brokers = new Set(this.queues.map((queue) => queue.broker));
    await Promise.all([...brokers].map((broker) => broker.close()));
    await this.taskLog.close();
  }

  /** For workers: a queue with the ledger that moves its tasks. */
  bound(name: string): BoundQueue {
    return this.#bound.get(this.#routing.get(name).name) as BoundQueue;
  }

  /** For workers. */
  get parts(): WorkerParts {
    return this.#parts;
  }

  /** The name of the queue that has it: for a task that was there already, the one it went to before. */
  async #store(bound: BoundQueue, task: NewTask, foreign: unknown): Promise<string> {
    const { entry } = task;
    const tell = (): void => this.#tellEnqueued(entry);
    try {
      const tx = foreign === undefined ? undefined : await this.#join(foreign);
      if (bound.queue.isSync) {
        await this.#syncRunner.enqueue(bound, task, tx, tell);
      } else if (tx === undefined) {
        if (!(await bound.enqueue(task))) return await this.#meetAgain(bound, entry.id, tell);
        tell();
      } else {
        await bound.ledger.enqueue(bound.name, [task], tx);
        tx.afterCommit(async () => tell());
      }
    } catch (cause) {
      throw asEnqueueError(cause, { task: entry.id, taskName: entry.taskName, queue: bound.name });
    }
    return bound.name;
  }

  /** A task that is there already waits, runs or has ended, and stays as it is; unless its push was refused. */
  async #meetAgain(bound: BoundQueue, id: string, tell: () => void): Promise<string> {
    const entry = await this.taskLog.getById(id);
    if (entry.status !== 'failed' || entry.deadReason !== 'PUSH_FAILED') return entry.queue;
    if (entry.queue === bound.name) {
      await bound.ledger.change(bound.name, 'retry', [id], {});
      tell();
    }
    return entry.queue;
  }

  #tellEnqueued({ id, taskName, queue, label, delayMs }: NewTask['entry']): void {
    this.#parts.logger.debug({ task: id, taskName, queue, delayMs }, 'enqueued');
    this.events.emit('task:enqueued', { taskId: id, taskName, queue, label, delayMs });
  }

  #join(foreign: unknown): Promise<Transaction> {
    const { store } = this.taskLog.broker;
    if (store !== undefined) return store.join(foreign);
    throw new BrokerError(
      'TRANSACTION_UNSUPPORTED',
      `The task log "${this.taskLog.broker.id}" lives in no database.`,
    );
  }

  #buildSyncRunner(maxWaitMs: number): SyncQueueRunner {
    const { runner, lines, logger, clock, events } = this.#parts;
    const workerId = `sync-${hostname()}-${process.pid}`;
    return new SyncQueueRunner({
      workerId,
      runner,
      settler: new Settler({ workerId, lines, events, logger, clock }),
      keeper: new LeaseKeeper({ leaseMs: SYNC_LEASE_MS, clock, logger, events }),
      log: this.taskLog.broker,
      clock,
      leaseMs: SYNC_LEASE_MS,
      maxWaitMs,
    });
  }
}

function enqueueOptions(labelOrOptions: unknown): EnqueueOptions {
  if (typeof labelOrOptions === 'string') return { label: labelOrOptions };
  checkOptions(labelOrOptions, ENQUEUE_OPTIONS, 'enqueue');
  return labelOrOptions as EnqueueOptions;
}

function checkSelector(selector: QueueSelector): QueueSelector {
  if (!isQueueSelector(selector)) {
    throw new ConfigurationError(
      'SELECTOR_INVALID',
      'The selector must implement the selector contract: a method `deal`.',
    );
  }
  return selector;
}

/** These say already whether the task will run, or why nothing can be enqueued at all. */
const TELLING: readonly ErrorCode[] = [
  'ENQUEUE_FAILED',
  'ENQUEUE_UNCERTAIN',
  'TRANSACTION_UNSUPPORTED',
  'FOREIGN_TRANSACTION',
  'NOT_INITIALIZED',
  'BROKER_CLOSED',
];

/** Errors of wiring and use keep their code; what the storage said becomes the answer to "will it run?". */
function asEnqueueError(cause: unknown, place: { task: string; taskName: string; queue: string }): unknown {
  const refused = isBrokerError(cause) && !cause.transient;
  if (isSignalboxError(cause) && (!isBrokerError(cause) || TELLING.includes(cause.code))) return cause;
  const message = `Task "${place.taskName}" was not accepted by queue "${place.queue}": ${errorMessage(cause)}`;
  const mend = isSignalboxError(cause) ? { mend: cause.mend } : {};
  return new BrokerError(refused ? 'ENQUEUE_FAILED' : 'ENQUEUE_UNCERTAIN', message, {
    cause,
    place,
    ...mend,
  });
}
