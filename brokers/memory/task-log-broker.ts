import { systemClock } from '../../src/environment.ts';
import type { Clock } from '../../src/environment.ts';
import type { Transaction } from '../../src/store.ts';
import type {
  ChangeAnswer,
  ChangeOptions,
  ClaimAnswer,
  ClaimOptions,
  HeldTask,
  LogSettleAnswer,
  LogSettleAnswers,
  NewTaskLogEntry,
  OwedRow,
  Page,
  RenewAnswer,
  Settlement,
  StartAnswer,
  TaskAct,
  TaskLine,
  TaskLogBroker,
  TaskLogPage,
  TaskLogQuery,
} from '../../src/task-log-broker.ts';
import type { TaskStatus } from '../../src/task-status.ts';
import { attemptText, change, claim, isHeldBy, renew, settle, start } from '../../src/task-transitions.ts';
import type { Step } from '../../src/task-transitions.ts';
import { closedError, refuseTransaction } from './guard.ts';
import type { InMemoryOptions } from './guard.ts';
import { changed, entryOf, newRow } from './rows.ts';
import type { Row } from './rows.ts';
import { matches, pageOf } from './search.ts';

const NAME = 'in-memory task log';

const STATUSES_WITH_MESSAGE: readonly TaskStatus[] = ['enqueued', 'dequeued', 'running'];

/** Rows in the memory of this process: they end with it. */
export class InMemoryTaskLogBroker implements TaskLogBroker {
  readonly id = 'memory';
  readonly shared = false;
  readonly #clock: Clock;
  readonly #rows = new Map<string, Row>();
  /** The ids whose `pushAt` is set, so that a relay never looks at the rest. */
  readonly #owing = new Set<string>();
  readonly #lines = new Map<string, TaskLine[]>();
  #closed = false;

  constructor(options: InMemoryOptions = {}) {
    this.#clock = options.clock ?? systemClock;
  }

  async createContainer(): Promise<void> {
    this.#guard('createContainer');
  }

