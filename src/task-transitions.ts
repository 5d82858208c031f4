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
} from './task-log-broker.ts';
import { HELD_STATUSES, mayChange } from './task-status.ts';
import type { TaskStatus } from './task-status.ts';

/**
 * What every call of a task log does to a row: pure functions of the row and the storage's time, for all drivers that read
 * a row under a lock, decide, and write it back. A driver that decides inside its database follows the same rules,
 * and the conformance suite holds it to them.
 *
 * This is the part of a row that moves.
 */
export interface LogRow {
  readonly id: string;
  readonly status: TaskStatus;
  readonly attempts: number;
  readonly lapses: number;
  readonly unknowns: number;
  readonly token: string | null;
  readonly claimUntil: number | null;
  readonly worker: string | null;
  readonly startedAt: number | null;
  readonly notBefore: number;
  readonly pushAt: number | null;
  readonly generation: number;
  readonly cancelRequestedAt: number | null;
  readonly finishedAt: number | null;
  /** Only in a row to be written: what the last run left. Absent: as it is. */
  readonly outcome?: { readonly report: string | null; readonly deadReason: string | null };
}

/** `next` absent: nothing changes. */
export interface Step<Answer, Row extends LogRow = LogRow> {
  readonly answer: Answer;
  readonly next?: Row;
}

type Changes = Partial<LogRow>;

/** Every write of `pushAt` counts as a new generation: a debt cleared late must not clear a newer one. */
function owing(row: LogRow, pushAt: number | null): Changes {
  return { pushAt, generation: row.generation + 1 };
}

/** A debt moves along; where none is owed none is made. */
function movedDebt(row: LogRow, pushAt: number): Changes {
  return row.pushAt === null ? {} : owing(row, pushAt);
}

/** Milliseconds that a claim is asked for. It ends before the lease of its message: the log is the judge. */
export function claimLeaseMs(messageLeaseMs: number): number {
  return messageLeaseMs > 2_000 ? messageLeaseMs - 1_000 : messageLeaseMs / 2;
}

export function isHeldBy(row: LogRow, token: string): boolean {
  return row.token === token && HELD_STATUSES.includes(row.status);
}

function cancelled<Row extends LogRow>(row: Row, now: number, changes: Changes): Row {
  return {
    ...row,
    status: 'cancelled',
    finishedAt: now,
    cancelRequestedAt: null,
    ...owing(row, null),
    ...changes,
  };
}

export interface ClaimTerms extends Omit<ClaimOptions, 'start'> {
  readonly owe: boolean;
  /** Whether this very task is to start. */
  readonly mayStart: boolean;
}

export function claim<Row extends LogRow>(row: Row, terms: ClaimTerms, now: number): Step<ClaimAnswer, Row> {
  const { id, status, claimUntil, notBefore } = row;
  if (isHeldBy(row, terms.token)) return { answer: claimedAnswer(row, (claimUntil ?? now) - now) };
  if (status === 'enqueued') {
    if (notBefore > now) return { answer: { id, kind: 'early', inMs: notBefore - now } };
    return taken(row, terms, now);
  }
  if (!HELD_STATUSES.includes(status)) return { answer: { id, kind: 'finished', status } };
  if (claimUntil !== null && claimUntil > now) {
    const answer: ClaimAnswer = { id, kind: 'held', inMs: claimUntil - now };
    return terms.owe ? { answer, next: { ...row, ...owing(row, claimUntil) } } : { answer };
  }
  return taken(row, terms, now, { worker: row.worker, started: row.startedAt !== null });
}

function taken<Row extends LogRow>(
  row: Row,
  terms: ClaimTerms,
  now: number,
  lapsed?: LapsedClaim,
): Step<ClaimAnswer, Row> {
  if (row.cancelRequestedAt !== null) {
    const next = cancelled(row, now, { token: null, claimUntil: null });
    return { answer: { id: row.id, kind: 'finished', status: 'cancelled' }, next };
  }
  const crashed = lapsed?.started === true;
  // Whoever claims a task whose run was lost has to decide first whether it may run once more.
  const starts = terms.mayStart && !crashed && row.lapses === 0;
  const next: Row = {
    ...row,
    status: starts ? 'running' : 'dequeued',
    startedAt: starts ? now : null,
    lapses: row.lapses + (crashed ? 1 : 0),
    token: terms.token,
    worker: terms.worker,
    claimUntil: now + terms.leaseMs,
  };
  return { answer: claimedAnswer(next, terms.leaseMs, lapsed), next };
}

function claimedAnswer(row: LogRow, leaseLeftMs: number, lapsed?: LapsedClaim): ClaimAnswer {
  const { id, status, attempts, lapses, unknowns } = row;
  const started = status === 'running';
  return {
    id,
    kind: 'claimed',
    started,
    attempts,
    lapses,
    unknowns,
    leaseLeftMs,
    ...(lapsed === undefined ? {} : { lapsed }),
  };
}

