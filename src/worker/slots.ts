import { RowlessDeliveries } from './dead-letter.ts';
import { endsWithin, whenAborted } from '../environment.ts';
import { ALONE_FOR_MS, Hand } from './hand.ts';
import type { TaskInHand } from './hand.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import type { DrawnTask } from '../ledger.ts';
import type { BoundQueue } from '../queue.ts';
import type { WorkerParts } from '../worker-parts.ts';
import { Settler } from './settler.ts';
import type { LapsedClaim, Settlement } from '../task-log-broker.ts';
import { cancelled, claimLost, workerStopping } from '../run-end.ts';
import type { LeasedTask, RunnableTask } from '../run-end.ts';
import { isSettlement } from '../task-runner.ts';
import type { RunEnd } from '../task-runner.ts';
import type { WorkerSettings } from './worker-options.ts';

export interface SlotsOptions {
  readonly settings: WorkerSettings;
  readonly parts: WorkerParts;
  /** Whether tasks may begin now; when not, those that have not begun are given back. */
  readonly mayStart: () => boolean;
  /** A task was dealt with: its handler ended, or it ended without one. */
  readonly onProcessed: () => void;
  /** A task has left the hand, dealt with or not. */
  readonly onLeft: () => void;
  /** Every slot is held by a handler that ignores its abort. */
  readonly onAllLost: () => void;
  readonly onOutage: (bound: BoundQueue, error: unknown) => void;
}

const START_AGAIN_MS = 200;
/** A task that could not begin within this time goes back, so that an idle worker can run it. */
const HOLD_UNSTARTED_MS = 2_000;

/** The slots of one worker: takes claimed tasks, starts them as slots get free, runs and settles them. */
export class Slots {
  readonly #options: SlotsOptions;
  readonly #parts: WorkerParts;
  readonly #workerId: string;
  readonly #hand: Hand;
  readonly #keeper: LeaseKeeper;
  readonly #settler: Settler;
  readonly #rowless: RowlessDeliveries;
  readonly #open = new Set<Promise<void>>();
  /** Running tasks have had their time; nothing is tried again. */
  readonly #timeIsUp = new AbortController();
  #returnsStale = false;
  /** Tasks without a slot whose end is being written: what becomes of them, and so of the queue, is open until it is. */
  #settling = 0;
  /** Tasks whose end could not be written. */
  #unsettled = 0;
  /** The worker has ended: a handler that returns now has nothing to write to. */
  #closed = false;

  constructor(options: SlotsOptions) {
    const { settings, parts } = options;
    const { clock, logger, events, lines } = parts;
    const { leaseMs, workerId } = settings;
    this.#options = options;
    this.#parts = parts;
    this.#workerId = workerId;
    this.#hand = new Hand(settings.concurrency, clock);
    this.#keeper = new LeaseKeeper({ leaseMs, clock, logger, events });
    this.#settler = new Settler({ workerId, lines, events, logger, clock });
    this.#rowless = new RowlessDeliveries({ workerId, leaseMs, clock });
  }

  /** Tasks in hand: running or not, and those whose end is being written. */
  get size(): number {
    return this.#hand.size + this.#settling;
  }

  /** How many of the next draw can start at once. */
  get free(): number {
    return this.#hand.freeSlots;
  }

  room(takesAhead: boolean): number {
    return this.#hand.room(takesAhead);
  }

