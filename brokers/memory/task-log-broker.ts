import { newId, systemClock } from '../../src/environment.ts';
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
  TaskLogEntry,
  TaskLogPage,
  TaskLogQuery,
} from '../../src/task-log-broker.ts';
import type { TaskStatus } from '../../src/task-status.ts';
import { closedError, refuseTransaction } from './guard.ts';
import type { InMemoryOptions } from './guard.ts';
import { changed, holds, newRow } from './rows.ts';
import type { Row } from './rows.ts';
import { matches, pageOf } from './search.ts';
import { changeRow, claimRow, renewRow, settleRow, startRow } from './transitions.ts';

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
      const { row: next, answer } = claimRow(row, { ...options, start: startable > 0 }, now);
      if (next !== row && next.entry.status === 'running' && answer.kind === 'claimed') startable -= 1;
      this.#keep(next);
      return answer;
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
      started: starting.map((task): StartAnswer => {
        const outcome = startRow(this.#rows.get(task.id), task, now);
        if (outcome === null) return { id: task.id, kind: 'lost' };
        this.#keep(outcome.row);
        return outcome.answer;
      }),
    };
  }

  async renew(tasks: readonly HeldTask[], leaseMs: number): Promise<RenewAnswer[]> {
    const now = this.#guard('renew');
    return tasks.map((task) => {
      const outcome = renewRow(this.#rows.get(task.id), task, leaseMs, now);
      if (outcome === null) return { id: task.id, kind: 'lost' };
      this.#keep(outcome.row);
      return outcome.answer;
    });
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
      const next = row === undefined ? null : changeRow(row, act, options, newId(now), now);
      if (next === null) return [];
      this.#keep(next);
      const { status, generation, notBefore } = next.entry;
      return [{ id, status, generation, dueInMs: Math.max(0, notBefore - now) }];
    });
  }

  async owed(queue: string, limit: number): Promise<readonly OwedRow[]> {
    const now = this.#guard('owed');
    const due: { readonly entry: TaskLogEntry; readonly pushAt: number }[] = [];
    for (const id of this.#owing) {
      const entry = this.#rows.get(id)?.entry;
      if (entry === undefined || entry.pushAt === null || entry.pushAt > now) continue;
      if (entry.queue !== queue || !STATUSES_WITH_MESSAGE.includes(entry.status)) continue;
      due.push({ entry, pushAt: entry.pushAt });
    }
    due.sort((a, b) => a.pushAt - b.pushAt);
    return due.slice(0, limit).map(({ entry }) => ({ entry, dueInMs: entry.notBefore - now }));
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
      if (row?.entry.generation !== generation) return [];
      this.#keep(changed(row, now, { pushAt: nextPushInMs === null ? null : now + nextPushInMs }));
      return [id];
    });
  }

  async search(query: TaskLogQuery, page: Page): Promise<TaskLogPage> {
    this.#guard('search');
    return pageOf(this.#matching(query), page);
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
      if (token === undefined || holds(this.#rows.get(line.taskId), token)) this.#append(line);
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
    const outcome = settleRow(row, settlement, now);
    if (outcome === null || row === undefined) return { id, log: 'lost' };
    if (outcome.row !== row && settlement.kind === 'retry' && settlement.cause !== undefined) {
      const { attempts, lapses, worker, startedAt } = row.entry;
      const attempt = attempts + lapses + 1;
      const text = JSON.stringify({ attempt, worker, startedAt, endedAt: now, cause: settlement.cause });
      this.#append({ taskId: id, kind: 'attempt', at: now, text });
    }
    this.#keep(outcome.row);
    return outcome.answer;
  }

  #keep(row: Row): void {
    const { id, pushAt } = row.entry;
    this.#rows.set(id, row);
    if (pushAt === null) this.#owing.delete(id);
    else this.#owing.add(id);
  }

  #append(line: TaskLine): void {
    const lines = this.#lines.get(line.taskId);
    if (lines === undefined) this.#lines.set(line.taskId, [line]);
    else lines.push(line);
  }

  #matching(query: TaskLogQuery): TaskLogEntry[] {
    const candidates =
      query.ids === undefined
        ? this.#rows.values()
        : [...new Set(query.ids)].flatMap((id) => this.#rows.get(id) ?? []);
    const entries: TaskLogEntry[] = [];
    for (const { entry } of candidates) if (matches(query, entry)) entries.push(entry);
    return entries;
  }

  /** Answers the time of the call. */
  #guard(operation: string, tx?: Transaction): number {
    if (this.#closed) throw closedError(NAME, operation);
    refuseTransaction(NAME, operation, tx);
    return this.#clock.now();
  }
}
