import { InvalidArgumentError } from '../../src/errors.ts';
import type {
  OwedRow,
  Page,
  TaskLine,
  TaskLogEntry,
  TaskLogPage,
  TaskLogQuery,
} from '../../src/task-log-broker.ts';
import type { TaskStatus } from '../../src/task-status.ts';
import type { Dialect } from './dialect.ts';
import { integer, integerOrNull, text, textOrNull } from './session.ts';
import type { Binding, Row, Session } from './session.ts';

const ENTRY_COLUMNS = `id, queue, task_name as "taskName", label, owner, category, parent_id as "parentId",
  master_status as "masterStatus", priority, grp, envelope, status, attempts, lapses, unknowns, report, worker,
  dead_reason as "deadReason", not_before as "notBefore", claim_until as "claimUntil", push_at as "pushAt", generation,
  cancel_requested_at as "cancelRequestedAt", created_at as "createdAt", updated_at as "updatedAt",
  started_at as "startedAt", finished_at as "finishedAt"`;

interface Condition {
  readonly sql: string;
  readonly bindings: readonly Binding[];
}

/** What is read of one task log without changing it. */
export class LogSearch {
  readonly #dialect: Dialect;
  readonly #table: string;

  constructor(dialect: Dialect, table: string) {
    this.#dialect = dialect;
    this.#table = table;
  }

  async search(session: Session, query: TaskLogQuery, page: Page): Promise<TaskLogPage> {
    const conditions = this.#conditions(query);
    const oldestFirst = page.order === 'oldest';
    if (page.after !== undefined) conditions.push(beyond(page.after, oldestFirst));
    const direction = oldestFirst ? 'asc' : 'desc';
    // One more than asked for tells whether there is a next page.
    const rows = await session.all(
      `select ${ENTRY_COLUMNS} from ${this.#table} ${where(conditions)}
       order by created_at ${direction}, id ${direction} limit ? offset ?`,
      [...conditions.flatMap(({ bindings }) => bindings), page.limit + 1, page.offset ?? 0],
    );
    const entries = rows.slice(0, page.limit).map(entryOf);
    const last = entries.at(-1);
    return rows.length > page.limit && last !== undefined
      ? { entries, next: `${last.createdAt}-${last.id}` }
      : { entries };
  }

  async stats(session: Session, query: TaskLogQuery): Promise<Partial<Record<TaskStatus, number>>> {
    const conditions = this.#conditions(query);
    const rows = await session.all(
      `select status, count(*) as tasks from ${this.#table} ${where(conditions)} group by status`,
      conditions.flatMap(({ bindings }) => bindings),
    );
    return Object.fromEntries(rows.map((row) => [text(row, 'status'), integer(row, 'tasks')]));
  }

  async owed(session: Session, queue: string, limit: number): Promise<OwedRow[]> {
    const { now } = this.#dialect;
    const rows = await session.all(
      `select ${ENTRY_COLUMNS}, not_before - ${now} as "dueInMs" from ${this.#table}
       where queue = ? and push_at <= ${now} and status in ('enqueued', 'dequeued', 'running')
       order by push_at limit ?`,
      [queue, limit],
    );
    return rows.map((row) => ({ entry: entryOf(row), dueInMs: integer(row, 'dueInMs') }));
  }

  async lines(session: Session, taskId: string, page: Page): Promise<TaskLine[]> {
    const direction = page.order === 'oldest' ? 'asc' : 'desc';
    const rows = await session.all(
      `select task_id as "taskId", kind, at, line from ${this.#table}_line where task_id = ?
       order by seq ${direction} limit ? offset ?`,
      [taskId, page.limit, page.offset ?? 0],
    );
    return rows.map((row) => ({
      taskId: text(row, 'taskId'),
      kind: text(row, 'kind') as TaskLine['kind'],
      at: integer(row, 'at'),
      text: text(row, 'line'),
    }));
  }

  #conditions(query: TaskLogQuery): Condition[] {
    return [
      ...this.#among('id', query.ids),
      ...this.#among('status', query.statuses),
      ...this.#notAmong('status', query.notStatuses),
      ...this.#among('task_name', query.taskNames),
      ...this.#among('queue', query.queues),
      ...compared('owner = ?', query.owner),
      ...compared('parent_id = ?', query.parentId),
      ...compared('category = ?', query.category),
      ...compared('created_at < ?', query.createdBefore),
      ...compared('created_at > ?', query.createdAfter),
      ...compared('finished_at < ?', query.finishedBefore),
    ];
  }

  #among(column: string, values: readonly string[] | undefined): Condition[] {
    if (values === undefined) return [];
    // One value lets an index give the order as well.
    const [only] = values;
    if (values.length === 1 && only !== undefined) return [{ sql: `${column} = ?`, bindings: [only] }];
    return [{ sql: this.#dialect.among(column, 'text'), bindings: [JSON.stringify(values)] }];
  }

  #notAmong(column: string, values: readonly string[] | undefined): Condition[] {
    if (values === undefined) return [];
    return [{ sql: `not (${this.#dialect.among(column, 'text')})`, bindings: [JSON.stringify(values)] }];
  }
}

function compared(sql: string, value: Binding | undefined): Condition[] {
  return value === undefined ? [] : [{ sql, bindings: [value] }];
}

function where(conditions: readonly Condition[]): string {
  return conditions.length === 0 ? '' : `where ${conditions.map(({ sql }) => sql).join(' and ')}`;
}

function beyond(after: string, oldestFirst: boolean): Condition {
  const [, createdAt, id] = /^([0-9]{1,15})-(.+)$/s.exec(after) ?? [];
  if (createdAt === undefined || id === undefined) {
    throw new InvalidArgumentError('INVALID_ARGUMENT', `"${after}" is not the "next" of a page.`);
  }
  const sign = oldestFirst ? '>' : '<';
  return { sql: `(created_at, id) ${sign} (?, ?)`, bindings: [Number(createdAt), id] };
}

function entryOf(row: Row): TaskLogEntry {
  return {
    id: text(row, 'id'),
    queue: text(row, 'queue'),
    taskName: text(row, 'taskName'),
    label: text(row, 'label'),
    owner: textOrNull(row, 'owner'),
    category: textOrNull(row, 'category'),
    parentId: textOrNull(row, 'parentId'),
    masterStatus: integer(row, 'masterStatus') === 1,
    priority: integer(row, 'priority'),
    group: textOrNull(row, 'grp'),
    envelope: text(row, 'envelope'),
    status: text(row, 'status') as TaskStatus,
    attempts: integer(row, 'attempts'),
    lapses: integer(row, 'lapses'),
    unknowns: integer(row, 'unknowns'),
    report: textOrNull(row, 'report'),
    worker: textOrNull(row, 'worker'),
    deadReason: textOrNull(row, 'deadReason'),
    notBefore: integer(row, 'notBefore'),
    claimUntil: integerOrNull(row, 'claimUntil'),
    pushAt: integerOrNull(row, 'pushAt'),
    generation: integer(row, 'generation'),
    cancelRequestedAt: integerOrNull(row, 'cancelRequestedAt'),
    createdAt: integer(row, 'createdAt'),
    updatedAt: integer(row, 'updatedAt'),
    startedAt: integerOrNull(row, 'startedAt'),
    finishedAt: integerOrNull(row, 'finishedAt'),
  };
}
