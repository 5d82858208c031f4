import { hitsAllAlike } from './batcher.ts';
import { BrokerError } from './errors.ts';
import type { ErrorCode } from './errors.ts';
import type { NewTask } from './ledger.ts';
import type { OutgoingMessage, QueueBroker } from './queue-broker.ts';
import type { ChangeAnswer, NewTaskLogEntry, TaskLogBroker, TaskLogEntry } from './task-log-broker.ts';

/** How long a pushing process has before a relay pushes for it. */
export const PUSH_GRACE_MS = 30_000;
/** A push is repeated this long before the broker would forget the message, or after half of a time shorter than two of these. */
const RETENTION_MARGIN_MS = 3_600_000;

/** When a relay tries again to push a message that the broker refuses. */
const REFUSED_AGAIN_MS = 300_000;

/** Told of a failure that a later step mends by itself. */
export type Tell = (operation: string, queue: string, error: unknown) => void;

/** Messages that did not go out, and why. */
interface Refusal {
  readonly messages: readonly OutgoingMessage[];
  readonly cause: unknown;
}

interface Pushed {
  readonly gone: readonly OutgoingMessage[];
  readonly refusals: readonly Refusal[];
}

/**
 * Messages for a broker that does not share the log's database. The row notes the debt first, then the message is
 * pushed, then the debt is cleared: a crash after any of these leaves at worst a copy, which the log drops.
 */
export class Outbox {
  readonly #broker: QueueBroker;
  readonly #log: TaskLogBroker;
  readonly #tell: Tell;

  constructor(broker: QueueBroker, log: TaskLogBroker, tell: Tell) {
    this.#broker = broker;
    this.#log = log;
    this.#tell = tell;
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
   * Pushes for a caller that waits. The row of a refused message fails by compare-and-set, so that the caller's error is
   * the truth. Answers an error for each task that was not accepted, by its id: `ENQUEUE_FAILED`, or `ENQUEUE_UNCERTAIN`
   * when the log could not be told.
   */
  async pushOrFail(
    queue: string,
    messages: readonly OutgoingMessage[],
  ): Promise<ReadonlyMap<string, BrokerError>> {
    const { gone, refusals } = await this.#push(queue, messages);
    const errors = await this.#fail(queue, refusals);
    await this.#clearOrTell(queue, gone);
    return errors;
  }

  /** Pushes where nobody waits for it: what fails stays owed. */
  async pushOrOwe(queue: string, messages: readonly OutgoingMessage[]): Promise<void> {
    const { gone, refusals } = await this.#push(queue, messages);
    for (const { cause } of refusals) this.#tell('push', queue, cause);
    await this.#clearOrTell(queue, gone);
  }

  /**
   * Pushes what is owed; answers how many. A message that the broker refuses waits some minutes, so that it holds up no other.
   * @throws what the broker said when it takes none at all, or what the log said.
   */
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
    const { gone, refusals } = await this.#push(
      queue,
      due.map(({ entry, dueInMs }) => messageOf(entry, dueInMs, entry.generation)),
    );
    await this.#clear(gone, this.#nextPushInMs);
    const outage = refusals.find(({ cause }) => hitsAllAlike(cause));
    const refused = refusals.filter((refusal) => !hitsAllAlike(refusal.cause));
    for (const { cause } of refused) this.#tell('relay', queue, cause);
    await this.#clear(
      refused.flatMap(({ messages }) => messages),
      REFUSED_AGAIN_MS,
    );
    if (outage !== undefined) throw outage.cause;
    return gone.length;
  }

  /** Halves what the broker refuses down to the culprits; an outage is not asked once more for each message. */
  async #push(queue: string, messages: readonly OutgoingMessage[]): Promise<Pushed> {
    if (messages.length === 0) return { gone: [], refusals: [] };
    try {
      await this.#broker.push(queue, messages);
      return { gone: messages, refusals: [] };
    } catch (cause) {
      if (messages.length === 1 || hitsAllAlike(cause)) return { gone: [], refusals: [{ messages, cause }] };
    }
    const half = Math.ceil(messages.length / 2);
    const first = await this.#push(queue, messages.slice(0, half));
    const second = await this.#push(queue, messages.slice(half));
    return {
      gone: [...first.gone, ...second.gone],
      refusals: [...first.refusals, ...second.refusals],
    };
  }

  async #fail(queue: string, refusals: readonly Refusal[]): Promise<Map<string, BrokerError>> {
    const causes = new Map(
      refusals.flatMap(({ messages, cause }) => messages.map(({ id }) => [id, cause] as const)),
    );
    if (causes.size === 0) return new Map();
    const error = (task: string, code: ErrorCode, message: string, cause: unknown): [string, BrokerError] => {
      const place = { queue, broker: this.#broker.id, task };
      return [task, new BrokerError(code, message, { cause, place })];
    };
    let failed: readonly ChangeAnswer[];
    try {
      failed = await this.#log.change('fail', [...causes.keys()], { deadReason: 'PUSH_FAILED' });
    } catch (second) {
      const message = `Queue "${queue}" refused the message, and the task log could not be told.`;
      return new Map(
        [...causes].map(([id, cause]) =>
          error(id, 'ENQUEUE_UNCERTAIN', message, new AggregateError([cause, second])),
        ),
      );
    }
    // Rows that did not change are being worked on: their message had arrived after all.
    const message = `Queue "${queue}" did not accept the message.`;
    return new Map(failed.map(({ id }) => error(id, 'ENQUEUE_FAILED', message, causes.get(id))));
  }

  async #clearOrTell(queue: string, messages: readonly OutgoingMessage[]): Promise<void> {
    try {
      await this.#clear(messages, this.#nextPushInMs);
    } catch (error) {
      this.#tell('clear debt', queue, error);
    }
  }

  async #clear(messages: readonly OutgoingMessage[], nextPushInMs: number | null): Promise<void> {
    if (messages.length === 0) return;
    await this.#log.pushed(messages.map(({ id, generation }) => ({ id, generation, nextPushInMs })));
  }

  get #nextPushInMs(): number | null {
    const { retentionMs } = this.#broker.capabilities;
    if (!Number.isFinite(retentionMs)) return null;
    return Math.max(retentionMs / 2, retentionMs - RETENTION_MARGIN_MS);
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
