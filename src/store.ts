/**
 * Where rows live. Brokers whose `store` is the same object commit together.
 */
export interface Store {
  readonly id: string;
  /** Runs `work` in one transaction: committed when it resolves, rolled back when it rejects. */
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
  /**
   * The caller's own transaction (a knex one, say) as ours.
   * @throws BrokerError `FOREIGN_TRANSACTION` when it belongs to another database or is no transaction at all.
   */
  join(foreign: unknown): Promise<Transaction>;
}

/** Opaque to the core; a driver knows its own. */
export interface Transaction {
  readonly store: Store;
  /** Runs after the commit, never after a rollback. What must not be lost is also in a row. */
  afterCommit(work: () => Promise<void>): void;
}
