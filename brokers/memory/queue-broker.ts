import { systemClock } from '../../src/environment.ts';
import type { Clock } from '../../src/environment.ts';
import type {
  BrokerCapabilities,
  Delivery,
  OutgoingMessage,
  QueueBroker,
  QueueCount,
  Receipt,
  ReceiveOptions,
  Release,
} from '../../src/queue-broker.ts';
import type { Transaction } from '../../src/store.ts';
import { closedError, refuseTransaction } from './guard.ts';
import type { InMemoryOptions } from './guard.ts';
import { Lane } from './lane.ts';

export interface InMemoryQueueBrokerOptions extends InMemoryOptions {
  /** True (the default): tasks run inside `enqueue`. False: workers of this process drain the queues. */
  readonly sync?: boolean;
  /** A cap on one receive; absent: the worker adapts. */
  readonly receiveLimit?: number;
  /** Default 1,000. */
  readonly maxBatch?: number;
  /** Default 16 MiB. */
  readonly maxBodyBytes?: number;
}

type Watcher = (queue: string) => void;

const NAME = 'in-memory queue broker';

/** Messages in the memory of this process: they end with it. A queue exists from its first use. */
export class InMemoryQueueBroker implements QueueBroker {
  readonly id = 'memory';
  readonly capabilities: BrokerCapabilities;
  readonly receiveLimit?: number;
  readonly #clock: Clock;
  readonly #lanes = new Map<string, Lane>();
  readonly #watchers = new Map<symbol, { readonly queues: ReadonlySet<string>; readonly wake: Watcher }>();
  #receipts = 0;
  #closed = false;

  constructor(options: InMemoryQueueBrokerOptions = {}) {
    this.#clock = options.clock ?? systemClock;
    if (options.receiveLimit !== undefined) this.receiveLimit = options.receiveLimit;
    this.capabilities = {
      sync: options.sync ?? true,
      shared: false,
      maxBatch: options.maxBatch ?? 1_000,
      maxBodyBytes: options.maxBodyBytes ?? 16 * 1024 * 1024,
      maxDelayMs: Infinity,
      maxLeaseMs: Infinity,
      maxWaitMs: 0,
      retentionMs: Infinity,
      fencing: 'strict',
      ordered: true,
      priorities: true,
      groups: false,
    };
  }

  async initialize(queues: readonly string[]): Promise<void> {
    this.#guard('initialize');
    for (const queue of queues) this.#lane(queue);
  }

  async push(queue: string, messages: readonly OutgoingMessage[], tx?: Transaction): Promise<void> {
    this.#guard('push', tx);
    const lane = this.#lane(queue);
    const now = this.#clock.now();
    for (const message of messages) lane.push(message, now);
    if (messages.length > 0) this.#wake(queue);
  }

  async receive(queue: string, options: ReceiveOptions): Promise<Delivery[]> {
    this.#guard('receive');
    const max = Math.min(options.max, this.capabilities.maxBatch);
    return this.#lane(queue).take(max, options.leaseMs, this.#clock.now());
  }

  async acknowledge(queue: string, receipts: readonly Receipt[], tx?: Transaction): Promise<Receipt[]> {
    this.#guard('acknowledge', tx);
    const lane = this.#lane(queue);
    return receipts.filter((receipt) => lane.acknowledge(receipt));
  }

  async release(queue: string, releases: readonly Release[], tx?: Transaction): Promise<Receipt[]> {
    this.#guard('release', tx);
    const lane = this.#lane(queue);
    const now = this.#clock.now();
    const released = releases.filter((release) => lane.release(release, now));
    if (released.length > 0) this.#wake(queue);
    return released.map((release) => release.receipt);
  }

  async extend(queue: string, receipts: readonly Receipt[], leaseMs: number): Promise<Receipt[]> {
    this.#guard('extend');
    const lane = this.#lane(queue);
    const now = this.#clock.now();
    return receipts.filter((receipt) => lane.extend(receipt, leaseMs, now));
  }

  async count(queue: string): Promise<QueueCount> {
    this.#guard('count');
    return this.#lane(queue).count(this.#clock.now());
  }

  async ready(
    queues: readonly string[],
  ): Promise<readonly { readonly queue: string; readonly inMs: number }[]> {
    this.#guard('ready');
    const now = this.#clock.now();
    return queues.flatMap((queue) => {
      const inMs = this.#lanes.get(queue)?.nextInMs(now);
      return inMs === undefined ? [] : [{ queue, inMs }];
    });
  }

  async watch(queues: readonly string[], onWake: Watcher): Promise<() => Promise<void>> {
    this.#guard('watch');
    const key = Symbol('watcher');
    this.#watchers.set(key, { queues: new Set(queues), wake: onWake });
    return async () => {
      this.#watchers.delete(key);
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#lanes.clear();
    this.#watchers.clear();
  }

  #lane(queue: string): Lane {
    let lane = this.#lanes.get(queue);
    if (lane === undefined) {
      lane = new Lane(() => `memory-${++this.#receipts}` as Receipt);
      this.#lanes.set(queue, lane);
    }
    return lane;
  }

  /** In a later turn: what a watcher does, or throws, is no part of the push. */
  #wake(queue: string): void {
    for (const [key, watcher] of this.#watchers) {
      if (!watcher.queues.has(queue)) continue;
      queueMicrotask(() => {
        if (this.#watchers.has(key)) watcher.wake(queue);
      });
    }
  }

  #guard(operation: string, tx?: Transaction): void {
    if (this.#closed) throw closedError(NAME, operation);
    refuseTransaction(NAME, operation, tx);
  }
}
