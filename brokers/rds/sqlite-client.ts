import { createRequire } from 'node:module';
import type { Knex } from 'knex';
import { retryBusy } from './busy.ts';
import { loadSqlite, SqliteConnection } from './sqlite-driver.ts';

export interface SqliteSettings {
  /** The file of the database, created when it does not exist; `:memory:` for one that ends with its connection. */
  readonly filename: string;
  /** Default false. */
  readonly readOnly?: boolean;
}

/**
 * How long one statement may block this thread for a lock of another process; waiting goes on without blocking
 * after that.
 */
const BLOCKING_WAIT_MS = 10;

/**
 * A knex instance on a SQLite file with the settings that Signalbox needs: WAL, synchronous=FULL, one connection,
 * transactions that take the write lock at their begin. It opens the file with the first statement.
 */
export async function sqliteKnex(settings: string | SqliteSettings): Promise<Knex> {
  const connection = typeof settings === 'string' ? { filename: settings } : settings;
  const { default: createKnex } = await import('knex');
  return createKnex({
    client: await sqliteClient(connection.readOnly ?? false),
    connection: { filename: connection.filename },
    useNullAsDefault: true,
    pool: { min: 1, max: 1 },
    log: silentLog,
  });
}

/** What goes wrong rejects; knex need not say it on the console as well. */
const silentLog: Knex.Logger = {
  warn: () => undefined,
  error: () => undefined,
  deprecate: () => undefined,
  debug: () => undefined,
};

interface Query {
  sql: string;
}

/** The part of knex's better-sqlite3 dialect that is changed here; knex ships no declarations for it. */
interface BetterSqlite3Client extends Knex.Client {
  /** The class of the connections. */
  _driver(): object;
  /** Resolves with the same query, its response filled in. */
  _query(connection: unknown, query: Query): Promise<Query>;
}

interface BetterSqlite3ClientClass extends Pick<typeof Knex.Client, keyof typeof Knex.Client> {
  new (config: Knex.Config): BetterSqlite3Client;
}

async function sqliteClient(readOnly: boolean): Promise<typeof Knex.Client> {
  const require = createRequire(import.meta.url);
  const Client = require('knex/lib/dialects/better-sqlite3') as BetterSqlite3ClientClass;
  const sqlite = await loadSqlite();
  // No private fields: knex makes the client of a transaction without running the constructor.
  return class SqliteClient extends Client {
    override _driver(): object {
      return SqliteConnection;
    }

    override acquireRawConnection(): Promise<SqliteConnection> {
      const { filename } = this.connectionSettings as SqliteSettings;
      return retryBusy(() =>
        openConnection(() => new SqliteConnection(sqlite, filename, readOnly), readOnly),
      );
    }

    override _query(connection: unknown, query: Query): Promise<Query> {
      // A deferred transaction that comes to write later is refused at once when another one writes, however long it would wait.
      if (query.sql === 'BEGIN;') query.sql = 'BEGIN IMMEDIATE;';
      return retryBusy(() => super._query(connection, query));
    }
  };
}

function openConnection(open: () => SqliteConnection, readOnly: boolean): SqliteConnection {
  const connection = open();
  try {
    connection.exec(`pragma busy_timeout = ${BLOCKING_WAIT_MS}`);
    if (!readOnly) connection.exec('pragma journal_mode = wal');
    connection.exec('pragma synchronous = full');
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}
