import { newId } from './environment.ts';
import type { Clock } from './environment.ts';
import type { LeaseKeeper } from './worker/lease-keeper.ts';
import type { NewTask } from './ledger.ts';
import type { BoundQueue } from './queue.ts';
import type { Settler } from './worker/settler.ts';
import type { Transaction } from './store.ts';
import type { HeldTask, Settlement, TaskLogBroker } from './task-log-broker.ts';
import { cancelled, claimLost } from './run-end.ts';
import type { LeasedTask } from './run-end.ts';
import { isSettlement } from './task-runner.ts';
import type { RunEnd, TaskRunner } from './task-runner.ts';

export interface SyncQueueOptions {
  readonly workerId: string;
  readonly runner: TaskRunner;
  readonly settler: Settler;
  readonly keeper: LeaseKeeper;
  readonly log: TaskLogBroker;
  readonly clock: Clock;
  readonly leaseMs: number;
  /** A retry that is due later than this runs at once instead. */
  readonly maxWaitMs: number;
}

/** Tasks of sync queues: stored under a claim and run by identity, here and now. There is no message. */
export class SyncQueueRunner {
  readonly #options: SyncQueueOptions;

  constructor(options: SyncQueueOptions) {
    this.#options = options;
  }

  /** Resolves when the task has ended; in a caller's transaction when its row is written, and it runs after the commit. */
  async enqueue(
    bound: BoundQueue,
    task: NewTask,
    tx: Transaction | undefined,
    onStored: () => void,
  ): Promise<void> {
    const { workerId, leaseMs } = this.#options;
    const held = { id: task.entry.id, token: newId() };
    const claim = { token: held.token, worker: workerId, leaseMs, start: true };
    const entry = { ...task.entry, delayMs: 0, claim };
    const added = await bound.ledger.enqueue(bound.name, [{ entry }], tx);
    const leased = { held, queue: bound.queue, body: entry.envelope, attempts: 0, lapses: 0, unknowns: 0 };
    const run = async (): Promise<void> => {
      onStored();
      if (added.length > 0) await this.#runToEnd(bound, leased);
    };
    if (tx === undefined) await run();
    else tx.afterCommit(run);
  }

  async #runToEnd(bound: BoundQueue, first: LeasedTask): Promise<void> {
    let leased: LeasedTask | undefined = first;
    while (leased !== undefined) {
      const waitMs = await this.#runOnce(bound, leased);
      if (waitMs === undefined) return;
      await this.#options.clock.sleep(waitMs);
      leased = await this.#claimAgain(bound, leased.held);
    }
  }

  /** The milliseconds until it runs again, or undefined when it has ended. */
  async #runOnce(bound: BoundQueue, leased: LeasedTask): Promise<number | undefined> {
    const { runner, settler, keeper, clock, leaseMs, workerId } = this.#options;
    const never = new AbortController().signal;
    const abort = new AbortController();
    const kept = {
      held: leased.held,
      bound,
      leaseEndsAt: clock.monotonic() + leaseMs,
      onLost: () => abort.abort(claimLost(leased)),
      onCancel: () => abort.abort(cancelled(leased)),
    };
    keeper.keep(kept);
    try {
      const runnable = runner.prepare(leased);
      if (isSettlement(runnable)) {
        await settler.settle(bound, runnable, { leased }, never);
        return undefined;
      }
      const end: RunEnd = await runner.run(runnable, { workerId, abort });
      if (end.settlement === undefined) return undefined;
      // Next to a handler that goes on in spite of its abort, a retry keeps its distance.
      const settlement = end.stillRunning === undefined ? this.#soon(end.settlement) : end.settlement;
      const status = await settler.settle(bound, settlement, { leased, runnable, end }, never);
      return status === 'enqueued' && 'afterMs' in settlement ? settlement.afterMs : undefined;
    } finally {
      keeper.letGo(leased.held);
    }
  }

  #soon(settlement: Settlement): Settlement {
    if (!('afterMs' in settlement) || settlement.afterMs <= this.#options.maxWaitMs) return settlement;
    return { ...settlement, afterMs: 0 };
  }

  async #claimAgain(bound: BoundQueue, { id }: HeldTask): Promise<LeasedTask | undefined> {
    const { log, clock, workerId, leaseMs } = this.#options;
    const held = { id, token: newId() };
    const claim = { worker: workerId, token: held.token, leaseMs, start: 1, owe: false };
    let [answer] = await log.claim([id], claim);
    // The storage's clock may be behind ours.
    while (answer?.kind === 'early') {
      await clock.sleep(answer.inMs);
      [answer] = await log.claim([id], claim);
    }
    const { entries } = await log.search({ ids: [id] }, { limit: 1 });
    const body = entries[0]?.envelope;
    if (answer?.kind !== 'claimed' || body === undefined) return undefined;
    const { attempts, lapses, unknowns } = answer;
    return { held, queue: bound.queue, body, attempts, lapses, unknowns };
  }
}
