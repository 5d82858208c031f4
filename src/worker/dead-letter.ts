import { newId } from '../environment.ts';
import type { Clock } from '../environment.ts';
import { TaskError } from '../errors.ts';
import type { NewTask } from '../ledger.ts';
import type { Delivery } from '../queue-broker.ts';
import type { BoundQueue } from '../queue.ts';
import { decodeEnvelope } from '../task-envelope.ts';
import type { Envelope } from '../task-envelope.ts';
import type { HeldTask } from '../task-log-broker.ts';
import { errorReport } from '../run-end.ts';
import type { LeasedTask } from '../run-end.ts';

/** A row may come late to a reader; a message without one is looked at again after this long. */
const LOOK_AGAIN_MS = 5_000;
/** An envelope younger than this is adopted: rows of finished tasks are kept longer, so it cannot have run. */
const ADOPT_WITHIN_MS = 7 * 24 * 3_600_000;
const REMEMBERED = 10_000;

export interface RowlessOptions {
  readonly workerId: string;
  readonly leaseMs: number;
  readonly clock: Clock;
}

/** Messages whose row is missing: put back once, then adopted, or buried as a failed row with the reason. */
export class RowlessDeliveries {
  readonly #options: RowlessOptions;
  readonly #firstSeen = new Map<string, number>();

  constructor(options: RowlessOptions) {
    this.#options = options;
  }

  /** The task, when it was adopted under a claim of its own; undefined when it was put back or buried. */
  async take(bound: BoundQueue, delivery: Delivery): Promise<LeasedTask | undefined> {
    if (!this.#wasSeenBefore(delivery.id)) {
      await bound.queue.broker.release(bound.name, [{ receipt: delivery.receipt, delayMs: LOOK_AGAIN_MS }]);
      return undefined;
    }
    const leased = await this.#adoptOrBury(bound, delivery);
    this.#firstSeen.delete(delivery.id);
    return leased;
  }

  async #adoptOrBury(bound: BoundQueue, delivery: Delivery): Promise<LeasedTask | undefined> {
    const held = { id: delivery.id, token: newId(), receipt: delivery.receipt };
    let envelope: Envelope;
    try {
      envelope = decodeEnvelope(delivery.body);
    } catch (error) {
      await this.#bury(bound, held, delivery, 'UNDECODABLE', error);
      return undefined;
    }
    if (envelope.createdAt < this.#options.clock.now() - ADOPT_WITHIN_MS) {
      await this.#bury(bound, held, delivery, 'ROW_GONE', tooOld(envelope));
      return undefined;
    }
    return this.#adopt(bound, held, delivery, envelope);
  }

  #wasSeenBefore(id: string): boolean {
    const now = this.#options.clock.monotonic();
    const first = this.#firstSeen.get(id);
    if (first !== undefined && now - first >= LOOK_AGAIN_MS - 1_000) return true;
    if (this.#firstSeen.size >= REMEMBERED) this.#firstSeen.clear();
    if (first === undefined) this.#firstSeen.set(id, now);
    return false;
  }

  async #adopt(
    bound: BoundQueue,
    held: HeldTask,
    delivery: Delivery,
    envelope: Envelope,
  ): Promise<LeasedTask | undefined> {
    const added = await bound.ledger.enqueue(bound.name, [
      this.#claimedRow(bound, held, delivery.body, envelope),
    ]);
    if (added.length === 0) return undefined;
    return { held, queue: bound.queue, body: delivery.body, attempts: 0, lapses: 0, unknowns: 0 };
  }

  async #bury(
    bound: BoundQueue,
    held: HeldTask,
    delivery: Delivery,
    deadReason: string,
    error: unknown,
  ): Promise<void> {
    const added = await bound.ledger.enqueue(bound.name, [
      this.#claimedRow(bound, held, delivery.body, undefined),
    ]);
    if (added.length === 0) return;
    const report = JSON.stringify(errorReport(error, 0));
    await bound.ledger.settle(bound.name, [{ task: held, kind: 'failed', deadReason, report }], []);
  }

  #claimedRow(bound: BoundQueue, held: HeldTask, body: string, envelope: Envelope | undefined): NewTask {
    const { workerId, leaseMs } = this.#options;
    return {
      entry: {
        id: held.id,
        queue: bound.name,
        taskName: envelope?.taskName ?? 'unknown',
        label: envelope?.label ?? '',
        owner: envelope?.owner ?? null,
        category: envelope?.category ?? null,
        parentId: envelope?.parentId ?? null,
        masterStatus: envelope?.masterStatus ?? false,
        priority: envelope?.priority ?? 0,
        group: envelope?.group ?? null,
        envelope: body,
        delayMs: 0,
        claim: { token: held.token, worker: workerId, leaseMs, start: false },
      },
    };
  }
}

function tooOld(envelope: Envelope): TaskError {
  const created = new Date(envelope.createdAt).toISOString();
  return new TaskError(
    'ROW_GONE',
    `The message of task "${envelope.taskName}", made ${created}, has no row in the task log.`,
    {
      place: { task: envelope.id, taskName: envelope.taskName },
    },
  );
}
