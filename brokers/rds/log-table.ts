import type {
  ChangeAnswer,
  ChangeOptions,
  ClaimAnswer,
  ClaimOptions,
  HeldTask,
  LogSettleAnswers,
  NewTaskLogEntry,
  RenewAnswer,
  Settlement,
  StartAnswer,
  TaskAct,
  TaskLine,
} from '../../src/task-log-broker.ts';
import type { Dialect } from './dialect.ts';
import { LOCKED_COLUMNS, LockedRows, MOVED_COLUMNS, movedBindings } from './locked-rows.ts';
import { integer, text, textOrNull, wholeMs } from './session.ts';
import type { Binding, Row, Session } from './session.ts';
import { attemptText, change, claim, renew, settle, start } from '../../src/task-transitions.ts';

/** The message of a row, as it can be built again from it. */
export interface RowMessage {
  readonly id: string;
  readonly body: string;
  readonly priority: number;
  readonly group: string | null;
  readonly generation: number;
  /** Milliseconds until the task is due. */
  readonly delayMs: number;
}

/** The rows of one task log. Its methods are steps of a transaction. */
export class LogTable {
  readonly #sql: ReturnType<typeof statements>;

  constructor(dialect: Dialect, table: string) {
    this.#sql = statements(dialect, table);
  }

