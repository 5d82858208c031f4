import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Knex } from 'knex';
import { newId } from '../../src/environment.ts';
import { BrokerError, ConfigurationError } from '../../src/errors.ts';
import type { Store, Transaction } from '../../src/store.ts';
import { RawSession, sessionOn } from './connection-session.ts';
import type { SessionOptions } from './connection-session.ts';
import { sqliteDialect } from './dialect.ts';
import type { Dialect } from './dialect.ts';
import { checkVersions } from './schema.ts';
import type { Session } from './session.ts';
import { sqliteKnex } from './sqlite-client.ts';
import type { SqliteSettings } from './sqlite-client.ts';
import { foreignTransaction, isKnexTransaction, onceCommitted, RdsTransaction } from './transaction.ts';

interface CommonSettings {
  /** What errors and broker ids call it. Default: the path of the file. */
  readonly id?: string;
  /** Told of each statement before it runs; to count and to trace. */
  readonly onStatement?: (sql: string) => void;
}

/** Either a connection of its own, or a knex instance of yours, which stays yours to destroy. */
export type PersistenceSettings = CommonSettings &
  ({ readonly client: 'sqlite'; readonly connection: SqliteSettings } | { readonly knex: Knex });

/** The parts of a knex client that lend a connection. */
interface ConnectionSource {
  readonly dialect?: string;
  readonly connectionSettings?: { readonly filename?: unknown };
  acquireConnection(): Promise<object>;
  releaseConnection(connection: object): Promise<void>;
}

const MEMORY = ':memory:';
const CLOSE_WITHIN_MS = 5_000;

/**
 * A database in which queues, task logs and records live. It is opened with the first statement; several brokers may
 * share it, and whoever made it closes it.
 */
export class Persistence implements Store {
  readonly id: string;
  /** False for a database in memory: other processes cannot see it. */
  readonly shared: boolean;
  readonly dialect: Dialect = sqliteDialect;
  readonly #settings: PersistenceSettings;
  readonly #filename: string | undefined;
  readonly #sessionOptions: SessionOptions;
  readonly #joined = new WeakMap<Knex.Transaction, Promise<Transaction>>();
  #knex: Promise<Knex> | undefined;
  #closed = false;

  /** @throws ConfigurationError `CONFIG_INVALID` when the settings name another database than SQLite. */
  constructor(settings: PersistenceSettings) {
    checkClient(settings);
    this.#settings = settings;
    this.#filename = filenameOf(settings);
    this.id = settings.id ?? this.#filename ?? `memory-${newId()}`;
    this.shared = this.#filename !== undefined;
    this.#sessionOptions = {
      onStatement: settings.onStatement,
      failure: (error) => this.dialect.failure(error, this.id, this.#filename),
    };
  }

