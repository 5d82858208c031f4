import { retryBusy } from './busy.ts';
import type { Binding, Row, Session } from './session.ts';
import { SqliteConnection } from './sqlite-driver.ts';

/** Runs one statement of knex on a connection or in a transaction of its. */
export type RawStatement = (sql: string, bindings: readonly Binding[]) => PromiseLike<unknown>;

export interface SessionOptions {
  readonly onStatement: ((sql: string) => void) | undefined;
  /** The BrokerError for what a statement threw. */
  readonly failure: (error: unknown) => Error;
}

/** On a connection of ours the statements run on the driver itself, prepared once; on a stranger's through knex. */
export function sessionOn(connection: object, raw: RawStatement, options: SessionOptions): Session {
  return connection instanceof SqliteConnection
    ? new DirectSession(connection, options)
    : new RawSession(raw, options);
}

class DirectSession implements Session {
  readonly #connection: SqliteConnection;
  readonly #options: SessionOptions;

  constructor(connection: SqliteConnection, options: SessionOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  all(sql: string, bindings: readonly Binding[] = []): Promise<Row[]> {
    return this.#execute(sql, () => this.#connection.prepare(sql).all(bindings));
  }

  run(sql: string, bindings: readonly Binding[] = []): Promise<number> {
    return this.#execute(sql, () => this.#connection.prepare(sql).run(bindings).changes);
  }

  async #execute<T>(sql: string, work: () => T): Promise<T> {
    this.#options.onStatement?.(sql);
    try {
      return await retryBusy(work);
    } catch (error) {
      throw this.#options.failure(error);
    }
  }
}

/** Through `raw` alone, so that any client of knex for the same kind of database serves. */
export class RawSession implements Session {
  readonly #raw: RawStatement;
  readonly #options: SessionOptions;

  constructor(raw: RawStatement, options: SessionOptions) {
    this.#raw = raw;
    this.#options = options;
  }

  async all(sql: string, bindings: readonly Binding[] = []): Promise<Row[]> {
    const rows = await this.#execute(sql, bindings);
    return Array.isArray(rows) ? (rows as Row[]) : [];
  }

  async run(sql: string, bindings: readonly Binding[] = []): Promise<number> {
    const answer = await this.#execute(sql, bindings);
    if (typeof answer === 'object' && answer !== null && 'changes' in answer) return Number(answer.changes);
    const [row] = await this.all('select changes() as changes');
    return Number(row?.changes ?? 0);
  }

  async #execute(sql: string, bindings: readonly Binding[]): Promise<unknown> {
    this.#options.onStatement?.(sql);
    try {
      return await retryBusy(() => this.#raw(sql, bindings));
    } catch (error) {
      throw this.#options.failure(error);
    }
  }
}
