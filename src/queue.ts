import { Batcher } from './batcher.ts';
import { composeLedger } from './composed-ledger.ts';
import type { ComposedLedgerOptions } from './composed-ledger.ts';
import { ConfigurationError, InvalidArgumentError, isEnqueueError } from './errors.ts';
import type { BrokerError } from './errors.ts';
import { checkOptions, checkRunOptions, RUN_OPTIONS } from './options.ts';
import type { RunOptions } from './options.ts';
import type { Ledger, NewTask, SettleAnswer } from './ledger.ts';
import type { QueueBroker, QueueCount } from './queue-broker.ts';
import type { HeldTask, Settlement, StartAnswer, TaskLogBroker } from './task-log-broker.ts';

const QUEUE_NAME = /^[A-Za-z0-9_-]{1,64}$/;

/** A name, a weight and the broker that carries its messages. */
export class Queue {
  readonly name: string;
  readonly broker: QueueBroker;
  /** Share of the places it gets; relative to the other queues, so 1 and 2 mean a third and two thirds. */
  readonly weight: number;
  /** For its tasks, unless a task or a call says otherwise. */
  readonly options: RunOptions;

  /**
   * @param name 1 to 64 letters, digits, hyphens and underscores.
   * @param weight A finite number of at least 0; default 1.
   * @throws InvalidArgumentError `QUEUE_NAME_INVALID`, `INVALID_ARGUMENT`
   */
  constructor(name: string, broker: QueueBroker, weight = 1, options: RunOptions = {}) {
    if (typeof name !== 'string' || !QUEUE_NAME.test(name)) {
      throw new InvalidArgumentError(
        'QUEUE_NAME_INVALID',
        `A queue needs a name; got ${JSON.stringify(name)}.`,
      );
    }
    if (!Number.isFinite(weight) || weight < 0) {
      throw new InvalidArgumentError(
        'INVALID_ARGUMENT',
        `Queue "${name}" has the weight ${weight}; it must be 0 or more.`,
        {
          place: { queue: name },
        },
      );
    }
    if (typeof broker?.push !== 'function') {
      throw new InvalidArgumentError(
        'INVALID_ARGUMENT',
        `Queue "${name}" needs a broker: \`new Queue(name, broker)\`.`,
        {
          place: { queue: name },
        },
      );
    }
    checkOptions(options, RUN_OPTIONS, `queue "${name}"`);
    checkRunOptions(options, `queue "${name}"`);
    this.name = name;
    this.broker = broker;
    this.weight = weight;
    this.options = options;
  }

  /** Its tasks run inside `enqueue`. */
  get isSync(): boolean {
    return this.broker.capabilities.sync;
  }

  initialize(): Promise<void> {
    return this.broker.initialize([this.name]);
  }

  count(): Promise<QueueCount> {
    return this.broker.count(this.name);
  }

  toString(): string {
    return this.name;
  }
}

/** What a worker writes about a task in hand; what is asked for at the same time is one commit. */
export type HandWrite =
  | { readonly kind: 'settle'; readonly settlement: Settlement }
  | { readonly kind: 'start'; readonly task: HeldTask };
type HandAnswer = SettleAnswer | StartAnswer;

/** A queue together with the task log that guards it: everything that moves its tasks, in batches. */
export class BoundQueue {
  readonly queue: Queue;
  readonly ledger: Ledger;
  /** Messages may be owed to the broker, so a relay has to look. */
  readonly needsRelay: boolean;
  readonly #enqueues: Batcher<NewTask, boolean | BrokerError>;
  readonly #writes: Batcher<HandWrite, HandAnswer>;

  constructor(queue: Queue, log: TaskLogBroker, options: ComposedLedgerOptions = {}) {
    const { broker, name } = queue;
    if (broker.capabilities.shared && !log.shared) {
      throw new ConfigurationError(
        'SHARED_QUEUE_NEEDS_SHARED_LOG',
        `Queue "${name}" is on broker "${broker.id}", but the task log "${log.id}" lives in the memory of this process.`,
        { place: { queue: name, broker: broker.id } },
      );
    }
    this.queue = queue;
    this.ledger = broker.ledger?.(log) ?? composeLedger(broker, log, options);
    this.needsRelay = !broker.capabilities.sync && (broker.store === undefined || broker.store !== log.store);
    this.#enqueues = new Batcher({
      flush: (tasks) => this.#enqueue(tasks),
      maxItems: Math.min(500, broker.capabilities.maxBatch),
      sizeOf: ({ entry }) => entry.envelope.length,
      // One flush at a time keeps the order of the calls.
      concurrency: broker.capabilities.ordered ? 1 : 2,
    });
    this.#writes = new Batcher({ flush: (writes) => this.#write(writes) });
  }

  get name(): string {
    return this.queue.name;
  }

  /** Resolves once the task is stored. Answers whether it is new. */
  async enqueue(task: NewTask): Promise<boolean> {
    const outcome = await this.#enqueues.add(task);
    if (typeof outcome === 'boolean') return outcome;
    throw outcome;
  }

  async settle(settlement: Settlement): Promise<SettleAnswer> {
    return (await this.#writes.add({ kind: 'settle', settlement })) as SettleAnswer;
  }

  async start(task: HeldTask): Promise<StartAnswer> {
    return (await this.#writes.add({ kind: 'start', task })) as StartAnswer;
  }

  /** Whether each is new, or why it was not accepted. */
  async #enqueue(tasks: readonly NewTask[]): Promise<(boolean | BrokerError)[]> {
    try {
      const added = new Set(await this.ledger.enqueue(this.name, tasks));
      return tasks.map(({ entry }) => added.has(entry.id));
    } catch (error) {
      if (!isEnqueueError(error)) throw error;
      const added = new Set(error.added);
      return tasks.map(({ entry }) => error.refusals.get(entry.id) ?? added.has(entry.id));
    }
  }

  async #write(writes: readonly HandWrite[]): Promise<HandAnswer[]> {
    const settlements = writes.flatMap((write) => (write.kind === 'settle' ? write.settlement : []));
    const starting = writes.flatMap((write) => (write.kind === 'start' ? write.task : []));
    const { settled, started } = await this.ledger.settle(this.name, settlements, starting);
    let nextSettled = 0;
    let nextStarted = 0;
    return writes.map((write) =>
      write.kind === 'settle'
        ? (settled[nextSettled++] as SettleAnswer)
        : (started[nextStarted++] as StartAnswer),
    );
  }
}
