import type { TaskStatus } from '../../src/task-status.ts';
import { integer, integerOrNull, text, textOrNull } from './session.ts';
import type { Binding, Row } from './session.ts';
import type { LogRow, Step } from '../../src/task-transitions.ts';

/** What of a row moves, in the order of `movedBindings`. */
export const MOVED_COLUMNS = `status = ?, attempts = ?, lapses = ?, unknowns = ?, token = ?, claim_until = ?, worker = ?,
    started_at = ?, not_before = ?, push_at = ?, generation = ?, cancel_requested_at = ?, finished_at = ?,
    updated_at = ?`;

export const LOCKED_COLUMNS = `id, status, attempts, lapses, unknowns, token, claim_until as "claimUntil", worker,
      started_at as "startedAt", not_before as "notBefore", push_at as "pushAt", generation,
      cancel_requested_at as "cancelRequestedAt", finished_at as "finishedAt"`;

/** Rows read for a change: later steps of the same call see what earlier ones made of them. */
export class LockedRows {
  /** The database's clock when they were read. */
  readonly now: number;
  readonly #rows: Map<string, LogRow>;
  readonly #changed = new Set<string>();

  constructor(rows: readonly Row[]) {
    const [first] = rows;
    this.now = first === undefined ? 0 : integer(first, 'now');
    this.#rows = new Map(rows.map((row) => [text(row, 'id'), logRow(row)]));
  }

  get(id: string): LogRow | undefined {
    return this.#rows.get(id);
  }

  apply<Answer>({ answer, next }: Step<Answer>): Answer {
    if (next !== undefined) {
      this.#rows.set(next.id, next);
      this.#changed.add(next.id);
    }
    return answer;
  }

  changed(): LogRow[] {
    return [...this.#changed].flatMap((id) => this.#rows.get(id) ?? []);
  }
}

export function movedBindings(row: LogRow, now: number): Binding[] {
  return [
    row.status,
    row.attempts,
    row.lapses,
    row.unknowns,
    row.token,
    row.claimUntil,
    row.worker,
    row.startedAt,
    row.notBefore,
    row.pushAt,
    row.generation,
    row.cancelRequestedAt,
    row.finishedAt,
    now,
  ];
}

function logRow(row: Row): LogRow {
  return {
    id: text(row, 'id'),
    status: text(row, 'status') as TaskStatus,
    attempts: integer(row, 'attempts'),
    lapses: integer(row, 'lapses'),
    unknowns: integer(row, 'unknowns'),
    token: textOrNull(row, 'token'),
    claimUntil: integerOrNull(row, 'claimUntil'),
    worker: textOrNull(row, 'worker'),
    startedAt: integerOrNull(row, 'startedAt'),
    notBefore: integer(row, 'notBefore'),
    pushAt: integerOrNull(row, 'pushAt'),
    generation: integer(row, 'generation'),
    cancelRequestedAt: integerOrNull(row, 'cancelRequestedAt'),
    finishedAt: integerOrNull(row, 'finishedAt'),
  };
}
