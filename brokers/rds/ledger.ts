import type { DrawnTask, Ledger, NewTask, SettleAnswer, SettleAnswers } from '../../src/ledger.ts';
import type { Receipt } from '../../src/queue-broker.ts';
import type { Transaction } from '../../src/store.ts';
import type {
  ChangeAnswer,
  ChangeOptions,
  ClaimAnswer,
  DrawOptions,
  HeldTask,
  LogSettleAnswer,
  RenewAnswer,
  Settlement,
  TaskAct,
} from '../../src/task-log-broker.ts';
import { claimLeaseMs } from '../../src/task-transitions.ts';
import { LogTable } from './log-table.ts';
import { deliveryOf, MessageTable, seqOf } from './message-table.ts';
import type { ReadyMessage } from './message-table.ts';
import type { Persistence } from './persistence.ts';
import type { Session } from './session.ts';

/** What a copy waits when the row of its task is missing: the message in hand decides what becomes of it. */
const MISSING_COPY_MS = 1_000;

export interface RdsLedgerOptions {
  /** Of the task log. */
  readonly table: string;
  /** The most that one draw gives. */
  readonly maxBatch: number;
  /** Throws when the queue broker or the task log is closed. */
  readonly assertOpen: (operation: string) => void;
}

/** Queue and log in one database: what happens to both happens in one commit, so no message is ever owed. */
export class RdsLedger implements Ledger {
  readonly #options: RdsLedgerOptions;
  readonly #store: Persistence;
  readonly #messages: MessageTable;
  readonly #rows: LogTable;

  constructor(persistence: Persistence, options: RdsLedgerOptions) {
    this.#options = options;
    this.#store = persistence;
    this.#messages = new MessageTable(persistence.dialect);
    this.#rows = new LogTable(persistence.dialect, options.table);
  }

