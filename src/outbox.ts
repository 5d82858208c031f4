import { BrokerError } from './errors.ts';
import type { NewTask } from './ledger.ts';
import type { OutgoingMessage, QueueBroker } from './queue-broker.ts';
import type { ChangeAnswer, NewTaskLogEntry, TaskLogBroker, TaskLogEntry } from './task-log-broker.ts';

/** How long a pushing process has before a relay pushes for it. */
export const PUSH_GRACE_MS = 30_000;
/** A push is repeated this long before the broker would forget the message. */
const RETENTION_MARGIN_MS = 3_600_000;

/** A failure that a later step mends by itself is told and swallowed. */
export type Attempt = <T>(operation: string, queue: string, work: () => Promise<T>) => Promise<T | undefined>;

/**
 * Messages for a broker that does not share the log's database. The row notes the debt first, then the message is
 * pushed, then the debt is cleared: a crash after any of these leaves at worst a copy, which the log drops.
 */
export class Outbox {
  readonly #broker: QueueBroker;
  readonly #log: TaskLogBroker;
  readonly #attempt: Attempt;

  constructor(broker: QueueBroker, log: TaskLogBroker, attempt: Attempt) {
    this.#broker = broker;
    this.#log = log;
    this.#attempt = attempt;
  }

  /** The row, with the debt of its message noted before anybody tries to push it. */
  owing({ entry, message }: NewTask): NewTaskLogEntry {
    if (message === undefined) return { ...entry, owedInMs: null };
    const beyondBroker = entry.delayMs - this.#broker.capabilities.maxDelayMs;
    return { ...entry, owedInMs: beyondBroker > 0 ? beyondBroker : PUSH_GRACE_MS };
  }

  /** The messages of new rows that the broker can hold until they are due. */
  pushableNow(tasks: readonly NewTask[], added: readonly string[]): OutgoingMessage[] {
    const isNew = new Set(added);
    const { maxDelayMs } = this.#broker.capabilities;
    return tasks.flatMap(({ entry, message }) =>
      message !== undefined && isNew.has(entry.id) && entry.delayMs <= maxDelayMs
        ? [{ ...message, generation: 1 }]
        : [],
    );
  }

  /**
   * Pushes for a caller that waits. A refused push fails its rows by compare-and-set, so that the caller's error is the truth.
   * @throws BrokerError `ENQUEUE_FAILED`, or `ENQUEUE_UNCERTAIN` when the log could not be told.
   */
  async pushOrFail(queue: string, messages: readonly OutgoingMessage[]): Promise<void> {
    if (messages.length === 0) return;
    try {
      await this.#broker.push(queue, messages);
    } catch (cause) {
      await this.#fail(queue, messages, cause);
      return;
    }
    await this.#attempt('clear debt', queue, () => this.#clear(messages));
  }

  /** Pushes where nobody waits for it: what fails stays owed. */
  async pushOrOwe(queue: string, messages: readonly OutgoingMessage[]): Promise<void> {
    await this.#attempt('push', queue, () => this.#pushAndClear(queue, messages));
  }

  /** Pushes what is owed; answers how many. */
  async relay(queue: string, limit: number): Promise<number> {
    const owed = await this.#log.owed(queue, limit);
    const { maxDelayMs } = this.#broker.capabilities;
    const tooEarly = owed.filter((row) => row.dueInMs > maxDelayMs);
    if (tooEarly.length > 0) {
      await this.#log.pushed(
        tooEarly.map(({ entry: { id, generation }, dueInMs }) => ({
          id,
          generation,
          nextPushInMs: dueInMs - maxDelayMs,
        })),
      );
    }
    const due = owed.filter((row) => row.dueInMs <= maxDelayMs);
    await this.#pushAndClear(
      queue,
      due.map(({ entry, dueInMs }) => messageOf(entry, dueInMs, entry.generation)),
    );
    return due.length;
  }

  async #fail(queue: string, messages: readonly OutgoingMessage[], cause: unknown): Promise<void> {
    const ids = messages.map((message) => message.id);
    const [only] = ids;
    const task = ids.length === 1 && only !== undefined ? { task: only } : {};
    const place = { queue, broker: this.#broker.id, ...task };
    let failed: readonly ChangeAnswer[];
    try {
      failed = await this.#log.change('fail', ids, { deadReason: 'PUSH_FAILED' });
    } catch (second) {
      const message = `Queue "${queue}" refused the message, and the task log could not be told.`;
      throw new BrokerError('ENQUEUE_UNCERTAIN', message, {
        cause: new AggregateError([cause, second]),
        place,
      });
    }
    // Rows that did not change are being worked on: their message had arrived after all.
    if (failed.length === 0) return;
    throw new BrokerError('ENQUEUE_FAILED', `Queue "${queue}" did not accept the message.`, { cause, place });
  }

  async #pushAndClear(queue: string, messages: readonly OutgoingMessage[]): Promise<void> {
    if (messages.length === 0) return;
    await this.#broker.push(queue, messages);
    await this.#clear(messages);
  }

  #clear(messages: readonly OutgoingMessage[]): Promise<string[]> {
    const { retentionMs } = this.#broker.capabilities;
    const nextPushInMs = Number.isFinite(retentionMs) ? retentionMs - RETENTION_MARGIN_MS : null;
    return this.#log.pushed(messages.map(({ id, generation }) => ({ id, generation, nextPushInMs })));
  }
}

/** The message of a row, built again. */
export function messageOf(entry: TaskLogEntry, dueInMs: number, generation: number): OutgoingMessage {
  return {
    id: entry.id,
    body: entry.envelope,
    delayMs: Math.max(0, dueInMs),
    priority: entry.priority,
    generation,
    ...(entry.group === null ? {} : { group: entry.group }),
  };
}
