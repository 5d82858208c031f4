import { claimLeaseMs } from '../composed-ledger.ts';
import type { Clock, Logger } from '../environment.ts';
import type { EventBus } from '../events.ts';
import type { BoundQueue } from '../queue.ts';
import type { HeldTask } from '../task-log-broker.ts';

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

/** Renews message leases and claims in one beat for all tasks in hand. Has a timer only while there are any. */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #kept = new Map<string, KeptTask>();
  #rest: AbortController | undefined;
  #underWay: Promise<unknown> = Promise.resolve();

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  keep(task: KeptTask): void {
    this.#kept.set(task.held.token + task.held.id, task);
    if (this.#rest === undefined) void this.#beatUntilEmpty();
  }

  letGo(task: HeldTask): void {
    this.#kept.delete(task.token + task.id);
    if (this.#kept.size === 0) this.#rest?.abort();
  }

  /** Whether the claim may be relied on: one that has lapsed by our own clock is renewed first. */
  async isAlive(task: KeptTask): Promise<boolean> {
    if (this.#options.clock.monotonic() < task.leaseEndsAt) return true;
    await this.#renew(task.bound, [task]);
    return this.#options.clock.monotonic() < task.leaseEndsAt;
  }

  /** Resolves when no renewal is under way. */
  async quiet(): Promise<void> {
    await this.#underWay;
  }

  async #beatUntilEmpty(): Promise<void> {
    const { clock, leaseMs } = this.#options;
    const usualMs = leaseMs / BEATS_PER_LEASE;
    let nextAt = clock.monotonic() + usualMs;
    while (this.#kept.size > 0) {
      this.#rest = new AbortController();
      await clock.sleep(nextAt - clock.monotonic(), this.#rest.signal);
      // Woken because nothing was left in hand; by now there may be a new task, whose lease is fresh.
      if (this.#kept.size === 0 || clock.monotonic() < nextAt) continue;
      const beat = this.#beat();
      this.#underWay = beat;
      const renewed = await beat;
      nextAt = clock.monotonic() + (renewed ? usualMs : Math.min(RETRY_AFTER_MS, usualMs));
    }
    this.#rest = undefined;
  }

  async #beat(): Promise<boolean> {
    const byQueue = new Map<BoundQueue, KeptTask[]>();
    for (const task of this.#kept.values()) {
      byQueue.set(task.bound, [...(byQueue.get(task.bound) ?? []), task]);
    }
    const results = await Promise.all([...byQueue].map(([bound, tasks]) => this.#renew(bound, tasks)));
    return results.every(Boolean);
  }

  async #renew(bound: BoundQueue, tasks: readonly KeptTask[]): Promise<boolean> {
    const { clock, leaseMs, logger, events } = this.#options;
    const before = clock.monotonic();
    try {
      const answers = await bound.ledger.renew(
        bound.name,
        tasks.map((task) => task.held),
        leaseMs,
      );
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
