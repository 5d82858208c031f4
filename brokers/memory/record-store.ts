import { systemClock } from '../../src/environment.ts';
import type { Clock } from '../../src/environment.ts';
import type { PutOptions, RecordStore, StoredRecord } from '../../src/record-store.ts';
import type { Transaction } from '../../src/store.ts';
import { refuseTransaction } from './guard.ts';
import type { InMemoryOptions } from './guard.ts';

interface Kept {
  readonly record: StoredRecord;
  readonly goneAt: number;
}

const PUTS_BETWEEN_SWEEPS = 1_000;

/** Records in the memory of this process: they end with it. */
export class InMemoryRecordStore implements RecordStore {
  readonly #clock: Clock;
  readonly #spaces = new Map<string, Map<string, Kept>>();
  #puts = 0;

  constructor(options: InMemoryOptions = {}) {
    this.#clock = options.clock ?? systemClock;
  }

  async put(
    space: string,
    key: string,
    value: string,
    options: PutOptions = {},
    tx?: Transaction,
  ): Promise<number | null> {
    refuseTransaction('in-memory record store', 'put', tx);
    if (++this.#puts % PUTS_BETWEEN_SWEEPS === 0) this.#sweep();
    const current = this.#live(space, key)?.version ?? 0;
    if (options.ifVersion !== undefined && options.ifVersion !== current) return null;
    const record = { key, value, version: current + 1 };
    const goneAt = this.#clock.now() + (options.ttlMs ?? Infinity);
    let records = this.#spaces.get(space);
    if (records === undefined) this.#spaces.set(space, (records = new Map<string, Kept>()));
    records.set(key, { record, goneAt });
    return record.version;
  }

  async get(space: string, key: string): Promise<StoredRecord | null> {
    return this.#live(space, key) ?? null;
  }

  async list(
    space: string,
    page: { readonly limit: number; readonly after?: string },
  ): Promise<readonly StoredRecord[]> {
    const now = this.#clock.now();
    const { limit, after } = page;
    return [...(this.#spaces.get(space)?.values() ?? [])]
      .filter(({ record, goneAt }) => goneAt > now && (after === undefined || record.key > after))
      .map(({ record }) => record)
      .sort((a, b) => (a.key < b.key ? -1 : 1))
      .slice(0, limit);
  }

  async remove(space: string, keys: readonly string[]): Promise<number> {
    const found = [...new Set(keys)].filter((key) => this.#live(space, key) !== undefined);
    for (const key of keys) this.#spaces.get(space)?.delete(key);
    return found.length;
  }

  #live(space: string, key: string): StoredRecord | undefined {
    const kept = this.#spaces.get(space)?.get(key);
    return kept !== undefined && kept.goneAt > this.#clock.now() ? kept.record : undefined;
  }

  #sweep(): void {
    const now = this.#clock.now();
    for (const [space, records] of this.#spaces) {
      for (const [key, kept] of records) if (kept.goneAt <= now) records.delete(key);
      if (records.size === 0) this.#spaces.delete(space);
    }
  }
}