export function settle<Row extends LogRow>(
  row: Row | undefined,
  settlement: Settlement,
  now: number,
): Step<LogSettleAnswer, Row> {
  const { id, token } = settlement.task;
  if (row?.token !== token) return { answer: { id, log: 'lost' } };
  if (HELD_STATUSES.includes(row.status)) {
    const next = settled(row, settlement, now);
    return { answer: { id, log: 'written', status: next.status }, next };
  }
  // The token stays in a settled row: a repeat, after an answer that was lost, finds its own work done.
  const { status } = row;
  const repeated =
    status === settlement.kind ||
    ('afterMs' in settlement && (status === 'enqueued' || status === 'cancelled'));
  return { answer: repeated ? { id, log: 'written', status } : { id, log: 'lost' } };
}

function settled<Row extends LogRow>(row: Row, settlement: Settlement, now: number): Row {
  const ran = row.startedAt === null ? 0 : 1;
  if ('afterMs' in settlement) {
    const attempts = row.attempts + (settlement.kind === 'retry' ? ran : 0);
    if (row.cancelRequestedAt !== null) return cancelled(row, now, { attempts, claimUntil: null });
    const notBefore = now + settlement.afterMs;
    return {
      ...row,
      status: 'enqueued',
      attempts,
      unknowns: row.unknowns + (settlement.unknown === true ? 1 : 0),
      startedAt: null,
      claimUntil: null,
      notBefore,
      ...movedDebt(row, notBefore),
    };
  }
  const deadReason = settlement.kind === 'cancelled' ? null : (settlement.deadReason ?? null);
  return {
    ...row,
    status: settlement.kind,
    attempts: row.attempts + ran,
    claimUntil: null,
    cancelRequestedAt: null,
    finishedAt: settlement.kind === 'child_running' ? null : now,
    ...owing(row, null),
    outcome: { report: settlement.report, deadReason },
  };
}

/** What a run leaves behind that is to be followed by another: the text of its line. */
export function attemptText(row: LogRow, cause: string, endedAt: number): string {
  const { attempts, lapses, worker, startedAt } = row;
  return JSON.stringify({ attempt: attempts + lapses + 1, worker, startedAt, endedAt, cause });
}

export function start<Row extends LogRow>(
  row: Row | undefined,
  task: HeldTask,
  now: number,
): Step<StartAnswer, Row> {
  const { id, token } = task;
  if (row === undefined || !isHeldBy(row, token)) return { answer: { id, kind: 'lost' } };
  if (row.status === 'running') return { answer: { id, kind: 'started' } };
  if (row.cancelRequestedAt !== null) {
    return { answer: { id, kind: 'cancelled' }, next: cancelled(row, now, { claimUntil: null }) };
  }
  return { answer: { id, kind: 'started' }, next: { ...row, status: 'running', startedAt: now } };
}

export function renew<Row extends LogRow>(
  row: Row | undefined,
  task: HeldTask,
  leaseMs: number,
  now: number,
): Step<RenewAnswer, Row> {
  const { id, token } = task;
  if (row === undefined || !isHeldBy(row, token)) return { answer: { id, kind: 'lost' } };
  const claimUntil = now + leaseMs;
  const next = { ...row, claimUntil, ...movedDebt(row, claimUntil) };
  return { answer: { id, kind: row.cancelRequestedAt === null ? 'renewed' : 'cancel' }, next };
}

/**
 * The row after an act from outside its run; undefined when its status does not allow it. Without a token nobody
 * holds it: whoever did can write nothing more.
 */
export function change<Row extends LogRow>(
  row: Row,
  act: TaskAct,
  options: ChangeOptions,
  now: number,
): Row | undefined {
  const { status } = row;
  const force = options.force === true;
  switch (act) {
    case 'cancel':
      if (status === 'archived' || status === 'cancelled' || !mayChange(status, 'cancelled', force))
        return undefined;
      if (status === 'running' && !force) return { ...row, cancelRequestedAt: now };
      // The end of the claim stays: a retry of the operator waits for a holder that is still at work.
      return cancelled(row, now, { token: null });
    case 'archive':
      if (status === 'archived' || !mayChange(status, 'archived', force)) return undefined;
      return {
        ...row,
        status: 'archived',
        token: null,
        claimUntil: null,
        finishedAt: row.finishedAt ?? now,
        ...owing(row, null),
      };
    case 'retry':
      return status === 'failed' || status === 'cancelled' ? sentAgain(row, options, now) : undefined;
    case 'fail':
      return status === 'enqueued' ? refused(row, options, now) : undefined;
  }
}

function sentAgain<Row extends LogRow>(row: Row, { owedInMs }: ChangeOptions, now: number): Row {
  return {
    ...row,
    status: 'enqueued',
    attempts: 0,
    lapses: 0,
    unknowns: 0,
    token: null,
    startedAt: null,
    finishedAt: null,
    cancelRequestedAt: null,
    claimUntil: null,
    notBefore: Math.max(now, row.claimUntil ?? 0),
    ...owing(row, owedInMs === undefined || owedInMs === null ? null : now + owedInMs),
    outcome: { report: null, deadReason: null },
  };
}

function refused<Row extends LogRow>(row: Row, { report, deadReason }: ChangeOptions, now: number): Row {
  return {
    ...row,
    status: 'failed',
    token: null,
    finishedAt: now,
    ...owing(row, null),
    outcome: { report: report ?? null, deadReason: deadReason ?? null },
  };
}
