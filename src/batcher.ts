import { BrokerError, isSignalboxError } from './errors.ts';
import type { ErrorCode } from './errors.ts';

export interface BatcherOptions<I, O> {
  /** Writes one batch; resolves with one outcome per item, in order. Must stand being repeated with the same items. */
  readonly flush: (items: readonly I[]) => Promise<readonly O[]>;
  /** Default 500. */
  readonly maxItems?: number;
  /** Default 1 MiB. A larger item goes alone. */
  readonly maxBytes?: number;
  /** Bytes of one item. Default 0: only `maxItems` counts. */
  readonly sizeOf?: (item: I) => number;
  /** Flushes under way at once. Default 2. */
  readonly concurrency?: number;
  /** Whether a failed batch is worth splitting to find the culprit. Default: yes, unless the error would hit every item alike, as an outage does. */
  readonly splits?: (error: unknown) => boolean;
}

interface Entry<I, O> {
  readonly item: I;
  readonly bytes: number;
  readonly resolve: (outcome: O) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Group commit: what is added while nothing is under way goes out at the end of the current turn, what gathers meanwhile is
 * the next batch. There is no timer, so nobody waits when it is quiet. A failed batch is repeated in halves down to
 * the culprit; only that one's promise rejects.
 */
export class Batcher<I, O> {
  readonly #flush: (items: readonly I[]) => Promise<readonly O[]>;
  readonly #maxItems: number;
  readonly #maxBytes: number;
  readonly #sizeOf: (item: I) => number;
  readonly #concurrency: number;
  readonly #splits: (error: unknown) => boolean;
  #waiting: Entry<I, O>[] = [];
  #underWay = 0;
  #scheduled = false;
  #pending = 0;
  #onDrained: (() => void)[] = [];

  constructor(options: BatcherOptions<I, O>) {
    this.#flush = options.flush;
    this.#maxItems = options.maxItems ?? 500;
    this.#maxBytes = options.maxBytes ?? 1_048_576;
    this.#sizeOf = options.sizeOf ?? ((): number => 0);
    this.#concurrency = options.concurrency ?? 2;
    this.#splits = options.splits ?? ((error): boolean => !hitsAllAlike(error));
  }

  /** Items added whose promise has not settled yet. */
  get pending(): number {
    return this.#pending;
  }

  /** Resolves with the item's own outcome; rejects with the error of the flush that failed because of it. */
  add(item: I): Promise<O> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, bytes: this.#sizeOf(item), resolve, reject });
      this.#pending += 1;
      this.#schedule();
    });
  }

  /** Resolves when nothing is pending. */
  drain(): Promise<void> {
    if (this.#pending === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onDrained.push(resolve));
  }

  /** A turn later, so that a burst, or the callers that the last flush has just answered, share one batch. */
  #schedule(): void {
    if (this.#scheduled || this.#waiting.length === 0 || this.#underWay >= this.#concurrency) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      while (this.#waiting.length > 0 && this.#underWay < this.#concurrency) void this.#send(this.#take());
    });
  }

  #take(): Entry<I, O>[] {
    let bytes = 0;
    let count = 0;
    for (const entry of this.#waiting) {
      bytes += entry.bytes;
      if (count > 0 && (count >= this.#maxItems || bytes > this.#maxBytes)) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  async #send(batch: readonly Entry<I, O>[]): Promise<void> {
    this.#underWay += 1;
    await this.#settle(batch);
    this.#underWay -= 1;
    this.#schedule();
  }

  async #settle(batch: readonly Entry<I, O>[]): Promise<void> {
    let outcomes: readonly O[];
    try {
      outcomes = await this.#flush(batch.map((entry) => entry.item));
    } catch (error) {
      if (batch.length === 1 || !this.#splits(error)) {
        this.#finish(batch, (entry) => entry.reject(error));
        return;
      }
      const half = Math.ceil(batch.length / 2);
      await this.#settle(batch.slice(0, half));
      await this.#settle(batch.slice(half));
      return;
    }
    if (outcomes.length !== batch.length) {
      const error = new BrokerError(
        'BROKER_FAILED',
        `A batch of ${batch.length} was answered with ${outcomes.length} outcomes`,
      );
      this.#finish(batch, (entry) => entry.reject(error));
      return;
    }
    this.#finish(batch, (entry, i) => entry.resolve(outcomes[i] as O));
  }

  #finish(batch: readonly Entry<I, O>[], settle: (entry: Entry<I, O>, i: number) => void): void {
    batch.forEach(settle);
    this.#pending -= batch.length;
    if (this.#pending > 0) return;
    const drained = this.#onDrained;
    this.#onDrained = [];
    for (const resolve of drained) resolve();
  }
}

const ALIKE: readonly ErrorCode[] = [
  'BROKER_CLOSED',
  'NOT_INITIALIZED',
  'SCHEMA_TOO_NEW',
  'DATABASE_READ_ONLY',
  'DATABASE_MISSING',
];

/** Whether every item of a batch would fail with this error, as in an outage: to ask for each of them is of no use. */
export function hitsAllAlike(error: unknown): boolean {
  if (!isSignalboxError(error)) return false;
  return ALIKE.includes(error.code) || ('transient' in error && error.transient === true);
}
