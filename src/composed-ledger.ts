import { endsWithin, systemClock } from './environment.ts';
import { BrokerError, EnqueueError } from './errors.ts';
import type { DrawnTask, Ledger, NewTask, SettleAnswer, SettleAnswers } from './ledger.ts';
import { messageOf, Outbox, PUSH_GRACE_MS } from './outbox.ts';
import type { Delivery, OutgoingMessage, QueueBroker, Receipt, Release } from './queue-broker.ts';
import type { Transaction } from './store.ts';
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
  TaskLogBroker,
  TaskLogEntry,
} from './task-log-broker.ts';
import { claimLeaseMs } from './task-transitions.ts';

export interface ComposedLedgerOptions {
  /** Told of failures that a later step mends by itself: a debt that was not cleared, a message that was not settled. */
  readonly onError?: (operation: string, queue: string, error: unknown) => void;
}

/** What an id drawn again waits when its row is locked by another statement. */
const LOCKED_ROW_MS = 1_000;
/** A renewal waits at most this part of the lease, and at most this long, for the broker before it turns to the log. */
const EXTEND_SHARE_OF_LEASE = 6;
const EXTEND_LONGEST_MS = 5_000;

/** Any queue broker and any task log, moved together in the order that a crash after any step leaves harmless. */
export function composeLedger(
  broker: QueueBroker,
  log: TaskLogBroker,
  options: ComposedLedgerOptions = {},
): Ledger {
  return new ComposedLedger(broker, log, options);
}

class ComposedLedger implements Ledger {
  readonly #broker: QueueBroker;
  readonly #log: TaskLogBroker;
  readonly #onError: (operation: string, queue: string, error: unknown) => void;
  readonly #outbox: Outbox;
  readonly #extending = new Set<Promise<unknown>>();

  constructor(broker: QueueBroker, log: TaskLogBroker, options: ComposedLedgerOptions) {
    this.#broker = broker;
    this.#log = log;
    this.#onError = options.onError ?? (() => undefined);
    this.#outbox = new Outbox(broker, log, this.#onError);
  }

  async enqueue(queue: string, tasks: readonly NewTask[], tx?: Transaction): Promise<string[]> {
    if (tx !== undefined && tx.store !== this.#log.store) {
      throw new BrokerError(
        'TRANSACTION_UNSUPPORTED',
        `Queue "${queue}": the task log does not live in the transaction's database.`,
        {
          place: { queue, broker: this.#log.id },
        },
      );
    }
    if (this.#shared) return this.#together(tx, (inner) => this.#enqueueTogether(queue, tasks, inner));
    const rows = tasks.map((task) => this.#outbox.owing(task));
    const added = await this.#log.insert(rows, tx);
    const messages = this.#outbox.pushableNow(tasks, added);
    if (tx !== undefined) {
      tx.afterCommit(() => this.#outbox.pushOrOwe(queue, messages));
      return added;
    }
    const refusals = await this.#outbox.pushOrFail(queue, messages);
    if (refusals.size > 0) throw new EnqueueError(queue, added, refusals);
    return added;
  }

  async draw(queue: string, options: DrawOptions): Promise<DrawnTask[]> {
    const { max, leaseMs, waitMs, signal } = options;
    const deliveries = await this.#broker.receive(queue, { max, leaseMs, waitMs, signal });
    if (deliveries.length === 0) return [];
    const { kept, copies } = withoutCopies(deliveries);
    const answers = await this.#claim(queue, kept, deliveries, options);
    const drawn = kept.map((delivery, index) => ({ delivery, answer: answers[index] as ClaimAnswer }));
    await this.#putBack(queue, drawn, copies);
    return drawn;
  }

  async settle(
    queue: string,
    settlements: readonly Settlement[],
    starting: readonly HeldTask[],
    tx?: Transaction,
  ): Promise<SettleAnswers> {
    if (this.#shared)
      return this.#together(tx, (inner) => this.#settleIn(queue, settlements, starting, inner));
    return this.#settleIn(queue, settlements, starting, undefined);
  }

  async renew(queue: string, tasks: readonly HeldTask[], leaseMs: number): Promise<RenewAnswer[]> {
    const receipts = tasks.flatMap((task) => task.receipt ?? []);
    if (receipts.length > 0) await this.#extend(queue, receipts, leaseMs);
    return this.#log.renew(tasks, claimLeaseMs(leaseMs));
  }

  async change(
    queue: string,
    act: TaskAct,
    ids: readonly string[],
    options: ChangeOptions,
  ): Promise<ChangeAnswer[]> {
    if (act !== 'retry') return this.#log.change(act, ids, options);
    const { entries } = await this.#log.search({ ids }, { limit: ids.length });
    if (!this.#shared) {
      const changed = await this.#log.change(act, ids, { ...options, owedInMs: PUSH_GRACE_MS });
      await this.#outbox.pushOrOwe(queue, this.#again(entries, changed));
      return changed;
    }
    return this.#together(undefined, async (tx) => {
      const changed = await this.#log.change(act, ids, { ...options, owedInMs: null }, tx);
      await this.#broker.push(queue, this.#again(entries, changed), tx);
      return changed;
    });
  }

  relay(queue: string, limit: number): Promise<number> {
    return this.#outbox.relay(queue, limit);
  }

  async quiet(): Promise<void> {
    while (this.#extending.size > 0) await Promise.all(this.#extending);
  }

  get #shared(): boolean {
    return this.#broker.store !== undefined && this.#broker.store === this.#log.store;
  }

  /** In the caller's transaction, else in one of our own. */
  #together<T>(tx: Transaction | undefined, work: (tx: Transaction) => Promise<T>): Promise<T> {
    const store = this.#broker.store;
    if (tx !== undefined || store === undefined) return work(tx as Transaction);
    return store.transaction(work);
  }

  async #enqueueTogether(queue: string, tasks: readonly NewTask[], tx: Transaction): Promise<string[]> {
    const added = new Set(
      await this.#log.insert(
        tasks.map((task) => ({ ...task.entry, owedInMs: null })),
        tx,
      ),
    );
    const messages = tasks.flatMap(({ entry, message }) =>
      message !== undefined && added.has(entry.id) ? [{ ...message, generation: 1 }] : [],
    );
    if (messages.length > 0) await this.#broker.push(queue, messages, tx);
    return [...added];
  }

