import type {
  ChangeOptions,
  ClaimAnswer,
  ClaimOptions,
  HeldTask,
  LapsedClaim,
  LogSettleAnswer,
  RenewAnswer,
  Settlement,
  StartAnswer,
  TaskAct,
} from '../../src/task-log-broker.ts';
import { HELD_STATUSES, mayChange } from '../../src/task-status.ts';
import type { TaskStatus } from '../../src/task-status.ts';
import { cancelled, changed, holds, movedDebt, owing } from './rows.ts';
import type { Changes, Outcome, Row } from './rows.ts';

export interface ClaimTerms extends Omit<ClaimOptions, 'start'> {
  readonly owe: boolean;
  /** Whether this very task is to start. */
  readonly start: boolean;
}

function claimedAnswer(row: Row, leaseLeftMs: number, lapsed?: LapsedClaim): ClaimAnswer {
  const { id, status, attempts, lapses, unknowns } = row.entry;
  const lapse = lapsed === undefined ? {} : { lapsed };
  return {
    id,
    kind: 'claimed',
    started: status === 'running',
    attempts,
    lapses,
    unknowns,
    leaseLeftMs,
    ...lapse,
  };
}

/** Whether somebody held it before and let the claim lapse: only asked of rows that may be claimed. */
function lapsedClaim(row: Row): LapsedClaim | undefined {
  if (!HELD_STATUSES.includes(row.entry.status)) return undefined;
  return { worker: row.entry.worker, started: row.entry.startedAt !== null };
}

function takenOver(row: Row, terms: ClaimTerms, now: number): Outcome<ClaimAnswer> {
  const lapsed = lapsedClaim(row);
  const crashed = lapsed?.started === true;
  const starts = terms.start && !crashed;
  const changes: Changes = {
    status: starts ? 'running' : 'dequeued',
    startedAt: starts ? now : null,
    worker: terms.worker,
    claimUntil: now + terms.leaseMs,
    lapses: row.entry.lapses + (crashed ? 1 : 0),
  };
  const next = changed(row, now, changes, terms.token);
  return { row: next, answer: claimedAnswer(next, terms.leaseMs, lapsed) };
}

export function claimRow(row: Row, terms: ClaimTerms, now: number): Outcome<ClaimAnswer> {
  const { id, status, notBefore, claimUntil, cancelRequestedAt } = row.entry;
  if (holds(row, terms.token)) return { row, answer: claimedAnswer(row, (claimUntil ?? now) - now) };
  const held = HELD_STATUSES.includes(status);
  if (!held && status !== 'enqueued') return { row, answer: { id, kind: 'finished', status } };
  if (!held && notBefore > now) return { row, answer: { id, kind: 'early', inMs: notBefore - now } };
  if (held && claimUntil !== null && claimUntil > now) {
    const next = terms.owe ? changed(row, now, owing(row, claimUntil)) : row;
    return { row: next, answer: { id, kind: 'held', inMs: claimUntil - now } };
  }
  if (cancelRequestedAt !== null) {
    const next = cancelled(row, now, null, { claimUntil: null });
    return { row: next, answer: { id, kind: 'finished', status: 'cancelled' } };
  }
  return takenOver(row, terms, now);
}

/** The statuses that a settlement of this kind writes; a row that has one under the same token is a repeat. */
function written(kind: Settlement['kind']): readonly TaskStatus[] {
  switch (kind) {
    case 'completed':
    case 'failed':
    case 'child_running':
    case 'cancelled':
      return [kind];
    case 'retry':
    case 'again':
    case 'give-back':
      return ['enqueued', 'cancelled'];
  }
}

