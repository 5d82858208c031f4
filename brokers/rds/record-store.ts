import type { PutOptions, RecordStore, StoredRecord } from '../../src/record-store.ts';
import type { Transaction } from '../../src/store.ts';
import type { Dialect } from './dialect.ts';
import type { Persistence } from './persistence.ts';
import { migrateQueue } from './schema.ts';
import { integer, text, wholeMs } from './session.ts';
import type { Row, Session } from './session.ts';

/** How many records whose time is over a put clears away. */
const SWEEP_LIMIT = 20;

/** Records in a database, in the table `tq_record`. */
export class RdsRecordStore implements RecordStore {
  readonly store: Persistence;
  readonly #sql: ReturnType<typeof statements>;

  constructor(persistence: Persistence) {
    this.store = persistence;
    this.#sql = statements(persistence.dialect);
  }

  /** Creates what the records need, as `initialize` of the queue broker does too. */
  async initialize(): Promise<void> {
    await migrateQueue(this.store);
  }

  async put(
    space: string,
    key: string,
    value: string,
    options: PutOptions = {},
    tx?: Transaction,
  ): Promise<number | null> {
    const { ifVersion, ttlMs } = options;
    return this.store.write(tx, async (session) => {
      await session.run(this.#sql.sweep);
      const current = (await this.#find(session, this.#sql.lock, space, key))?.version ?? 0;
      if (ifVersion !== undefined && ifVersion !== current) return null;
      await session.run(this.#sql.removeOne, [space, key]);
      const ttl = ttlMs === undefined || ttlMs === Infinity ? null : wholeMs(ttlMs);
      await session.run(this.#sql.insert, [space, key, value, current + 1, ttl]);
      return current + 1;
    });
  }

  async get(space: string, key: string): Promise<StoredRecord | null> {
    return this.store.read((session) => this.#find(session, this.#sql.get, space, key));
  }

  async list(
    space: string,
    page: { readonly limit: number; readonly after?: string },
  ): Promise<readonly StoredRecord[]> {
    const rows = await this.store.read((session) =>
      session.all(this.#sql.list, [space, page.after ?? '', page.after === undefined ? 1 : 0, page.limit]),
    );
    return rows.map(recordOf);
  }

  async remove(space: string, keys: readonly string[]): Promise<number> {
    if (keys.length === 0) return 0;
    return this.store.write(undefined, (session) =>
      session.run(this.#sql.remove, [space, JSON.stringify(keys)]),
    );
  }

  async #find(session: Session, sql: string, space: string, key: string): Promise<StoredRecord | null> {
    const [row] = await session.all(sql, [space, key]);
    return row === undefined ? null : recordOf(row);
  }
}

function recordOf(row: Row): StoredRecord {
  return { key: text(row, 'key'), value: text(row, 'value'), version: integer(row, 'version') };
}

function statements({ now, among, lock }: Dialect) {
  const live = `(expires_at is null or expires_at > ${now})`;
  const columns = 'record_key as "key", record_value as "value", version';
  const get = `select ${columns} from tq_record where space = ? and record_key = ? and ${live}`;
  return {
    get,
    lock: `${get}${lock}`,
    insert: `insert into tq_record (space, record_key, record_value, version, expires_at)
      values (?, ?, ?, ?, ${now} + ?)`,
    removeOne: 'delete from tq_record where space = ? and record_key = ?',
    remove: `delete from tq_record where space = ? and ${live} and ${among('record_key', 'text')}`,
    list: `select ${columns} from tq_record where space = ? and (record_key > ? or 1 = ?) and ${live}
      order by record_key limit ?`,
    sweep: `delete from tq_record where (space, record_key) in (
      select space, record_key from tq_record where expires_at <= ${now} limit ${SWEEP_LIMIT})`,
  };
}
