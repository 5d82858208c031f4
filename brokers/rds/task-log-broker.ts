import { BrokerError, ConfigurationError } from '../../src/errors.ts';
import type { Transaction } from '../../src/store.ts';
import type {
  ChangeAnswer,
  ChangeOptions,
  ClaimAnswer,
  ClaimOptions,
  HeldTask,
  LogSettleAnswers,
  NewTaskLogEntry,
  OwedRow,
  Page,
  RenewAnswer,
  Settlement,
  TaskAct,
  TaskLine,
  TaskLogBroker,
  TaskLogPage,
  TaskLogQuery,
} from '../../src/task-log-broker.ts';
import type { TaskStatus } from '../../src/task-status.ts';
import { LogSearch } from './log-search.ts';
import { LogTable } from './log-table.ts';
import type { Persistence } from './persistence.ts';
import { migrateLog } from './schema.ts';

/** One that ends in `_line` would be the table of another container's lines. */
const CONTAINER = /^(?!.*_line$)[a-z][a-z0-9_]{0,40}$/;
/** They are tables of their own already. */
const TAKEN: readonly string[] = ['message', 'record', 'schema'];

/** A task log in a database: the tables `tq_<container>` and `tq_<container>_line`. Closing it leaves the persistence open for others. */
export class RdsTaskLogBroker implements TaskLogBroker {
  readonly id: string;
  readonly shared: boolean;
  readonly store: Persistence;
  /** The name of its table. */
  readonly table: string;
  readonly #rows: LogTable;
  readonly #search: LogSearch;
  #closed = false;

  /** @throws ConfigurationError `CONFIG_INVALID` when the container is not named by `a-z`, `0-9` and `_`, 41 at most, or ends in `_line`. */
  constructor(persistence: Persistence, container = 'task_log') {
    checkContainer(container);
    this.store = persistence;
    this.shared = persistence.shared;
    this.table = `tq_${container}`;
    this.id = `rds:${persistence.id}#${container}`;
    this.#rows = new LogTable(persistence.dialect, this.table);
    this.#search = new LogSearch(persistence.dialect, this.table);
  }

  async createContainer(): Promise<void> {
    this.assertOpen('createContainer');
    await migrateLog(this.store, this.table);
  }

  async insert(entries: readonly NewTaskLogEntry[], tx?: Transaction): Promise<string[]> {
    this.assertOpen('insert');
    if (entries.length === 0) return [];
    const added = await this.store.write(tx, (session) => this.#rows.insert(session, entries));
    return entries.filter((_, index) => added[index]).map(({ id }) => id);
  }

  async claim(
    ids: readonly string[],
    options: ClaimOptions & { readonly owe: boolean },
    tx?: Transaction,
  ): Promise<ClaimAnswer[]> {
    this.assertOpen('claim');
    if (ids.length === 0) return [];
    return this.store.write(tx, (session) => this.#rows.claim(session, ids, options));
  }

  async settle(
    settlements: readonly Settlement[],
    starting: readonly HeldTask[],
    tx?: Transaction,
  ): Promise<LogSettleAnswers> {
    this.assertOpen('settle');
    if (settlements.length === 0 && starting.length === 0) return { settled: [], started: [] };
    return this.store.write(tx, (session) => this.#rows.settle(session, settlements, starting));
  }

  async renew(tasks: readonly HeldTask[], leaseMs: number): Promise<RenewAnswer[]> {
    this.assertOpen('renew');
    if (tasks.length === 0) return [];
    return this.store.write(undefined, (session) => this.#rows.renew(session, tasks, leaseMs));
  }

  async change(
    act: TaskAct,
    ids: readonly string[],
    options: ChangeOptions,
    tx?: Transaction,
  ): Promise<ChangeAnswer[]> {
    this.assertOpen('change');
    if (ids.length === 0) return [];
    return this.store.write(tx, (session) => this.#rows.change(session, act, ids, options));
  }

  async owed(queue: string, limit: number): Promise<readonly OwedRow[]> {
    this.assertOpen('owed');
    return this.store.read((session) => this.#search.owed(session, queue, limit));
  }

  async pushed(
    rows: readonly {
      readonly id: string;
      readonly generation: number;
      readonly nextPushInMs: number | null;
    }[],
  ): Promise<string[]> {
    this.assertOpen('pushed');
    if (rows.length === 0) return [];
    return this.store.write(undefined, async (session) => {
      const cleared: string[] = [];
      for (const { id, generation, nextPushInMs } of rows) {
        if (await this.#rows.pushed(session, id, generation, nextPushInMs)) cleared.push(id);
      }
      return cleared;
    });
  }

  async search(query: TaskLogQuery, page: Page): Promise<TaskLogPage> {
    this.assertOpen('search');
    return this.store.read((session) => this.#search.search(session, query, page));
  }

  async stats(query: TaskLogQuery): Promise<Partial<Record<TaskStatus, number>>> {
    this.assertOpen('stats');
    return this.store.read((session) => this.#search.stats(session, query));
  }

  async append(lines: readonly (TaskLine & { readonly token?: string })[]): Promise<void> {
    this.assertOpen('append');
    if (lines.length === 0) return;
    await this.store.write(undefined, (session) => this.#rows.append(session, lines));
  }

  async lines(taskId: string, page: Page): Promise<readonly TaskLine[]> {
    this.assertOpen('lines');
    return this.store.read((session) => this.#search.lines(session, taskId, page));
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  /** @throws BrokerError `BROKER_CLOSED` once it is closed. */
  assertOpen(operation: string): void {
    if (!this.#closed) return;
    throw new BrokerError('BROKER_CLOSED', `Task log "${this.id}" is closed; ${operation} was refused.`, {
      place: { broker: this.id, operation },
    });
  }
}

function checkContainer(container: string): void {
  if (CONTAINER.test(container) && !TAKEN.includes(container)) return;
  throw new ConfigurationError(
    'CONFIG_INVALID',
    `A task log cannot live in the container "${container}": 1 to 41 of a-z, 0-9 and _, a letter first, no "_line" at the end, and none of ${TAKEN.join(', ')}.`,
  );
}