  async insert(entries: readonly NewTaskLogEntry[], tx?: Transaction): Promise<string[]> {
    const now = this.#guard('insert', tx);
    const added: string[] = [];
    for (const entry of entries) {
      if (this.#rows.has(entry.id)) continue;
      this.#keep(newRow(entry, now));
      added.push(entry.id);
    }
    return added;
  }

  async claim(
    ids: readonly string[],
    options: ClaimOptions & { readonly owe: boolean },
    tx?: Transaction,
  ): Promise<ClaimAnswer[]> {
    const now = this.#guard('claim', tx);
    let startable = options.start;
    return ids.map((id) => {
      const row = this.#rows.get(id);
      if (row === undefined) return { id, kind: 'missing' };
      const step = claim(row, { ...options, mayStart: startable > 0 }, now);
      if (step.next?.status === 'running') startable -= 1;
      return this.#take(step, now);
    });
  }

  async settle(
    settlements: readonly Settlement[],
    starting: readonly HeldTask[],
    tx?: Transaction,
  ): Promise<LogSettleAnswers> {
    const now = this.#guard('settle', tx);
    return {
      settled: settlements.map((settlement) => this.#settle(settlement, now)),
      started: starting.map((task): StartAnswer =>
        this.#take(start(this.#rows.get(task.id), task, now), now),
      ),
    };
  }

  async renew(tasks: readonly HeldTask[], leaseMs: number): Promise<RenewAnswer[]> {
    const now = this.#guard('renew');
    return tasks.map((task) => this.#take(renew(this.#rows.get(task.id), task, leaseMs, now), now));
  }

  async change(
    act: TaskAct,
    ids: readonly string[],
    options: ChangeOptions,
    tx?: Transaction,
  ): Promise<ChangeAnswer[]> {
    const now = this.#guard('change', tx);
    return [...new Set(ids)].flatMap((id) => {
      const row = this.#rows.get(id);
      const next = row === undefined ? undefined : change(row, act, options, now);
      if (next === undefined) return [];
      this.#keep(changed(next, now));
      const { status, generation, notBefore } = next;
      return [{ id, status, generation, dueInMs: Math.max(0, notBefore - now) }];
    });
  }

  async owed(queue: string, limit: number): Promise<readonly OwedRow[]> {
    const now = this.#guard('owed');
    const due: { readonly row: Row; readonly pushAt: number }[] = [];
    for (const id of this.#owing) {
      const row = this.#rows.get(id);
      if (row === undefined || row.pushAt === null || row.pushAt > now) continue;
      if (row.queue !== queue || !STATUSES_WITH_MESSAGE.includes(row.status)) continue;
      due.push({ row, pushAt: row.pushAt });
    }
    due.sort((a, b) => a.pushAt - b.pushAt);
    return due.slice(0, limit).map(({ row }) => ({ entry: entryOf(row), dueInMs: row.notBefore - now }));
  }

  async pushed(
    rows: readonly {
      readonly id: string;
      readonly generation: number;
      readonly nextPushInMs: number | null;
    }[],
  ): Promise<string[]> {
    const now = this.#guard('pushed');
    return rows.flatMap(({ id, generation, nextPushInMs }) => {
      const row = this.#rows.get(id);
      if (row?.generation !== generation) return [];
      this.#keep(changed({ ...row, pushAt: nextPushInMs === null ? null : now + nextPushInMs }, now));
      return [id];
    });
  }

  async search(query: TaskLogQuery, page: Page): Promise<TaskLogPage> {
    this.#guard('search');
    const { entries, ...rest } = pageOf(this.#matching(query), page);
    return { entries: entries.map(entryOf), ...rest };
  }

  async stats(query: TaskLogQuery): Promise<Partial<Record<TaskStatus, number>>> {
    this.#guard('stats');
    const counts: Partial<Record<TaskStatus, number>> = {};
    for (const { status } of this.#matching(query)) counts[status] = (counts[status] ?? 0) + 1;
    return counts;
  }

  async append(lines: readonly (TaskLine & { readonly token?: string })[]): Promise<void> {
    this.#guard('append');
    for (const { token, ...line } of lines) {
      const row = this.#rows.get(line.taskId);
      if (token === undefined || (row !== undefined && isHeldBy(row, token))) this.#append(line);
    }
  }

  async lines(taskId: string, page: Page): Promise<readonly TaskLine[]> {
    this.#guard('lines');
    const lines = this.#lines.get(taskId) ?? [];
    const ordered = page.order === 'oldest' ? lines : lines.toReversed();
    const start = page.offset ?? 0;
    return ordered.slice(start, start + page.limit);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#rows.clear();
    this.#owing.clear();
    this.#lines.clear();
  }

  #settle(settlement: Settlement, now: number): LogSettleAnswer {
    const { id } = settlement.task;
    const row = this.#rows.get(id);
    const step = settle(row, settlement, now);
    if (
      row !== undefined &&
      step.next !== undefined &&
      settlement.kind === 'retry' &&
      settlement.cause !== undefined
    ) {
      this.#append({ taskId: id, kind: 'attempt', at: now, text: attemptText(row, settlement.cause, now) });
    }
    return this.#take(step, now);
  }

  #take<Answer>({ answer, next }: Step<Answer, Row>, now: number): Answer {
    if (next !== undefined) this.#keep(changed(next, now));
    return answer;
  }

  #keep(row: Row): void {
    const { id, pushAt } = row;
    this.#rows.set(id, row);
    if (pushAt === null) this.#owing.delete(id);
    else this.#owing.add(id);
  }

  #append(line: TaskLine): void {
    const lines = this.#lines.get(line.taskId);
    if (lines === undefined) this.#lines.set(line.taskId, [line]);
    else lines.push(line);
  }

  #matching(query: TaskLogQuery): Row[] {
    const candidates =
      query.ids === undefined
        ? this.#rows.values()
        : [...new Set(query.ids)].flatMap((id) => this.#rows.get(id) ?? []);
    const rows: Row[] = [];
    for (const row of candidates) if (matches(query, row)) rows.push(row);
    return rows;
  }

  /** Answers the time of the call. */
  #guard(operation: string, tx?: Transaction): number {
    if (this.#closed) throw closedError(NAME, operation);
    refuseTransaction(NAME, operation, tx);
    return this.#clock.now();
  }
}
