import type { Knex } from 'knex';
import { BrokerError } from '../../src/errors.ts';
import type { Store, Transaction } from '../../src/store.ts';
import type { Session } from './session.ts';

/** A transaction of ours or of the caller's. Each call of a broker inside it happens as a whole or not at all. */
export class RdsTransaction implements Transaction {
  readonly store: Store;
  readonly #session: Session;
  readonly #afterCommit: (() => Promise<void>)[] = [];
  /** Calls take turns: a savepoint holds all that happens until it is released. */
  #lastTurn: Promise<unknown> = Promise.resolve();

  constructor(store: Store, session: Session) {
    this.store = store;
    this.#session = session;
  }

  afterCommit(work: () => Promise<void>): void {
    this.#afterCommit.push(work);
  }

  run<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const turn = this.#lastTurn.then(() => this.#inSavepoint(work));
    this.#lastTurn = turn.catch(() => undefined);
    return turn;
  }

  /** For whoever owns the transaction, once it is committed. The commit stands, so whoever gave the work tells what it came to. */
  async committed(): Promise<void> {
    for (const work of this.#afterCommit) {
      try {
        await work();
      } catch {
        // What failed here is the business of whoever gave the work: it logs its errors itself.
      }
    }
  }

  async #inSavepoint<T>(work: (session: Session) => Promise<T>): Promise<T> {
    await this.#session.run('savepoint signalbox');
    try {
      const answer = await work(this.#session);
      await this.#session.run('release savepoint signalbox');
      return answer;
    } catch (error) {
      await this.#session.run('rollback to savepoint signalbox').catch(() => undefined);
      throw error;
    }
  }
}

export function isKnexTransaction(value: unknown): value is Knex.Transaction {
  if (typeof value !== 'function') return false;
  const { isTransaction, raw, executionPromise } = value as Partial<Knex.Transaction>;
  return isTransaction === true && typeof raw === 'function' && executionPromise instanceof Promise;
}

/**
 * Calls `work` once the outermost transaction is committed, and never when it or a savepoint on the way was rolled back.
 * knex resolves `executionPromise` after a rollback too, so the last statement of each tells how it ended.
 */
export function onceCommitted(trx: Knex.Transaction, work: () => void): void {
  let lastSql = '';
  trx.on('query', ({ sql }: { readonly sql: string }) => {
    lastSql = sql;
  });
  trx.executionPromise.then(
    () => {
      if (/^rollback/i.test(lastSql)) return;
      if (trx.parentTransaction === undefined) work();
      else onceCommitted(trx.parentTransaction, work);
    },
    () => undefined,
  );
}

export function foreignTransaction(id: string, problem: string): BrokerError {
  return new BrokerError('FOREIGN_TRANSACTION', `Database "${id}": ${problem}.`, { place: { broker: id } });
}
