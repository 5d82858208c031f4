import type { Clock, Logger } from '../environment.ts';
import type { EventBus } from '../events.ts';
import type { BoundQueue } from '../queue.ts';
import type { HeldTask } from '../task-log-broker.ts';
import { claimLeaseMs } from '../task-transitions.ts';

/** A task whose leases are renewed until it is let go. */
export interface KeptTask {
  readonly held: HeldTask;
  readonly bound: BoundQueue;
  /** On the monotonic clock, counted from before the call that gave the lease. */
  leaseEndsAt: number;
  /** Another claim has the task now: nothing that it writes counts any more. */
  readonly onLost: () => void;
  /** Somebody asked for its end. */
  readonly onCancel: () => void;
}

export interface LeaseKeeperOptions {
  readonly leaseMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: EventBus;
}

/** Three beats a lease: two may fail before a claim lapses. */
const BEATS_PER_LEASE = 3;
const RETRY_AFTER_MS = 1_000;

/** The tasks of one queue, and the pause before their next renewal. */
interface Beat {
  readonly tasks: Map<string, KeptTask>;
  rest: AbortController;
}

/**
 * Renews message leases and claims, for all tasks of one queue that are in hand in one beat. A queue that does not answer
 * holds up no other. Has a timer only while there are tasks.
 */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #beats = new Map<BoundQueue, Beat>();
  readonly #queues = new Set<BoundQueue>();
  readonly #renewals = new Set<Promise<boolean>>();
  #closed = false;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  keep(task: KeptTask): void {
    if (this.#closed) return;
    this.#queues.add(task.bound);
    const beat = this.#beats.get(task.bound);
    if (beat !== undefined) {
      beat.tasks.set(keyOf(task.held), task);
      return;
    }
    const first = { tasks: new Map([[keyOf(task.held), task]]), rest: new AbortController() };
    this.#beats.set(task.bound, first);
    void this.#beatUntilEmpty(task.bound, first);
  }

  letGo(task: HeldTask): void {
    for (const { tasks, rest } of this.#beats.values()) {
      if (tasks.delete(keyOf(task)) && tasks.size === 0) rest.abort();
    }
  }

  /** Whether the claim may be relied on: one that has lapsed by our own clock is renewed first. */
  async isAlive(task: KeptTask): Promise<boolean> {
    if (this.#options.clock.monotonic() < task.leaseEndsAt) return true;
    if (this.#closed) return false;
    await this.#renew(task.bound, [task]);
    return this.#options.clock.monotonic() < task.leaseEndsAt;
  }

  /** Resolves when no renewal is under way, nor a call that it left behind. */
  async quiet(): Promise<void> {
    while (this.#renewals.size > 0) await Promise.all(this.#renewals);
    await Promise.all([...this.#queues].map(async ({ ledger }) => ledger.quiet?.()));
  }

  /** Lets go of everything for good: no renewal begins any more, and nobody is told of the answer to one under way. */
  close(): void {
    this.#closed = true;
    for (const { tasks, rest } of this.#beats.values()) {
      tasks.clear();
      rest.abort();
    }
  }

  async #beatUntilEmpty(bound: BoundQueue, beat: Beat): Promise<void> {
    const { clock, leaseMs } = this.#options;
    const usualMs = leaseMs / BEATS_PER_LEASE;
    let nextAt = clock.monotonic() + usualMs;
    while (beat.tasks.size > 0) {
      beat.rest = new AbortController();
      await clock.sleep(nextAt - clock.monotonic(), beat.rest.signal);
      // Woken because nothing was left in hand; by now there may be a new task, whose lease is fresh.
      if (beat.tasks.size === 0 || clock.monotonic() < nextAt) continue;
      const renewed = await this.#renew(bound, [...beat.tasks.values()]);
      nextAt = clock.monotonic() + (renewed ? usualMs : Math.min(RETRY_AFTER_MS, usualMs));
    }
    this.#beats.delete(bound);
  }

  async #renew(bound: BoundQueue, tasks: readonly KeptTask[]): Promise<boolean> {
    const renewal = this.#tryToRenew(bound, tasks);
    this.#renewals.add(renewal);
    const renewed = await renewal;
    this.#renewals.delete(renewal);
    return renewed;
  }

  async #tryToRenew(bound: BoundQueue, tasks: readonly KeptTask[]): Promise<boolean> {
    const { clock, leaseMs, logger, events } = this.#options;
    const before = clock.monotonic();
    try {
      const answers = await bound.ledger.renew(
        bound.name,
        tasks.map((task) => task.held),
        leaseMs,
      );
      if (this.#closed) return true;
      answers.forEach((answer, index) => {
        const task = tasks[index];
        if (task === undefined) return;
        if (answer.kind === 'lost') {
          this.letGo(task.held);
          task.onLost();
          return;
        }
        task.leaseEndsAt = before + claimLeaseMs(leaseMs);
        if (answer.kind === 'cancel') task.onCancel();
      });
      return true;
    } catch (error) {
      logger.warn({ err: error, queue: bound.name }, 'Leases could not be renewed; trying again');
      events.emit('broker:error', { operation: 'renew', queue: bound.name, error });
      return false;
    }
  }
}

function keyOf({ token, id }: HeldTask): string {
  return token + id;
}