  /** Answers for each entry whether its id was new. */
  async insert(session: Session, entries: readonly NewTaskLogEntry[]): Promise<boolean[]> {
    const added: boolean[] = [];
    for (const entry of entries) added.push((await session.run(this.#sql.insert, inserted(entry))) > 0);
    return added;
  }

  async claim(
    session: Session,
    ids: readonly string[],
    options: ClaimOptions & { readonly owe: boolean },
  ): Promise<ClaimAnswer[]> {
    const rows = await this.#lock(session, ids);
    const terms = { ...options, leaseMs: wholeMs(options.leaseMs) };
    let toStart = options.start;
    const answers = ids.map((id): ClaimAnswer => {
      const row = rows.get(id);
      if (row === undefined) return { id, kind: 'missing' };
      const answer = rows.apply(claim(row, { ...terms, mayStart: toStart > 0 }, rows.now));
      if (row !== rows.get(id) && rows.get(id)?.status === 'running') toStart -= 1;
      return answer;
    });
    await this.#write(session, rows);
    return answers;
  }

  async settle(
    session: Session,
    settlements: readonly Settlement[],
    starting: readonly HeldTask[],
  ): Promise<LogSettleAnswers> {
    const tasks = [...settlements.map(({ task }) => task), ...starting];
    const rows = await this.#lock(session, idsOf(tasks));
    const lines: TaskLine[] = [];
    const settled = settlements.map((settlement) => {
      const row = rows.get(settlement.task.id);
      const step = settle(row, wholeAfter(settlement), rows.now);
      if (
        row !== undefined &&
        step.next !== undefined &&
        settlement.kind === 'retry' &&
        settlement.cause !== undefined
      ) {
        const line = attemptText(row, settlement.cause, rows.now);
        lines.push({ taskId: row.id, kind: 'attempt', at: rows.now, text: line });
      }
      return rows.apply(step);
    });
    const started = starting.map((task): StartAnswer => rows.apply(start(rows.get(task.id), task, rows.now)));
    await this.#write(session, rows);
    await this.append(session, lines);
    return { settled, started };
  }

  async renew(session: Session, tasks: readonly HeldTask[], leaseMs: number): Promise<RenewAnswer[]> {
    const rows = await this.#lock(session, idsOf(tasks));
    const lease = wholeMs(leaseMs);
    const answers = tasks.map((task) => rows.apply(renew(rows.get(task.id), task, lease, rows.now)));
    await this.#write(session, rows);
    return answers;
  }

  async change(
    session: Session,
    act: TaskAct,
    ids: readonly string[],
    options: ChangeOptions,
  ): Promise<ChangeAnswer[]> {
    const rows = await this.#lock(session, ids);
    const answers = [...new Set(ids)].flatMap((id): ChangeAnswer[] => {
      const row = rows.get(id);
      const next = row === undefined ? undefined : change(row, act, options, rows.now);
      if (next === undefined) return [];
      const { status, generation, notBefore } = next;
      return [
        rows.apply({ answer: { id, status, generation, dueInMs: Math.max(0, notBefore - rows.now) }, next }),
      ];
    });
    await this.#write(session, rows);
    return answers;
  }

  async append(session: Session, lines: readonly (TaskLine & { readonly token?: string })[]): Promise<void> {
    for (const { taskId, kind, at, text: line, token } of lines) {
      if (token === undefined) await session.run(this.#sql.line, [taskId, kind, at, line]);
      else await session.run(this.#sql.lineOfHolder, [kind, at, line, taskId, token]);
    }
  }

  /** Of rows of this queue whose message is owed now, oldest debt first. A plain read serves as a look. */
  async owedMessages(session: Session, queue: string, limit: number): Promise<RowMessage[]> {
    return (await session.all(this.#sql.owedMessages, [queue, limit])).map(messageOf);
  }

  async messages(session: Session, ids: readonly string[]): Promise<RowMessage[]> {
    if (ids.length === 0) return [];
    return (await session.all(this.#sql.messages, [JSON.stringify(ids)])).map(messageOf);
  }

  /** Answers whether the debt was the one of that generation, and is cleared now. */
  async pushed(
    session: Session,
    id: string,
    generation: number,
    nextPushInMs: number | null,
  ): Promise<boolean> {
    const next = nextPushInMs === null ? null : wholeMs(nextPushInMs);
    return (await session.run(this.#sql.pushed, [next, id, generation])) > 0;
  }

  async #lock(session: Session, ids: readonly string[]): Promise<LockedRows> {
    if (ids.length === 0) return new LockedRows([]);
    return new LockedRows(await session.all(this.#sql.lock, [JSON.stringify(ids)]));
  }

  async #write(session: Session, rows: LockedRows): Promise<void> {
    for (const row of rows.changed()) {
      const { outcome } = row;
      const moved = movedBindings(row, rows.now);
      if (outcome === undefined) await session.run(this.#sql.move, [...moved, row.id]);
      else await session.run(this.#sql.end, [...moved, outcome.report, outcome.deadReason, row.id]);
    }
  }
}

function idsOf(tasks: readonly HeldTask[]): string[] {
  return tasks.map((task) => task.id);
}

function wholeAfter(settlement: Settlement): Settlement {
  return 'afterMs' in settlement ? { ...settlement, afterMs: wholeMs(settlement.afterMs) } : settlement;
}

function inserted(entry: NewTaskLogEntry): Binding[] {
  const { claim: claimed, owedInMs } = entry;
  const started = claimed?.start === true;
  return [
    entry.id,
    entry.queue,
    entry.taskName,
    claimed === undefined ? 'enqueued' : started ? 'running' : 'dequeued',
    entry.parentId,
    entry.owner,
    entry.category,
    entry.label,
    entry.masterStatus ? 1 : 0,
    entry.priority,
    entry.group,
    entry.envelope,
    claimed?.token ?? null,
    claimed?.worker ?? null,
    claimed === undefined ? null : wholeMs(claimed.leaseMs),
    started ? 0 : null,
    wholeMs(entry.delayMs),
    owedInMs === null ? null : wholeMs(owedInMs),
  ];
}

function messageOf(row: Row): RowMessage {
  return {
    id: text(row, 'id'),
    body: text(row, 'envelope'),
    priority: integer(row, 'priority'),
    group: textOrNull(row, 'grp'),
    generation: integer(row, 'generation'),
    delayMs: Math.max(0, integer(row, 'dueInMs')),
  };
}

function statements({ now, among, insertNew, lock }: Dialect, table: string) {
  const later = `${now} + ?`;
  const message = `select id, envelope, priority, grp, generation, not_before - ${now} as "dueInMs" from ${table}`;
  return {
    insert: insertNew(table, 'id', {
      id: '?',
      queue: '?',
      task_name: '?',
      status: '?',
      parent_id: '?',
      owner: '?',
      category: '?',
      label: '?',
      master_status: '?',
      priority: '?',
      grp: '?',
      envelope: '?',
      token: '?',
      worker: '?',
      claim_until: later,
      started_at: later,
      not_before: later,
      push_at: later,
      attempts: '0',
      lapses: '0',
      unknowns: '0',
      generation: '1',
      created_at: now,
      updated_at: now,
    }),
    lock: `select ${LOCKED_COLUMNS}, ${now} as now from ${table} where ${among('id', 'text')}${lock}`,
    move: `update ${table} set ${MOVED_COLUMNS} where id = ?`,
    end: `update ${table} set ${MOVED_COLUMNS}, report = ?, dead_reason = ? where id = ?`,
    line: `insert into ${table}_line (task_id, kind, at, line) values (?, ?, ?, ?)`,
    lineOfHolder: `insert into ${table}_line (task_id, kind, at, line)
      select id, ?, ?, ? from ${table} where id = ? and token = ? and status in ('dequeued', 'running')`,
    owedMessages: `${message} where queue = ? and push_at <= ${now} and status in ('enqueued', 'dequeued', 'running')
      order by push_at limit ?${lock}`,
    messages: `${message} where ${among('id', 'text')}`,
    pushed: `update ${table} set push_at = ${now} + ?, updated_at = ${now} where id = ? and generation = ?`,
  };
}
