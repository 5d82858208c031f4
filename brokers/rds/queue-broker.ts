import { BrokerError } from '../../src/errors.ts';
import type { Ledger } from '../../src/ledger.ts';
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
import type { TaskLogBroker } from '../../src/task-log-broker.ts';
import { RdsLedger } from './ledger.ts';
import { deliveryOf, MessageTable } from './message-table.ts';
import type { Persistence } from './persistence.ts';
import { migrateQueue } from './schema.ts';
import { RdsTaskLogBroker } from './task-log-broker.ts';

export interface RdsQueueBrokerOptions {
  /** A cap on one receive; absent: the worker adapts. */
  readonly receiveLimit?: number;
}

const MAX_BATCH = 500;

/** Queues in a database: one table for all of them. Closing it leaves the persistence open for others. */
export class RdsQueueBroker implements QueueBroker {
  readonly id: string;
  readonly capabilities: BrokerCapabilities;
  readonly store: Persistence;
  readonly receiveLimit?: number;
  readonly #messages: MessageTable;
  #closed = false;

  constructor(persistence: Persistence, options: RdsQueueBrokerOptions = {}) {
    this.store = persistence;
    this.id = `rds:${persistence.id}`;
    if (options.receiveLimit !== undefined) this.receiveLimit = options.receiveLimit;
    this.#messages = new MessageTable(persistence.dialect);
    this.capabilities = {
      sync: false,
      shared: persistence.shared,
      maxBatch: MAX_BATCH,
      maxBodyBytes: 16 * 1024 * 1024,
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

  /** A queue needs nothing of its own: the tables serve all of them. */
  async initialize(_queues: readonly string[]): Promise<void> {
    this.assertOpen('initialize');
    await migrateQueue(this.store);
  }

  async push(queue: string, messages: readonly OutgoingMessage[], tx?: Transaction): Promise<void> {
    this.assertOpen('push');
    if (messages.length === 0) return;
    await this.store.write(tx, (session) => this.#messages.push(session, queue, messages));
  }

  async receive(queue: string, options: ReceiveOptions): Promise<Delivery[]> {
    this.assertOpen('receive');
    const max = Math.min(options.max, MAX_BATCH);
    const { ready, due } = await this.store.read((session) => this.#messages.look(session, queue));
    if (max <= 0 || !(ready || due)) return [];
    return this.store.write(undefined, async (session) => {
      if (due) await this.#messages.wake(session, queue);
      const messages = await this.#messages.take(session, queue, max);
      const mark = await this.#messages.lend(session, messages, options.leaseMs);
      return messages.map((message) => deliveryOf(message, mark, options.leaseMs));
    });
  }

  async acknowledge(queue: string, receipts: readonly Receipt[], tx?: Transaction): Promise<Receipt[]> {
    this.assertOpen('acknowledge');
    if (receipts.length === 0) return [];
    return this.store.write(tx, async (session) => {
      const held = await this.#messages.held(session, queue, receipts);
      await this.#messages.remove(session, [...held.values()]);
      return [...held.keys()];
    });
  }

  async release(queue: string, releases: readonly Release[], tx?: Transaction): Promise<Receipt[]> {
    this.assertOpen('release');
    if (releases.length === 0) return [];
    const delays = new Map(releases.map(({ receipt, delayMs }) => [receipt, delayMs]));
    return this.store.write(tx, async (session) => {
      const held = await this.#messages.held(session, queue, [...delays.keys()]);
      const back = [...held].map(([receipt, seq]) => ({ seq, delayMs: delays.get(receipt) ?? 0 }));
      await this.#messages.putBack(session, back);
      return [...held.keys()];
    });
  }

  async extend(queue: string, receipts: readonly Receipt[], leaseMs: number): Promise<Receipt[]> {
    this.assertOpen('extend');
    if (receipts.length === 0) return [];
    return this.store.write(undefined, async (session) => {
      const held = await this.#messages.held(session, queue, receipts);
      await this.#messages.extend(session, [...held.values()], leaseMs);
      return [...held.keys()];
    });
  }

  async count(queue: string): Promise<QueueCount> {
    this.assertOpen('count');
    return this.store.read((session) => this.#messages.count(session, queue));
  }

  async ready(
    queues: readonly string[],
  ): Promise<readonly { readonly queue: string; readonly inMs: number }[]> {
    this.assertOpen('ready');
    return this.store.read((session) => this.#messages.nextOf(session, queues));
  }

  ledger(log: TaskLogBroker): Ledger | undefined {
    if (!(log instanceof RdsTaskLogBroker) || log.store !== this.store) return undefined;
    return new RdsLedger(this.store, {
      table: log.table,
      maxBatch: MAX_BATCH,
      assertOpen: (operation) => {
        this.assertOpen(operation);
        log.assertOpen(operation);
      },
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  /** @throws BrokerError `BROKER_CLOSED` once it is closed. */
  assertOpen(operation: string): void {
    if (!this.#closed) return;
    throw new BrokerError('BROKER_CLOSED', `Queue broker "${this.id}" is closed; ${operation} was refused.`, {
      place: { broker: this.id, operation },
    });
  }
}
