import { newId } from './environment.ts';
import type { Clock } from './environment.ts';
import { isTransient } from './errors.ts';
import type { LeaseKeeper } from './worker/lease-keeper.ts';
import type { NewTask } from './ledger.ts';
import type { BoundQueue } from './queue.ts';
import type { SettledRun, Settler } from './worker/settler.ts';
import type { Transaction } from './store.ts';
import type { ClaimAnswer, Settlement, TaskLogBroker } from './task-log-broker.ts';
import type { TaskStatus } from './task-status.ts';
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

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** An outage is borne so long: somebody waits for `enqueue`. */
const PATIENCE_MS = 60_000;

/** Tasks of sync queues: stored under a claim and run by identity, here and now. There is no message. */
export class SyncQueueRunner {
  readonly #options: SyncQueueOptions;

  constructor(options: SyncQueueOptions) {
    this.#options = options;
  }

  /**
   * Resolves when the task has ended; in a caller's transaction when its row is written, and it runs after the commit.
   * Rejects only when the row is not stored: what fails later is logged and told, and the task stays as its row says.
   */
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

  /** Never rejects. */
  async #runToEnd(bound: BoundQueue, first: LeasedTask): Promise<void> {
    let leased: LeasedTask | undefined = first;
    try {
      while (leased !== undefined) {
        const waitMs = await this.#runOnce(bound, leased);
        if (waitMs === undefined) return;
        await this.#options.clock.sleep(waitMs);
        leased = await this.#claimAgain(bound, leased);
      }
    } catch (error) {
      this.#options.settler.leave(bound, first.held.id, error);
    }
  }

  /** The milliseconds until it runs again, or undefined when it has ended. */
  async #runOnce(bound: BoundQueue, leased: LeasedTask): Promise<number | undefined> {
    const { runner, keeper, clock, leaseMs, workerId } = this.#options;
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
        await this.#settle(bound, runnable, { leased });
        return undefined;
      }
      const end: RunEnd = await runner.run(runnable, { workerId, abort });
      if (end.settlement === undefined) return undefined;
      // Next to a handler that goes on in spite of its abort, a retry keeps its distance.
      const settlement = end.stillRunning === undefined ? this.#soon(end.settlement) : end.settlement;
      const status = await this.#settle(bound, settlement, { leased, runnable, end });
      return status === 'enqueued' && 'afterMs' in settlement ? settlement.afterMs : undefined;
    } finally {
      keeper.letGo(leased.held);
    }
  }

  #soon(settlement: Settlement): Settlement {
    if (!('afterMs' in settlement) || settlement.afterMs <= this.#options.maxWaitMs) return settlement;
    return { ...settlement, afterMs: 0 };
  }

  async #settle(bound: BoundQueue, settlement: Settlement, run: SettledRun): Promise<TaskStatus | undefined> {
    const { settler, clock } = this.#options;
    const giveUp = new AbortController();
    const isSettled = new AbortController();
    void clock.sleep(PATIENCE_MS, isSettled.signal).then(() => giveUp.abort());
    try {
      return await settler.settle(bound, settlement, run, giveUp.signal);
    } finally {
      isSettled.abort();
    }
  }

  /** Undefined when somebody else has it, or has ended it. */
  async #claimAgain(bound: BoundQueue, { held: { id }, body }: LeasedTask): Promise<LeasedTask | undefined> {
    const { clock } = this.#options;
    const held = { id, token: newId() };
    let answer = await this.#claim(bound, held);
    // The storage's clock may be behind ours.
    while (answer?.kind === 'early') {
      await clock.sleep(answer.inMs);
      answer = await this.#claim(bound, held);
    }
    if (answer?.kind !== 'claimed') return undefined;
    const { attempts, lapses, unknowns } = answer;
    return { held, queue: bound.queue, body, attempts, lapses, unknowns };
  }

  /** Through outages: a claim that was made though its answer was lost is answered again, since the token is the same. */
  async #claim(
    bound: BoundQueue,
    { id, token }: { readonly id: string; readonly token: string },
  ): Promise<ClaimAnswer | undefined> {
    const { log, clock, settler, workerId, leaseMs } = this.#options;
    const deadline = clock.monotonic() + PATIENCE_MS;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      try {
        const [answer] = await log.claim([id], { worker: workerId, token, leaseMs, start: 1, owe: false });
        return answer;
      } catch (error) {
        settler.noteFailure('claim', bound, id, error);
        if (!isTransient(error) || clock.monotonic() + pauseMs > deadline) throw error;
        await clock.sleep(pauseMs);
      }
    }
  }
}
