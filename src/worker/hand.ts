import type { Clock } from '../environment.ts';
import type { BoundQueue } from '../queue.ts';
import type { KeptTask } from './lease-keeper.ts';
import type { LeasedTask } from '../run-end.ts';

/** A claimed task in a worker's hand. */
export interface TaskInHand {
  readonly leased: LeasedTask;
  readonly bound: BoundQueue;
  readonly kept: KeptTask;
  readonly abort: AbortController;
  /** When it was taken, on the monotonic clock. */
  readonly takenAt: number;
}

/** Tasks are taken ahead of free slots only as far as they can start within this time, so that what arrives meanwhile with a higher priority or weight waits no longer. */
const AHEAD_MS = 250;
const MOST_AHEAD = 100;
/** How long a task that has lapsed waits for the others to end, so that it begins alone. */
const ALONE_WITHIN_MS = 1_500;
/** How long nothing begins beside it: what kills a worker mostly does it soon, and a long task must not keep a worker to itself. */
export const ALONE_FOR_MS = 3_000;
/** Weight of the newest run in the running mean. */
const SMOOTHING = 0.1;

/** What a worker holds: tasks that run, tasks that wait for a slot, and how many more it may take. */
export class Hand {
  readonly #concurrency: number;
  readonly #clock: Clock;
  readonly #unstarted: TaskInHand[] = [];
  /** With the instant of their start, on the monotonic clock. */
  readonly #running = new Map<TaskInHand, number>();
  /** Slots given to tasks whose start is being written. */
  #starting = 0;
  /** A task with lapses that has begun: it may be what killed its worker, so nothing begins beside it. */
  #suspect: TaskInHand | undefined;
  /** Slots whose handler ignored its abort. */
  #lost = 0;
  #meanMs: number | undefined;

  constructor(concurrency: number, clock: Clock) {
    this.#concurrency = concurrency;
    this.#clock = clock;
  }

  get size(): number {
    return this.#unstarted.length + this.#running.size + this.#starting;
  }

  get running(): readonly TaskInHand[] {
    return [...this.#running.keys()];
  }

  /** Slots for tasks of the next draw; those that wait already come first. */
  get freeSlots(): number {
    return this.#isHeldBack() ? 0 : Math.max(0, this.#slotsLeft - this.#unstarted.length);
  }

  get hasNoUsableSlot(): boolean {
    return this.#lost >= this.#concurrency;
  }

  /** How many more may be taken; 0 as well while enough are waiting to make the next draw worth its round trip. */
  room(takesAhead: boolean): number {
    if (this.#isHeldBack()) return 0;
    const ahead = takesAhead ? this.#ahead() : 0;
    if (ahead > 0 && this.#unstarted.length > ahead / 2) return 0;
    return Math.max(0, this.#concurrency + ahead - this.#lost - this.size);
  }

  add(task: TaskInHand): void {
    this.#unstarted.push(task);
  }

  /** The next task to start, with a slot reserved for it. */
  takeForStart(): TaskInHand | undefined {
    if (this.#slotsLeft <= 0 || this.#isHeldBack()) return undefined;
    const task = this.#unstarted.shift();
    if (task === undefined) return undefined;
    this.#starting += 1;
    if (task.leased.lapses > 0) this.#suspect = task;
    return task;
  }

  /** A slot for a task whose start is committed already. */
  reserveSlot(): void {
    this.#starting += 1;
  }

  /** Its start could not be written: it waits on, first in line. */
  putBack(task: TaskInHand): void {
    this.#starting -= 1;
    this.clearSuspicion(task);
    this.#unstarted.unshift(task);
  }

  /** It will not run after all. */
  releaseSlot(task: TaskInHand): void {
    this.#starting -= 1;
    this.clearSuspicion(task);
  }

  /** The task has run long enough, or ended: others may begin. */
  clearSuspicion(task: TaskInHand): void {
    if (this.#suspect === task) this.#suspect = undefined;
  }

  began(task: TaskInHand): void {
    this.#starting -= 1;
    this.#running.set(task, this.#clock.monotonic());
  }

  ended(task: TaskInHand, durationMs: number): void {
    this.#running.delete(task);
    this.clearSuspicion(task);
    this.#meanMs =
      this.#meanMs === undefined ? durationMs : this.#meanMs + SMOOTHING * (durationMs - this.#meanMs);
  }

  loseSlot(): void {
    this.#lost += 1;
  }

  regainSlot(): void {
    this.#lost -= 1;
  }

  /** Those that have not begun; with `takenBefore` only the ones that have waited since before that instant. */
  takeUnstarted(takenBefore: number = Infinity): readonly TaskInHand[] {
    const kept = this.#unstarted.findIndex((task) => task.takenAt >= takenBefore);
    const taken = this.#unstarted.splice(0, kept === -1 ? this.#unstarted.length : kept);
    // Runs have become longer than the mean says: nothing is taken ahead until one ends, else these would come straight back.
    if (takenBefore < Infinity && taken.length > 0) this.#meanMs = undefined;
    return taken;
  }

  get hasUnstarted(): boolean {
    return this.#unstarted.length > 0;
  }

  /** Nothing begins beside a task that may have killed its worker, nor before it when it is next. */
  #isHeldBack(): boolean {
    if (this.#suspect !== undefined) return true;
    const [next] = this.#unstarted;
    if (next === undefined || next.leased.lapses === 0) return false;
    const isAlone = this.#running.size + this.#starting === 0;
    return !isAlone && this.#clock.monotonic() - next.takenAt < ALONE_WITHIN_MS;
  }

  get #slotsLeft(): number {
    return this.#concurrency - this.#running.size - this.#starting - this.#lost;
  }

  #ahead(): number {
    if (this.#meanMs === undefined) return 0;
    // Runs that are under way longer than the mean say more about the next slot than those that have ended.
    const expectedMs = Math.max(this.#meanMs, this.#meanAgeMs(), 1);
    return Math.min(MOST_AHEAD, Math.floor((this.#concurrency * AHEAD_MS) / expectedMs));
  }

  #meanAgeMs(): number {
    if (this.#running.size === 0) return 0;
    const now = this.#clock.monotonic();
    let sum = 0;
    for (const startedAt of this.#running.values()) sum += now - startedAt;
    return sum / this.#running.size;
  }
}