  /** The knex instance itself, for transactions of yours: `join` takes them. */
  async knex(): Promise<Knex> {
    if (this.#closed) throw this.#closedError();
    this.#knex ??= this.#open().catch((error: unknown) => {
      this.#knex = undefined;
      throw this.#sessionOptions.failure(error);
    });
    return this.#knex;
  }

  /** Outside any transaction: each statement stands alone. */
  read<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return this.#lend(work);
  }

  /** In the caller's transaction, or in one of its own. */
  write<T>(tx: Transaction | undefined, work: (session: Session) => Promise<T>): Promise<T> {
    if (tx === undefined) return this.#lend((session) => this.#inTransaction(session, work));
    if (tx instanceof RdsTransaction && tx.store === this) return tx.run(work);
    return Promise.reject(foreignTransaction(this.id, 'the transaction belongs to another store'));
  }

  async transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    const { tx, answer } = await this.#lend((session) =>
      this.#inTransaction(session, async () => {
        const tx = new RdsTransaction(this, session);
        return { tx, answer: await work(tx) };
      }),
    );
    await tx.committed();
    return answer;
  }

  /** The same transaction is joined once, however often it is passed: calls inside it take turns. */
  join(foreign: unknown): Promise<Transaction> {
    if (this.#closed) return Promise.reject(this.#closedError());
    if (foreign instanceof RdsTransaction && foreign.store === this) return Promise.resolve(foreign);
    if (!isKnexTransaction(foreign)) {
      return Promise.reject(foreignTransaction(this.id, 'what was passed is no knex transaction'));
    }
    if (foreign.isCompleted()) {
      return Promise.reject(foreignTransaction(this.id, 'the transaction has ended already'));
    }
    let joined = this.#joined.get(foreign);
    if (joined === undefined) this.#joined.set(foreign, (joined = this.#joinKnex(foreign)));
    return joined;
  }

  /** Waits at most 5 s for transactions that are still open. Calls after it reject with `BROKER_CLOSED`. */
  async close(): Promise<void> {
    this.#closed = true;
    const opening = this.#knex;
    this.#knex = undefined;
    if (opening === undefined || 'knex' in this.#settings) return;
    const knex = await opening.catch(() => undefined);
    if (knex === undefined) return;
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_WITHIN_MS);
    });
    await Promise.race([knex.destroy(), deadline]);
    clearTimeout(timer);
  }

  async #joinKnex(foreign: Knex.Transaction): Promise<Transaction> {
    const session = new RawSession((sql, bindings) => foreign.raw(sql, [...bindings]), this.#sessionOptions);
    await this.#checkDatabase(foreign, session);
    const tx = new RdsTransaction(this, session);
    onceCommitted(foreign, () => void tx.committed());
    return tx;
  }

  async #open(): Promise<Knex> {
    const settings = this.#settings;
    const knex = 'knex' in settings ? settings.knex : await sqliteKnex(settings.connection);
    try {
      await this.#withConnection(knex, (session) => checkVersions(session, this.dialect, this.id));
      return knex;
    } catch (error) {
      if (!('knex' in settings)) await knex.destroy();
      throw error;
    }
  }

  async #lend<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return this.#withConnection(await this.knex(), work);
  }

  async #withConnection<T>(knex: Knex, work: (session: Session) => Promise<T>): Promise<T> {
    const source = knex.client as ConnectionSource;
    const connection = await source.acquireConnection().catch((error: unknown) => {
      throw this.#closed ? this.#closedError() : this.#sessionOptions.failure(error);
    });
    try {
      const raw = (sql: string, bindings: readonly (string | number | null)[]): PromiseLike<unknown> =>
        knex.raw(sql, [...bindings]).connection(connection);
      return await work(sessionOn(connection, raw, this.#sessionOptions));
    } finally {
      await source.releaseConnection(connection);
    }
  }

  async #inTransaction<T>(session: Session, work: (session: Session) => Promise<T>): Promise<T> {
    await session.run(this.dialect.begin);
    try {
      const answer = await work(session);
      await session.run('commit');
      return answer;
    } catch (error) {
      // SQLite has rolled back already after some failures, and then refuses this.
      await session.run('rollback').catch(() => undefined);
      throw error;
    }
  }

  /**
   * A transaction of our own knex needs no question; that of another one must be on the same file. Nothing is asked
   * of our own connection: the transaction may hold it.
   */
  async #checkDatabase(foreign: Knex.Transaction, session: Session): Promise<void> {
    const theirs = foreign.client as ConnectionSource;
    const knex = 'knex' in this.#settings ? this.#settings.knex : await this.#knex;
    const ours = knex?.client as ConnectionSource | undefined;
    if (ours !== undefined && theirs.connectionSettings === ours.connectionSettings) return;
    if (theirs.dialect !== 'sqlite3') throw foreignTransaction(this.id, 'the transaction is none of SQLite');
    const databases = await session.all('pragma database_list');
    const file = databases.find((row) => row.name === 'main')?.file;
    if (typeof file !== 'string' || file === '' || !sameFile(file, this.#filename)) {
      throw foreignTransaction(this.id, `the transaction is on another database, "${String(file)}"`);
    }
  }

  #closedError(): BrokerError {
    return new BrokerError('BROKER_CLOSED', `Database "${this.id}" is closed.`, {
      place: { broker: this.id },
    });
  }
}

function checkClient(settings: PersistenceSettings): void {
  const dialect = 'knex' in settings ? (settings.knex.client as ConnectionSource).dialect : settings.client;
  if (dialect === 'sqlite' || dialect === 'sqlite3') return;
  throw new ConfigurationError(
    'CONFIG_INVALID',
    `A persistence cannot use the client "${String(dialect)}"; there is: sqlite.`,
  );
}

/** Undefined for a database in memory, or a knex instance that does not tell. */
function filenameOf(settings: PersistenceSettings): string | undefined {
  const connection =
    'knex' in settings ? (settings.knex.client as ConnectionSource).connectionSettings : settings.connection;
  const filename = connection?.filename;
  return typeof filename === 'string' && filename !== '' && filename !== MEMORY
    ? resolve(filename)
    : undefined;
}

function sameFile(one: string, other: string | undefined): boolean {
  if (other === undefined) return false;
  try {
    return realpathSync(one) === realpathSync(other);
  } catch {
    return false;
  }
}
