import type { NewTaskLogEntry, TaskLogEntry } from '../../src/task-log-broker.ts';
import { HELD_STATUSES } from '../../src/task-status.ts';

/** Never altered: a change makes a new row, so an entry once read stays what it was. */
export interface Row {
  readonly entry: TaskLogEntry;
  readonly token: string | null;
}

/** `row` is the very row that was asked about when nothing changed. */
export interface Outcome<Answer> {
  readonly row: Row;
  readonly answer: Answer;
}

export type Changes = Partial<TaskLogEntry>;

export function changed(row: Row, now: number, changes: Changes, token: string | null = row.token): Row {
  return { entry: { ...row.entry, ...changes, updatedAt: now }, token };
}

/** Every write of `pushAt` is a new generation, so that a debt cleared late never clears a newer one. */
export function owing(row: Row, pushAt: number | null): Changes {
  return { pushAt, generation: row.entry.generation + 1 };
}

export function movedDebt(row: Row, pushAt: number): Changes {
  return row.entry.pushAt === null ? {} : owing(row, pushAt);
}

export function holds(row: Row | undefined, token: string): row is Row {
  return row?.token === token && HELD_STATUSES.includes(row.entry.status);
}

export function newRow(task: NewTaskLogEntry, now: number): Row {
  const { delayMs, owedInMs, claim, ...fields } = task;
  const entry: TaskLogEntry = {
    ...fields,
    status: claim === undefined ? 'enqueued' : claim.start ? 'running' : 'dequeued',
    attempts: 0,
    lapses: 0,
    unknowns: 0,
    report: null,
    worker: claim?.worker ?? null,
    deadReason: null,
    notBefore: now + delayMs,
    claimUntil: claim === undefined ? null : now + claim.leaseMs,
    pushAt: owedInMs === null ? null : now + owedInMs,
    generation: 1,
    cancelRequestedAt: null,
    createdAt: now,
    updatedAt: now,
    startedAt: claim?.start === true ? now : null,
    finishedAt: null,
  };
  return { entry, token: claim?.token ?? null };
}

/** Finished by an act, not by a run: `token` fences whoever may still hold it. */
export function cancelled(row: Row, now: number, token: string | null, changes: Changes = {}): Row {
  const finished: Changes = {
    status: 'cancelled',
    finishedAt: now,
    cancelRequestedAt: null,
    ...owing(row, null),
    ...changes,
  };
  return changed(row, now, finished, token);
}
