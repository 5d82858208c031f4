import { randomUUID } from 'node:crypto';
import type { Delivery, OutgoingMessage, QueueCount, Receipt } from '../../src/queue-broker.ts';
import type { Dialect } from './dialect.ts';
import { integer, text, textOrNull, wholeMs } from './session.ts';
import type { Session } from './session.ts';

export interface NewMessage extends Omit<OutgoingMessage, 'group'> {
  readonly group?: string | null;
}

/** A message taken from the head of its queue in a transaction that has not lent it yet. */
export interface ReadyMessage {
  readonly seq: number;
  readonly id: string;
  readonly body: string;
  readonly group: string | null;
}

/** What a look at a queue without any lock has seen. */
export interface QueueState {
  readonly ready: boolean;
  /** Delays or leases that are over: these messages have to be woken before they can be taken. */
  readonly due: boolean;
}

/** A receipt: which row, and the mark that this delivery left in it. */
interface Held {
  readonly seq: number;
  readonly mark: string;
}

const WAKE_LIMIT = 500;

/** The messages of all queues. Its methods are steps of a transaction, but for those that only read. */
export class MessageTable {
  readonly #sql: ReturnType<typeof statements>;

  constructor(dialect: Dialect) {
    this.#sql = statements(dialect);
  }

  async push(session: Session, queue: string, messages: readonly NewMessage[]): Promise<void> {
    for (const { id, body, delayMs, priority, group, generation } of messages) {
      const delay = wholeMs(delayMs ?? 0);
      await session.run(this.#sql.push, [
        queue,
        delay > 0 ? 1 : 0,
        0 - (priority ?? 0),
        delay,
        id,
        group ?? null,
        body,
        generation,
      ]);
    }
  }

  /** Takes no lock, so that idle workers disturb nobody. */
  async look(session: Session, queue: string): Promise<QueueState> {
    const [row] = await session.all(this.#sql.look, [queue, queue]);
    return { ready: Number(row?.ready) === 1, due: Number(row?.due) === 1 };
  }

  async wake(session: Session, queue: string): Promise<void> {
    await session.run(this.#sql.wake, [queue]);
  }

  async take(session: Session, queue: string, max: number): Promise<ReadyMessage[]> {
    const rows = await session.all(this.#sql.take, [queue, max]);
    return rows.map((row) => ({
      seq: integer(row, 'seq'),
      id: text(row, 'id'),
      body: text(row, 'body'),
      group: textOrNull(row, 'grp'),
    }));
  }

  /** Answers the mark that makes the receipts of these messages. */
  async lend(session: Session, messages: readonly ReadyMessage[], leaseMs: number): Promise<string> {
    const mark = randomUUID();
    if (messages.length > 0) {
      await session.run(this.#sql.lend, [wholeMs(leaseMs), mark, seqs(messages)]);
    }
    return mark;
  }

  /** Those whose latest delivery the receipts are of. Their leases may be over. */
  async held(session: Session, queue: string, receipts: readonly Receipt[]): Promise<Map<Receipt, number>> {
    const known = receipts.flatMap((receipt) => {
      const held = parsed(receipt);
      return held === null ? [] : [{ receipt, ...held }];
    });
    if (known.length === 0) return new Map();
    const rows = await session.all(this.#sql.marks, [queue, seqs(known)]);
    const marks = new Map(rows.map((row) => [integer(row, 'seq'), textOrNull(row, 'receipt')]));
    return new Map(
      known.filter(({ seq, mark }) => marks.get(seq) === mark).map(({ receipt, seq }) => [receipt, seq]),
    );
  }

  async remove(session: Session, numbers: readonly number[]): Promise<void> {
    if (numbers.length > 0) await session.run(this.#sql.remove, [JSON.stringify(numbers)]);
  }

  /** Nobody holds the message any more; it may be taken after the delay. */
  async putBack(
    session: Session,
    messages: readonly { readonly seq: number; readonly delayMs: number }[],
  ): Promise<void> {
    for (const { seq, delayMs } of messages) {
      const delay = wholeMs(delayMs);
      await session.run(this.#sql.putBack, [delay > 0 ? 1 : 0, delay, seq]);
    }
  }

  async extend(session: Session, numbers: readonly number[], leaseMs: number): Promise<void> {
    if (numbers.length === 0) return;
    await session.run(this.#sql.extend, [wholeMs(leaseMs), JSON.stringify(numbers)]);
  }

  async count(session: Session, queue: string): Promise<QueueCount> {
    const [row] = await session.all(this.#sql.count, [queue, queue, queue, queue]);
    const of = (name: string): number => Number(row?.[name] ?? 0);
    return { ready: of('ready'), delayed: of('delayed'), leased: of('leased'), exact: true };
  }

  /** When each queue has something to take, in one statement; empty queues are left out. */
  async nextOf(
    session: Session,
    queues: readonly string[],
  ): Promise<{ readonly queue: string; readonly inMs: number }[]> {
    const rows = await session.all(this.#sql.next, [JSON.stringify(queues)]);
    const waits = new Map(rows.map((row) => [text(row, 'queue'), integer(row, 'wait')]));
    return queues.flatMap((queue) => {
      const wait = waits.get(queue);
      return wait === undefined ? [] : [{ queue, inMs: Math.max(0, wait) }];
    });
  }
}

export function deliveryOf(message: ReadyMessage, mark: string, leaseMs: number): Delivery {
  return {
    id: message.id,
    body: message.body,
    receipt: `${mark}:${message.seq}` as Receipt,
    ...(message.group === null ? {} : { group: message.group }),
    leaseLeftMs: leaseMs,
  };
}

/** The row that a receipt was given for, whoever holds it now; null for what is no receipt of ours. */
export function seqOf(receipt: Receipt): number | null {
  return parsed(receipt)?.seq ?? null;
}

function parsed(receipt: Receipt): Held | null {
  const [, mark, seq] = /^([0-9a-f-]{36}):([0-9]{1,15})$/.exec(receipt) ?? [];
  return mark === undefined || seq === undefined ? null : { mark, seq: Number(seq) };
}

function seqs(messages: readonly { readonly seq: number }[]): string {
  return JSON.stringify(messages.map(({ seq }) => seq));
}

function statements({ now, among, values, lock, skipLocked }: Dialect) {
  const these = among('seq', 'integer');
  const notDue = `queue = ? and state = 1 and due > ${now}`;
  const due = `queue = ? and state = 1 and due <= ${now}`;
  return {
    push: `insert into tq_message (queue, state, prio, due, task_id, grp, receipt, receives, body, generation)
      values (?, ?, ?, ${now} + ?, ?, ?, null, 0, ?, ?)`,
    look: `select exists (select 1 from tq_message where queue = ? and state = 0) as ready,
      exists (select 1 from tq_message where ${due}) as due`,
    wake: `update tq_message set state = 0 where seq in (
      select seq from tq_message where ${due} order by due limit ${WAKE_LIMIT})`,
    take: `select seq, task_id as id, body, grp from tq_message where queue = ? and state = 0
      order by prio, seq limit ?${skipLocked}`,
    lend: `update tq_message set state = 1, due = ${now} + ?, receipt = ?, receives = receives + 1 where ${these}`,
    marks: `select seq, receipt from tq_message where queue = ? and ${these}${lock}`,
    remove: `delete from tq_message where ${these}`,
    putBack: `update tq_message set state = ?, due = ${now} + ?, receipt = null where seq = ?`,
    extend: `update tq_message set state = 1, due = ${now} + ? where ${these}`,
    count: `select (select count(*) from tq_message where queue = ? and state = 0)
        + (select count(*) from tq_message where ${due}) as ready,
      (select count(*) from tq_message where ${notDue} and receipt is null) as delayed,
      (select count(*) from tq_message where ${notDue} and receipt is not null) as leased`,
    next: `select name as queue,
        case when exists (select 1 from tq_message where queue = name and state = 0) then 0
        else (select min(due) from tq_message where queue = name and state = 1) - ${now} end as wait
      from (${values('name')}) as names
      where exists (select 1 from tq_message where queue = name and state = 0)
        or exists (select 1 from tq_message where queue = name and state = 1)`,
  };
}
