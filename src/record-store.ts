import type { Store, Transaction } from './store.ts';

export interface StoredRecord {
  readonly key: string;
  readonly value: string;
  /** 1 for a new key, then 1 more with every put. */
  readonly version: number;
}

export interface PutOptions {
  /** Write only when the record has this version; 0: only when there is none. */
  readonly ifVersion?: number;
  /** The record is gone after this many milliseconds. Absent: kept until removed. */
  readonly ttlMs?: number;
}

/** Small durable things that are no tasks: marks of work done once, workers, pauses, payloads, unique keys, ticks. */
export interface RecordStore {
  readonly store?: Store;
  /** Answers the new version, or null when `ifVersion` did not match. */
  put(
    space: string,
    key: string,
    value: string,
    options?: PutOptions,
    tx?: Transaction,
  ): Promise<number | null>;
  get(space: string, key: string): Promise<StoredRecord | null>;
  /** By key; `after` is the last key of the page before. */
  list(
    space: string,
    page: { readonly limit: number; readonly after?: string },
  ): Promise<readonly StoredRecord[]>;
  /** Answers how many were there. */
  remove(space: string, keys: readonly string[]): Promise<number>;
}