function settledRow(row: Row, settlement: Settlement, now: number): Row {
  const { entry, token } = row;
  const ran = entry.startedAt === null ? 0 : 1;
  switch (settlement.kind) {
    case 'completed':
    case 'failed':
    case 'child_running':
    case 'cancelled':
      return changed(row, now, {
        status: settlement.kind,
        report: settlement.report,
        deadReason: settlement.kind === 'cancelled' ? null : (settlement.deadReason ?? null),
        finishedAt: settlement.kind === 'child_running' ? null : now,
        attempts: entry.attempts + ran,
        claimUntil: null,
        cancelRequestedAt: null,
        ...owing(row, null),
      });
    case 'retry':
    case 'again':
    case 'give-back': {
      const attempts = entry.attempts + (settlement.kind === 'retry' ? ran : 0);
      if (entry.cancelRequestedAt !== null) return cancelled(row, now, token, { attempts, claimUntil: null });
      const notBefore = now + settlement.afterMs;
      return changed(row, now, {
        status: 'enqueued',
        attempts,
        unknowns: entry.unknowns + (settlement.unknown === true ? 1 : 0),
        startedAt: null,
        claimUntil: null,
        notBefore,
        ...movedDebt(row, notBefore),
      });
    }
  }
}

export function settleRow(
  row: Row | undefined,
  settlement: Settlement,
  now: number,
): Outcome<LogSettleAnswer> | null {
  const { id, token } = settlement.task;
  if (row?.token !== token) return null;
  if (HELD_STATUSES.includes(row.entry.status)) {
    const next = settledRow(row, settlement, now);
    return { row: next, answer: { id, log: 'written', status: next.entry.status } };
  }
  const { status } = row.entry;
  return written(settlement.kind).includes(status) ? { row, answer: { id, log: 'written', status } } : null;
}

export function startRow(row: Row | undefined, task: HeldTask, now: number): Outcome<StartAnswer> | null {
  const { id, token } = task;
  if (!holds(row, token)) return null;
  if (row.entry.status === 'running') return { row, answer: { id, kind: 'started' } };
  if (row.entry.cancelRequestedAt !== null) {
    return { row: cancelled(row, now, token, { claimUntil: null }), answer: { id, kind: 'cancelled' } };
  }
  return {
    row: changed(row, now, { status: 'running', startedAt: now }),
    answer: { id, kind: 'started' },
  };
}

export function renewRow(
  row: Row | undefined,
  task: HeldTask,
  leaseMs: number,
  now: number,
): Outcome<RenewAnswer> | null {
  if (!holds(row, task.token)) return null;
  const claimUntil = now + leaseMs;
  const kind = row.entry.cancelRequestedAt === null ? 'renewed' : 'cancel';
  return {
    row: changed(row, now, { claimUntil, ...movedDebt(row, claimUntil) }),
    answer: { id: task.id, kind },
  };
}

function retried(row: Row, options: ChangeOptions, token: string, now: number): Row {
  const owedInMs = options.owedInMs ?? null;
  const fresh: Changes = {
    status: 'enqueued',
    attempts: 0,
    lapses: 0,
    unknowns: 0,
    startedAt: null,
    finishedAt: null,
    cancelRequestedAt: null,
    report: null,
    deadReason: null,
    claimUntil: null,
    notBefore: Math.max(now, row.entry.claimUntil ?? 0),
    ...owing(row, owedInMs === null ? null : now + owedInMs),
  };
  return changed(row, now, fresh, token);
}

function failedPush(row: Row, options: ChangeOptions, token: string, now: number): Row {
  const failed: Changes = {
    status: 'failed',
    report: options.report ?? null,
    deadReason: options.deadReason ?? null,
    finishedAt: now,
    ...owing(row, null),
  };
  return changed(row, now, failed, token);
}

/** The row after a change from outside a run; null when its status does not allow it. */
export function changeRow(
  row: Row,
  act: TaskAct,
  options: ChangeOptions,
  token: string,
  now: number,
): Row | null {
  const { status } = row.entry;
  const force = options.force === true;
  switch (act) {
    case 'cancel':
      if (status === 'cancelled' || status === 'archived' || !mayChange(status, 'cancelled', force))
        return null;
      // The end of the claim stays in the row: an operator's retry must not overtake its holder.
      return status === 'running' && !force
        ? changed(row, now, { cancelRequestedAt: now })
        : cancelled(row, now, token);
    case 'archive':
      if (status === 'archived' || !mayChange(status, 'archived', force)) return null;
      return changed(row, now, { status: 'archived', claimUntil: null, ...owing(row, null) }, token);
    case 'retry':
      return status === 'failed' || status === 'cancelled' ? retried(row, options, token, now) : null;
    case 'fail':
      return status === 'enqueued' ? failedPush(row, options, token, now) : null;
  }
}
