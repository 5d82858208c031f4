import type { Ledger } from './ledger.ts';
import type { Store, Transaction } from './store.ts';
import type { TaskLogBroker } from './task-log-broker.ts';

declare const receiptBrand: unique symbol;

/** Proof of one delivery. A redelivery carries a new one; an old one settles nothing. */
export type Receipt = string & { readonly [receiptBrand]: true };

export interface OutgoingMessage {
  /** The task's id. Two messages may carry it: push always adds. */
  readonly id: string;
  readonly body: string;
  /** Milliseconds until it may be received; at most `capabilities.maxDelayMs`. Default 0. */
  readonly delayMs?: number;
  /** Higher first, then age. An integer from -32768 to 32767; default 0. */
  readonly priority?: number;
  readonly group?: string;
  /** Same value when one push is repeated, another for a new push of the same task. */
  readonly generation: number;
}

export interface Delivery {
  readonly id: string;
  readonly body: string;
  readonly receipt: Receipt;
  readonly group?: string;
  /** What is left of the lease in milliseconds, counted from before the call. */
  readonly leaseLeftMs: number;
}

export interface ReceiveOptions {
  /** At most this many; a driver gives no more than `capabilities.maxBatch` a call. */
  readonly max: number;
  readonly leaseMs: number;
  /** How long an empty queue may hold the call open; at most `capabilities.maxWaitMs`. */
  readonly waitMs: number;
  /** Ends a wait: the call resolves with what it has. */
  readonly signal: AbortSignal;
}

/** Facts that the conformance suite checks, not switches. */
export interface BrokerCapabilities {
  /** Only the pushing process can consume: tasks run inside `enqueue`. */
  readonly sync: boolean;
  /** Other processes push to and receive from the same queues. */
  readonly shared: boolean;
  readonly maxBatch: number;
  readonly maxBodyBytes: number;
  readonly maxDelayMs: number;
  readonly maxLeaseMs: number;
  readonly maxWaitMs: number;
  /** The broker forgets a message after this long; Infinity when it never does. */
  readonly retentionMs: number;
  /** `strict`: a stale receipt is always refused. `best-effort`: it may be accepted for a while. */
  readonly fencing: 'strict' | 'best-effort';
  /** One consumer receives messages of equal priority in the order of their push. */
  readonly ordered: boolean;
  readonly priorities: boolean;
  readonly groups: boolean;
}

export interface QueueCount {
  readonly ready: number;
  readonly delayed: number;
  readonly leased: number;
  readonly exact: boolean;
}

/** One message put back: it may be received again after `delayMs`. */
export interface Release {
  readonly receipt: Receipt;
  readonly delayMs: number;
}

/**
 * Carries text at least once. Knows nothing of tasks, retries or reports.
 *
 * Every method rejects with a BrokerError when the storage fails: an outage is never an empty queue.
 * Methods that take receipts answer those that were still valid; the others changed nothing.
 */
export interface QueueBroker {
  /** Names the storage in errors and log lines. */
  readonly id: string;
  readonly capabilities: BrokerCapabilities;
  readonly store?: Store;
  /** A user's cap on one receive. Absent: the worker adapts, up to `capabilities.maxBatch`. */
  readonly receiveLimit?: number;
  /** Creates what the queues need. Repeatable, from many processes at once; never loses a message. */
  initialize(queues: readonly string[]): Promise<void>;
  push(queue: string, messages: readonly OutgoingMessage[], tx?: Transaction): Promise<void>;
  receive(queue: string, options: ReceiveOptions): Promise<Delivery[]>;
  acknowledge(queue: string, receipts: readonly Receipt[], tx?: Transaction): Promise<Receipt[]>;
  release(queue: string, releases: readonly Release[], tx?: Transaction): Promise<Receipt[]>;
  extend(queue: string, receipts: readonly Receipt[], leaseMs: number): Promise<Receipt[]>;
  count(queue: string): Promise<QueueCount>;
  close(): Promise<void>;
  /** One question for many queues: which have work, and in how many milliseconds (0: now). Queues without work are left out. */
  ready?(queues: readonly string[]): Promise<readonly { readonly queue: string; readonly inMs: number }[]>;
  /** Calls `onWake` when a queue may have got work. A hint: polling stays the truth. Resolves to the function that ends it. */
  watch?(queues: readonly string[], onWake: (queue: string) => void): Promise<() => Promise<void>>;
  /** A broker that shares its store with the log may move both in fewer statements. Undefined: compose. */
  ledger?(log: TaskLogBroker): Ledger | undefined;
}