  async #claim(
    queue: string,
    kept: readonly Delivery[],
    deliveries: readonly Delivery[],
    options: DrawOptions,
  ): Promise<ClaimAnswer[]> {
    const ids = kept.map((delivery) => delivery.id);
    const leaseMs = claimLeaseMs(Math.min(...kept.map((delivery) => delivery.leaseLeftMs)));
    try {
      const answers = await this.#log.claim(ids, { ...options, leaseMs, owe: !this.#shared });
      return await this.#askAgain(answers);
    } catch (error) {
      await this.#later('release', queue, () =>
        this.#broker.release(
          queue,
          deliveries.map(({ receipt }) => ({ receipt, delayMs: 0 })),
        ),
      );
      throw error;
    }
  }

  /**
   * A row that another statement holds locked looks missing to a claim, never to a plain read. Its delivery came too early:
   * it goes back, for a claim that did not reach the row has noted no debt in it.
   */
  async #askAgain(answers: readonly ClaimAnswer[]): Promise<ClaimAnswer[]> {
    const missing = answers.filter((answer) => answer.kind === 'missing').map((answer) => answer.id);
    if (missing.length === 0) return [...answers];
    const { entries } = await this.#log.search({ ids: missing }, { limit: missing.length });
    const present = new Set(entries.map((entry) => entry.id));
    return answers.map((answer) =>
      present.has(answer.id) && answer.kind === 'missing'
        ? { id: answer.id, kind: 'early', inMs: LOCKED_ROW_MS }
        : answer,
    );
  }

  async #putBack(
    queue: string,
    drawn: readonly DrawnTask[],
    copies: ReadonlyMap<string, readonly Receipt[]>,
  ): Promise<void> {
    const dropped: Receipt[] = [];
    const released: Release[] = [];
    for (const { delivery, answer } of drawn) {
      const receipts = [delivery.receipt, ...(copies.get(delivery.id) ?? [])];
      if (answer.kind === 'claimed') dropped.push(...receipts.slice(1));
      else if (answer.kind === 'finished') dropped.push(...receipts);
      // The row notes that its message is owed when the claim ends, so a held copy need not circle.
      else if (answer.kind === 'held' && !this.#shared) dropped.push(...receipts);
      else if (answer.kind === 'early' || answer.kind === 'held') {
        released.push(...receipts.map((receipt) => ({ receipt, delayMs: this.#delay(answer.inMs) })));
      } else released.push(...receipts.slice(1).map((receipt) => ({ receipt, delayMs: LOCKED_ROW_MS })));
    }
    await this.#acknowledge(queue, dropped, undefined);
    await this.#release(queue, released, undefined);
  }

  async #settleIn(
    queue: string,
    settlements: readonly Settlement[],
    starting: readonly HeldTask[],
    tx: Transaction | undefined,
  ): Promise<SettleAnswers> {
    const { settled, started } = await this.#log.settle(settlements, starting, tx);
    const done: Receipt[] = [];
    const back: Release[] = [];
    settlements.forEach((settlement, index) => {
      const answer = settled[index];
      const { receipt } = settlement.task;
      if (receipt === undefined || answer?.log !== 'written') return;
      if ('afterMs' in settlement && answer.status !== 'cancelled') {
        back.push({ receipt, delayMs: this.#delay(settlement.afterMs) });
      } else done.push(receipt);
    });
    started.forEach((answer, index) => {
      const receipt = starting[index]?.receipt;
      if (answer.kind === 'cancelled' && receipt !== undefined) done.push(receipt);
    });
    const moved = new Map([
      ...(await this.#acknowledge(queue, done, tx)),
      ...(await this.#release(queue, back, tx)),
    ]);
    return {
      settled: settlements.map(({ task }, index) =>
        withMessage(settled[index] as LogSettleAnswer, task.receipt, moved),
      ),
      started,
    };
  }

  /** What became of each message; empty when the broker failed: its lease will end, and the log knows the rest. */
  async #acknowledge(
    queue: string,
    receipts: readonly Receipt[],
    tx: Transaction | undefined,
  ): Promise<Map<Receipt, boolean>> {
    if (receipts.length === 0) return new Map();
    return this.#moved(receipts, tx, 'acknowledge', queue, () =>
      this.#broker.acknowledge(queue, receipts, tx),
    );
  }

  async #release(
    queue: string,
    releases: readonly Release[],
    tx: Transaction | undefined,
  ): Promise<Map<Receipt, boolean>> {
    if (releases.length === 0) return new Map();
    const receipts = releases.map((release) => release.receipt);
    return this.#moved(receipts, tx, 'release', queue, () => this.#broker.release(queue, releases, tx));
  }

  async #moved(
    receipts: readonly Receipt[],
    tx: Transaction | undefined,
    operation: string,
    queue: string,
    move: () => Promise<Receipt[]>,
  ): Promise<Map<Receipt, boolean>> {
    const valid = tx === undefined ? await this.#later(operation, queue, move) : await move();
    if (valid === undefined) return new Map();
    const stillHeld = new Set(valid);
    return new Map(receipts.map((receipt) => [receipt, stillHeld.has(receipt)]));
  }

  /** The log is the judge: a broker that does not answer must not let the claims lapse. */
  async #extend(queue: string, receipts: readonly Receipt[], leaseMs: number): Promise<void> {
    const waitMs = Math.min(leaseMs / EXTEND_SHARE_OF_LEASE, EXTEND_LONGEST_MS);
    const extending = this.#later('extend', queue, () => this.#broker.extend(queue, receipts, leaseMs));
    this.#extending.add(extending);
    void extending.finally(() => this.#extending.delete(extending));
    if (await endsWithin(extending, waitMs, systemClock)) return;
    const message = `Queue "${queue}" did not extend the leases of ${receipts.length} messages within ${waitMs} ms; their claims are renewed all the same.`;
    const place = { queue, broker: this.#broker.id, operation: 'extend' };
    this.#onError('extend', queue, new BrokerError('BROKER_UNAVAILABLE', message, { place }));
  }

  /** Tries what may also happen later. */
  async #later<T>(operation: string, queue: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#onError(operation, queue, error);
      return undefined;
    }
  }

  #again(entries: readonly TaskLogEntry[], changed: readonly ChangeAnswer[]): OutgoingMessage[] {
    const byId = new Map(entries.map((entry) => [entry.id, entry]));
    return changed.flatMap(({ id, dueInMs, generation }) => {
      const entry = byId.get(id);
      return entry === undefined ? [] : [messageOf(entry, this.#delay(dueInMs), generation)];
    });
  }

  /** The broker's delay is a hint only: a task that comes early is put back. */
  #delay(ms: number): number {
    return Math.min(Math.max(0, ms), this.#broker.capabilities.maxDelayMs);
  }
}

/** Of several deliveries of one id, the one with the longest lease and the receipts of the others. */
function withoutCopies(deliveries: readonly Delivery[]): {
  readonly kept: readonly Delivery[];
  readonly copies: ReadonlyMap<string, readonly Receipt[]>;
} {
  const best = new Map<string, Delivery>();
  const copies = new Map<string, Receipt[]>();
  for (const delivery of deliveries) {
    const known = best.get(delivery.id);
    if (known === undefined) {
      best.set(delivery.id, delivery);
      continue;
    }
    const [longer, shorter] =
      delivery.leaseLeftMs > known.leaseLeftMs ? [delivery, known] : [known, delivery];
    best.set(delivery.id, longer);
    copies.set(delivery.id, [...(copies.get(delivery.id) ?? []), shorter.receipt]);
  }
  return { kept: [...best.values()], copies };
}

function withMessage(
  answer: LogSettleAnswer,
  receipt: Receipt | undefined,
  moved: ReadonlyMap<Receipt, boolean>,
): SettleAnswer {
  if (answer.log === 'lost') return { ...answer, message: 'later' };
  if (receipt === undefined) return { ...answer, message: 'done' };
  const valid = moved.get(receipt);
  return { ...answer, message: valid === undefined ? 'later' : valid ? 'done' : 'lost' };
}