  async enqueue(queue: string, tasks: readonly NewTask[], tx?: Transaction): Promise<string[]> {
    this.#options.assertOpen('enqueue');
    if (tasks.length === 0) return [];
    return this.#store.write(tx, async (session) => {
      const entries = tasks.map(({ entry }) => ({ ...entry, owedInMs: null }));
      const added = await this.#rows.insert(session, entries);
      const accepted = tasks.filter((_, index) => added[index]);
      const messages = accepted.flatMap(({ entry, message }) =>
        message === undefined || entry.claim !== undefined
          ? []
          : [{ delayMs: entry.delayMs, ...message, generation: 1 }],
      );
      await this.#messages.push(session, queue, messages);
      return accepted.map(({ entry }) => entry.id);
    });
  }

  async draw(queue: string, options: DrawOptions): Promise<DrawnTask[]> {
    this.#options.assertOpen('draw');
    const max = Math.min(options.max, this.#options.maxBatch);
    const { ready, due } = await this.#store.read((session) => this.#messages.look(session, queue));
    if (max <= 0 || !(ready || due)) return [];
    return this.#store.write(undefined, async (session) => {
      if (due) await this.#messages.wake(session, queue);
      const { first, copies } = byTask(await this.#messages.take(session, queue, max));
      const leaseMs = claimLeaseMs(options.leaseMs);
      const ids = first.map(({ id }) => id);
      const answers = await this.#rows.claim(session, ids, { ...options, leaseMs, owe: false });
      const byId = new Map(answers.map((answer) => [answer.id, answer]));
      const mark = await this.#lend(session, first, byId, options.leaseMs);
      await this.#putAside(session, first, copies, byId);
      return first.map((message, index) => ({
        delivery: deliveryOf(message, mark, options.leaseMs),
        answer: answers[index] as ClaimAnswer,
      }));
    });
  }

  async settle(
    queue: string,
    settlements: readonly Settlement[],
    starting: readonly HeldTask[],
    tx?: Transaction,
  ): Promise<SettleAnswers> {
    this.#options.assertOpen('settle');
    if (settlements.length === 0 && starting.length === 0) return { settled: [], started: [] };
    return this.#store.write(tx, async (session) => {
      const { settled, started } = await this.#rows.settle(session, settlements, starting);
      const gone = starting.filter((_, index) => started[index]?.kind === 'cancelled');
      const back: (Settlement & { readonly afterMs: number })[] = [];
      settlements.forEach((settlement, index) => {
        const answer = settled[index];
        if (answer?.log !== 'written') return;
        if ('afterMs' in settlement && answer.status === 'enqueued') back.push(settlement);
        else gone.push(settlement.task);
      });
      // Also when the message was lent again meanwhile: its task is finished.
      await this.#messages.remove(session, seqsOf(gone));
      const released = await this.#release(session, queue, back);
      const answers = settlements.map(({ task }, index) =>
        withMessage(settled[index] as LogSettleAnswer, task.receipt, released),
      );
      return { settled: answers, started };
    });
  }

  async renew(queue: string, tasks: readonly HeldTask[], leaseMs: number): Promise<RenewAnswer[]> {
    this.#options.assertOpen('renew');
    if (tasks.length === 0) return [];
    return this.#store.write(undefined, async (session) => {
      const receipts = tasks.flatMap(({ receipt }) => receipt ?? []);
      const held = await this.#messages.held(session, queue, receipts);
      await this.#messages.extend(session, [...held.values()], leaseMs);
      return this.#rows.renew(session, tasks, claimLeaseMs(leaseMs));
    });
  }

  async change(
    queue: string,
    act: TaskAct,
    ids: readonly string[],
    options: ChangeOptions,
  ): Promise<ChangeAnswer[]> {
    this.#options.assertOpen('change');
    if (ids.length === 0) return [];
    return this.#store.write(undefined, async (session) => {
      const changed = await this.#rows.change(session, act, ids, { ...options, owedInMs: null });
      if (act === 'retry') {
        const again = changed.map(({ id }) => id);
        await this.#messages.push(session, queue, await this.#rows.messages(session, again));
      }
      return changed;
    });
  }

  /** Debts there are only from a time when queue and log lived apart. */
  async relay(queue: string, limit: number): Promise<number> {
    this.#options.assertOpen('relay');
    const owed = await this.#store.read((session) => this.#rows.owedMessages(session, queue, limit));
    if (owed.length === 0) return 0;
    return this.#store.write(undefined, async (session) => {
      const messages = await this.#rows.owedMessages(session, queue, limit);
      await this.#messages.push(session, queue, messages);
      for (const { id, generation } of messages) await this.#rows.pushed(session, id, generation, null);
      return messages.length;
    });
  }

  /** Lends what was claimed, and what has no row, to the caller. Answers the mark of the receipts. */
  async #lend(
    session: Session,
    messages: readonly ReadyMessage[],
    answers: ReadonlyMap<string, ClaimAnswer>,
    leaseMs: number,
  ): Promise<string> {
    const inHand = messages.filter(({ id }) => {
      const kind = answers.get(id)?.kind;
      return kind === 'claimed' || kind === 'missing';
    });
    return this.#messages.lend(session, inHand, leaseMs);
  }

  /** What nobody may run now: finished tasks and copies of claimed ones are forgotten, the others wait. */
  async #putAside(
    session: Session,
    messages: readonly ReadyMessage[],
    copies: readonly ReadyMessage[],
    answers: ReadonlyMap<string, ClaimAnswer>,
  ): Promise<void> {
    const gone: number[] = [];
    const waiting: { readonly seq: number; readonly delayMs: number }[] = [];
    const place = ({ seq, id }: ReadyMessage, isCopy: boolean): void => {
      const answer = answers.get(id);
      if (answer === undefined) return;
      if (answer.kind === 'finished' || (isCopy && answer.kind === 'claimed')) gone.push(seq);
      else if (answer.kind === 'early' || answer.kind === 'held') waiting.push({ seq, delayMs: answer.inMs });
      else if (isCopy) waiting.push({ seq, delayMs: MISSING_COPY_MS });
    };
    for (const message of messages) place(message, false);
    for (const copy of copies) place(copy, true);
    await this.#messages.remove(session, gone);
    await this.#messages.putBack(session, waiting);
  }

  /** By receipt only: a newer holder keeps its lease. Answers the receipts that were still valid. */
  async #release(
    session: Session,
    queue: string,
    settlements: readonly (Settlement & { readonly afterMs: number })[],
  ): Promise<ReadonlyMap<Receipt, boolean>> {
    const receipts = settlements.flatMap(({ task }) => task.receipt ?? []);
    if (receipts.length === 0) return new Map();
    const held = await this.#messages.held(session, queue, receipts);
    const back = settlements.flatMap(({ task, afterMs }) => {
      const seq = task.receipt === undefined ? undefined : held.get(task.receipt);
      return seq === undefined ? [] : [{ seq, delayMs: afterMs }];
    });
    await this.#messages.putBack(session, back);
    return new Map(receipts.map((receipt) => [receipt, held.has(receipt)]));
  }
}

/** The first message of each task, and the others of the same tasks. */
function byTask(messages: readonly ReadyMessage[]): {
  readonly first: ReadyMessage[];
  readonly copies: ReadyMessage[];
} {
  const seen = new Set<string>();
  const first: ReadyMessage[] = [];
  const copies: ReadyMessage[] = [];
  for (const message of messages) {
    (seen.has(message.id) ? copies : first).push(message);
    seen.add(message.id);
  }
  return { first, copies };
}

function seqsOf(tasks: readonly HeldTask[]): number[] {
  return tasks.flatMap(({ receipt }) => (receipt === undefined ? [] : (seqOf(receipt) ?? [])));
}

function withMessage(
  answer: LogSettleAnswer,
  receipt: Receipt | undefined,
  released: ReadonlyMap<Receipt, boolean>,
): SettleAnswer {
  if (answer.log === 'lost') return { ...answer, message: 'later' };
  const valid = receipt === undefined ? true : (released.get(receipt) ?? true);
  return { ...answer, message: valid ? 'done' : 'lost' };
}
