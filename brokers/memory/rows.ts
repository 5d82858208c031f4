import type { NewTaskLogEntry, TaskLogEntry } from '../../src/task-log-broker.ts';
import type { LogRow } from '../../src/task-transitions.ts';

/** Never altered: a change makes a new row, so an entry once read stays what it was. */
export type Row = TaskLogEntry & LogRow;

export function newRow(task: NewTaskLogEntry, now: number): Row {
  const { delayMs, owedInMs, claim, ...fields } = task;
  return {
    ...fields,
    status: claim === undefined ? 'enqueued' : claim.start ? 'running' : 'dequeued',
    attempts: 0,
    lapses: 0,
    unknowns: 0,
    report: null,
    token: claim?.token ?? null,
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
}

/** The row as it is kept after a change. */
export function changed({ outcome, ...row }: Row, now: number): Row {
  return { ...row, ...outcome, updatedAt: now };
}

/** What a reader sees: who holds the task is nobody's business. */
export function entryOf(row: Row): TaskLogEntry {
  const { token: _token, outcome: _outcome, ...entry } = row;
  return entry;
}