  /** Whether the drawn task is in hand now. `before`: the monotonic clock before the draw. */
  take(bound: BoundQueue, { delivery, answer }: DrawnTask, token: string, before: number): boolean {
    // Too late to give it back: its claim lapses.
    if (this.#closed) return false;
    const { logger } = this.#parts;
    const where = this.#where(bound, delivery.id);
    logger.debug({ ...where, answer: answer.kind }, 'drawn');
    if (answer.kind === 'missing') this.#track(this.#takeRowless(bound, delivery));
    if (answer.kind !== 'claimed') return false;
    const { attempts, lapses, unknowns, lapsed, leaseLeftMs, started } = answer;
    logger.debug({ ...where, attempt: attempts + lapses + 1 }, 'claimed');
    if (lapsed !== undefined) this.#noteTakeover(where, lapsed);
    const held = { id: delivery.id, token, receipt: delivery.receipt };
    const leased = { held, queue: bound.queue, body: delivery.body, attempts, lapses, unknowns };
    const task = this.#hold(bound, leased, before + leaseLeftMs);
    if (!started) {
      this.#wait(task);
    } else {
      this.#hand.reserveSlot();
      this.#track(this.#options.mayStart() ? this.#run(task) : this.#giveBackStarted(task));
    }
    return true;
  }

  /** Gives free slots to tasks that wait in hand. */
  startWaiting(): void {
    if (!this.#options.mayStart()) {
      this.giveBackUnstarted();
      return;
    }
    for (let task = this.#hand.takeForStart(); task !== undefined; task = this.#hand.takeForStart()) {
      this.#track(this.#start(task));
    }
  }

  giveBackUnstarted(): void {
    for (const task of this.#hand.takeUnstarted()) this.#track(this.#giveBack(task));
  }

  /** Running tasks have had their time: those that go on are aborted. */
  callTime(): void {
    this.#timeIsUp.abort();
  }

  /**
   * Resolves when nothing is in hand; after `callTime` once aborted handlers have returned or had their grace. Answers
   * how many were cut short: aborted, or left behind with an end that could not be written, still claimed.
   */
  async empty(): Promise<number> {
    this.giveBackUnstarted();
    while (this.#open.size > 0 && !this.#timeIsUp.signal.aborted) {
      await Promise.race([Promise.all(this.#open), whenAborted(this.#timeIsUp.signal)]);
    }
    let cutShort = 0;
    if (this.#open.size > 0) {
      cutShort = this.#hand.running.length;
      for (const task of this.#hand.running) task.abort.abort(workerStopping(task.leased));
      await endsWithin(Promise.all(this.#open), this.#options.settings.abortGraceMs, this.#parts.clock);
    }
    this.#keeper.close();
    this.#closed = true;
    return cutShort + this.#settling + this.#unsettled;
  }

  /** Resolves when no renewal of a lease is under way. */
  quiet(): Promise<void> {
    return this.#keeper.quiet();
  }

  /** The claim may have been our own: then our run must not go on beside the new one. */
  #noteTakeover(where: { readonly task: string }, lapsed: LapsedClaim): void {
    this.#parts.logger.warn({ ...where, lapsed }, 'Took over a lapsed claim');
    for (const { leased, abort } of this.#hand.running) {
      if (leased.held.id === where.task) abort.abort(claimLost(leased));
    }
  }

  #hold(bound: BoundQueue, leased: LeasedTask, leaseEndsAt: number): TaskInHand {
    const abort = new AbortController();
    const kept = {
      held: leased.held,
      bound,
      leaseEndsAt,
      onLost: () => abort.abort(claimLost(leased)),
      onCancel: () => abort.abort(cancelled(leased)),
    };
    this.#keeper.keep(kept);
    return { leased, bound, kept, abort, takenAt: this.#parts.clock.monotonic() };
  }

  #wait(task: TaskInHand): void {
    this.#hand.add(task);
    if (!this.#returnsStale) void this.#returnStale();
  }

  async #returnStale(): Promise<void> {
    const { clock } = this.#parts;
    this.#returnsStale = true;
    while (this.#hand.hasUnstarted) {
      await clock.sleep(HOLD_UNSTARTED_MS / 4, this.#timeIsUp.signal);
      for (const task of this.#hand.takeUnstarted(clock.monotonic() - HOLD_UNSTARTED_MS)) {
        this.#track(this.#giveBack(task));
      }
      // A task with lapses has waited long enough to begin alone.
      this.startWaiting();
      this.#options.onLeft();
    }
    this.#returnsStale = false;
  }

  async #takeRowless(bound: BoundQueue, delivery: DrawnTask['delivery']): Promise<void> {
    const before = this.#parts.clock.monotonic();
    try {
      const leased = await this.#rowless.take(bound, delivery);
      if (leased === undefined) return;
      this.#wait(this.#hold(bound, leased, before + this.#options.settings.leaseMs));
      this.startWaiting();
    } catch (error) {
      const where = this.#where(bound, delivery.id);
      this.#parts.logger.error({ err: error, ...where }, 'A message without a row could not be dealt with');
    }
  }

  async #start(task: TaskInHand): Promise<void> {
    const runnable = await this.#prepare(task);
    if (runnable === undefined) return;
    const started = await this.#commitStart(task);
    if (started === undefined) return;
    if (started) await this.#runInSlot(task, runnable);
    else this.#drop(task);
  }

  /** Whether the task may run; undefined when the storage failed, and the task waits on in hand. */
  async #commitStart(task: TaskInHand): Promise<boolean | undefined> {
    try {
      const { kind } = await task.bound.start(task.leased.held);
      return kind === 'started';
    } catch (error) {
      this.#hand.putBack(task);
      this.#options.onOutage(task.bound, error);
      await this.#parts.clock.sleep(START_AGAIN_MS, this.#timeIsUp.signal);
      this.startWaiting();
      return undefined;
    }
  }

  /** Its start was committed by the draw. */
  async #run(task: TaskInHand): Promise<void> {
    const runnable = await this.#prepare(task);
    if (runnable !== undefined) await this.#runInSlot(task, runnable);
  }

  /** Undefined when the task has ended without a run. */
  async #prepare(task: TaskInHand): Promise<RunnableTask | undefined> {
    const prepared = this.#parts.runner.prepare(task.leased);
    if (!isSettlement(prepared)) return prepared;
    await this.#settle(task, prepared, undefined, undefined);
    this.#options.onProcessed();
    this.#drop(task);
    return undefined;
  }

  /** The handler is called only under a claim that is alive by our own clock. */
  async #runInSlot(task: TaskInHand, runnable: RunnableTask): Promise<void> {
    // After the worker's end nothing is written any more, so nothing may begin.
    if (this.#closed || !(await this.#keeper.isAlive(task.kept))) {
      this.#drop(task);
      return;
    }
    const { runner, logger, events } = this.#parts;
    const { leased, bound } = task;
    const { definition, attempt, envelope } = runnable;
    const where = { ...this.#where(bound, leased.held.id), attempt };
    this.#hand.began(task);
    const alone = leased.lapses > 0 ? this.#beginAlone(task) : undefined;
    logger.debug(where, 'started');
    events.emit('task:started', {
      taskId: leased.held.id,
      taskName: definition.name,
      queue: bound.name,
      label: envelope.label,
      workerId: this.#workerId,
      attempt,
    });
    const { abortGraceMs } = this.#options.settings;
    const end = await runner.run(runnable, { workerId: this.#workerId, abort: task.abort, abortGraceMs });
    alone?.abort();
    if (this.#closed) return;
    logger.debug({ ...where, durationMs: Math.round(end.durationMs) }, 'finished');
    this.#logTrouble(where, end);
    this.#hand.ended(task, end.durationMs);
    this.#settling += 1;
    if (end.stillRunning !== undefined) this.#keepSlot(end.stillRunning);
    const settled =
      end.settlement === undefined ? Promise.resolve() : this.#settle(task, end.settlement, runnable, end);
    // Before the settlement is written, so that it and the next start are one commit.
    this.startWaiting();
    await settled;
    this.#letGo(task);
    this.#settling -= 1;
    this.#options.onProcessed();
    this.#options.onLeft();
  }

  /** Others may begin again after a while, or at the task's end: whoever aborts the answer says so. */
  #beginAlone(task: TaskInHand): AbortController {
    const ended = new AbortController();
    void this.#parts.clock.sleep(ALONE_FOR_MS, ended.signal).then(() => {
      this.#hand.clearSuspicion(task);
      this.startWaiting();
      this.#options.onLeft();
    });
    return ended;
  }

  /** What whoever watches the log should see without asking the task log. */
  #logTrouble(where: object, { settlement, error, report }: RunEnd): void {
    const { logger } = this.#parts;
    if (settlement === undefined) {
      logger.warn(where, 'The claim was lost while the task ran: nothing of this run is written');
    } else if (settlement.kind === 'retry') {
      logger.warn(
        { ...where, err: error, afterMs: settlement.afterMs },
        'The task failed and is tried again',
      );
    } else if (settlement.kind === 'failed') {
      const { deadReason } = settlement;
      logger.error({ ...where, err: error, deadReason, report: report?.message }, 'The task failed');
    }
  }

  /** A handler that ignored its abort keeps its slot until it returns. */
  #keepSlot(stillRunning: Promise<void>): void {
    this.#hand.loseSlot();
    void stillRunning.then(() => {
      this.#hand.regainSlot();
      this.startWaiting();
    });
    if (this.#hand.hasNoUsableSlot) this.#options.onAllLost();
  }

  async #settle(
    task: TaskInHand,
    settlement: Settlement,
    runnable: RunnableTask | undefined,
    end: RunEnd | undefined,
  ): Promise<void> {
    const { leased, bound } = task;
    const run = { leased, ...(runnable && { runnable }), ...(end && { end }) };
    try {
      await this.#settler.settle(bound, settlement, run, this.#timeIsUp.signal);
    } catch (error) {
      this.#unsettled += 1;
      const where = this.#where(bound, leased.held.id);
      this.#parts.logger.error(
        { err: error, ...where },
        'A task was left unsettled: its claim will lapse and it will run again',
      );
    }
  }

  async #giveBack(task: TaskInHand): Promise<void> {
    this.#settling += 1;
    await this.#settle(task, { task: task.leased.held, kind: 'give-back', afterMs: 0 }, undefined, undefined);
    this.#settling -= 1;
    this.#letGo(task);
  }

  async #giveBackStarted(task: TaskInHand): Promise<void> {
    await this.#giveBack(task);
    this.#drop(task);
  }

  /** It leaves its reserved slot without a run. */
  #drop(task: TaskInHand): void {
    this.#hand.releaseSlot(task);
    this.#letGo(task);
    this.startWaiting();
    this.#options.onLeft();
  }

  #letGo(task: TaskInHand): void {
    this.#keeper.letGo(task.leased.held);
  }

  #where(
    bound: BoundQueue,
    id: string,
  ): { readonly task: string; readonly queue: string; readonly worker: string } {
    return { task: id, queue: bound.name, worker: this.#workerId };
  }

  #track(work: Promise<void>): void {
    const watched = work
      .catch((error: unknown) =>
        this.#parts.logger.error({ err: error, worker: this.#workerId }, 'A step of the worker failed'),
      )
      .finally(() => this.#open.delete(watched));
    this.#open.add(watched);
  }
}
