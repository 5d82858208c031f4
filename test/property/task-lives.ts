import { expect } from 'vitest';
import { claimLeaseMs } from '../../src/task-transitions.ts';
import type { Ledger } from '../../src/ledger.ts';
import type { QueueBroker } from '../../src/queue-broker.ts';
import type {
  ClaimAnswer,
  HeldTask,
  Settlement,
  TaskAct,
  TaskLogBroker,
  TaskLogEntry,
} from '../../src/task-log-broker.ts';
import { isFinished, mayChange } from '../../src/task-status.ts';
import { newTask, QUEUE } from '../conformance/ledger-scene.ts';

const MINUTE_MS = 60_000;
/** No sum of the passes of time below is a lease or a delay, so that nothing hangs on a millisecond. */
export const LEASE_MS: number = 60 * MINUTE_MS;
export const DELAY_MS: number = 90 * MINUTE_MS;
export const RETRY_MS: number = 30 * MINUTE_MS;
export const PASSES_MS: readonly number[] = [20 * MINUTE_MS, 120 * MINUTE_MS];

export const MAX_ATTEMPTS = 3;
export const MAX_LAPSES = 3;

export interface LifeStorage {
  readonly broker: QueueBroker;
  readonly log: TaskLogBroker;
  readonly ledger: Ledger;
  /** Of the storage, UTC milliseconds. */
  readonly now: () => number;
  /** Lets the time go by. */
  readonly pass: (ms: number) => Promise<void>;
}

/** A claim as the worker knows it that drew it. It stays here when its time is over: that makes zombies. */
interface Claim extends HeldTask {
  readonly worker: number;
  readonly attempts: number;
  readonly lapses: number;
  until: number;
  /** Its start is committed. */
  hasBegun: boolean;
  /** Settled, taken over, or fenced off by an operator: what it writes must have no effect. */
  isOver: boolean;
  /** Its worker is dead: it writes nothing any more. */
  isLost: boolean;
}

export type SettleKind = Settlement['kind'];

/** Producers, workers, an operator and time, each step followed by a look at what must always be true. */
export class TaskLives {
  readonly #storage: LifeStorage;
  readonly #ids: string[] = [];
  readonly #claims: Claim[] = [];
  /** Starts that were committed since the task was enqueued or sent again. */
  readonly #begun = new Map<string, number>();
  #rows: ReadonlyMap<string, TaskLogEntry> = new Map();
  #now = 0;
  #steps = 0;

  constructor(storage: LifeStorage) {
    this.#storage = storage;
  }

  get #usable(): readonly Claim[] {
    return this.#claims.filter((claim) => !claim.isLost);
  }

  get hasTasks(): boolean {
    return this.#ids.length > 0;
  }

  get hasClaims(): boolean {
    return this.#usable.length > 0;
  }

  enqueue(isDelayed: boolean): Promise<void> {
    return this.#step(async () => {
      const id = this.#newId();
      const task = newTask(id, { delayMs: isDelayed ? DELAY_MS : 0 });
      expect(await this.#storage.ledger.enqueue(QUEUE, [task])).toEqual([id]);
      expect(await this.#storage.ledger.enqueue(QUEUE, [task])).toEqual([]);
    });
  }

  /** A producer that dies between row and push: only the row says that the message is owed. */
  enqueueHalf(): Promise<void> {
    return this.#step(async () => {
      const { entry } = newTask(this.#newId());
      await this.#storage.log.insert([{ ...entry, owedInMs: MINUTE_MS }]);
    });
  }

  draw(worker: number, max: number, start: number): Promise<void> {
    return this.#step(async () => {
      const token = `token-${this.#steps}`;
      const drawn = await this.#storage.ledger.draw(QUEUE, {
        max,
        start,
        leaseMs: LEASE_MS,
        waitMs: 0,
        signal: new AbortController().signal,
        worker: `worker-${worker}`,
        token,
      });
      expect(drawn.length).toBeLessThanOrEqual(max);
      for (const { delivery, answer } of drawn) {
        this.#noteAnswer(answer, { id: delivery.id, token, receipt: delivery.receipt, worker });
      }
    });
  }

  start(which: number): Promise<void> {
    return this.#step(async () => {
      const claim = this.#claim(which);
      const before = this.#rows.get(claim.id);
      const { started } = await this.#storage.ledger.settle(QUEUE, [], [held(claim)]);
      const kind = started[0]?.kind;
      if (claim.isOver) {
        expect(kind).toBe('lost');
        expect(await this.#read(claim.id)).toEqual(before);
      } else if (kind === 'cancelled') claim.isOver = true;
      else {
        expect(kind).toBe('started');
        if (!claim.hasBegun) this.#noteBegun(claim);
      }
    });
  }

  /** What the core would write: a handler that was not called can only be given back, and attempts are limited. */
  settle(which: number, wanted: SettleKind): Promise<void> {
    return this.#step(async () => {
      const claim = this.#claim(which);
      const before = this.#rows.get(claim.id);
      const settlement = settlementOf(claim, wanted, this.#steps);
      const { settled } = await this.#storage.ledger.settle(QUEUE, [settlement], []);
      const after = await this.#read(claim.id);
      if (claim.isOver) {
        expect(after).toEqual(before);
        return;
      }
      expect(settled).toMatchObject([{ id: claim.id, log: 'written', status: after?.status }]);
      if ('report' in settlement)
        expect(after).toMatchObject({ status: settlement.kind, report: settlement.report });
      else expect(['enqueued', 'cancelled']).toContain(after?.status);
      claim.isOver = true;
    });
  }

  renew(worker: number): Promise<void> {
    return this.#step(async () => {
      const claims = this.#usable.filter((claim) => claim.worker === worker);
      const answers = await this.#storage.ledger.renew(QUEUE, claims.map(held), LEASE_MS);
      claims.forEach((claim, index) => {
        expect(answers[index]?.kind === 'lost').toBe(claim.isOver);
        if (!claim.isOver) claim.until = this.#now + claimLeaseMs(LEASE_MS);
      });
    });
  }

  crash(worker: number): Promise<void> {
    return this.#step(async () => {
      for (const claim of this.#claims) if (claim.worker === worker) claim.isLost = true;
    });
  }

  /** An operator's act. */
  change(act: Exclude<TaskAct, 'fail'>, which: number, force: boolean): Promise<void> {
    const id = this.#ids[which % this.#ids.length] ?? '';
    return this.#step(async () => {
      const [changed] = await this.#storage.ledger.change(QUEUE, act, [id], { force });
      if (changed === undefined || changed.status === 'running') return;
      this.#endClaims(id);
      if (act === 'retry') this.#begun.delete(id);
    }, id);
  }

  /** A second message of the same task. */
  copy(which: number): Promise<void> {
    return this.#step(async () => {
      const id = this.#ids[which % this.#ids.length] ?? '';
      await this.#storage.broker.push(QUEUE, [{ id, body: `copy of ${id}`, generation: this.#steps }]);
    });
  }

  relay(): Promise<void> {
    return this.#step(async () => {
      await this.#storage.ledger.relay(QUEUE, 100);
    });
  }

  pass(ms: number): Promise<void> {
    return this.#step(async () => {
      await this.#storage.pass(ms);
      this.#now += ms;
    });
  }

  /** Workers to which nothing happens: every task ends, and no message is left. */
  async end(): Promise<void> {
    for (let round = 0; round < 12 && !(await this.#haveEnded()); round += 1) {
      await this.pass(300 * MINUTE_MS);
      await this.relay();
      const first = this.#usable.length;
      await this.draw(9, 100, 100);
      for (let which = first; which < this.#usable.length; which += 1) {
        if (!this.#claim(which).hasBegun) await this.start(which);
        await this.settle(which, 'completed');
      }
    }
    expect(await this.#haveEnded()).toBe(true);
    const { ready, delayed, leased } = await this.#storage.broker.count(QUEUE);
    expect(ready + delayed + leased).toBe(0);
  }

  async #haveEnded(): Promise<boolean> {
    const { ready, delayed, leased } = await this.#storage.broker.count(QUEUE);
    const open = [...this.#rows.values()].filter(
      ({ status }) => !isFinished(status) && status !== 'child_running',
    );
    return open.length === 0 && ready + delayed + leased === 0;
  }

  async #step(act: () => Promise<void>, operatorsTask?: string): Promise<void> {
    this.#steps += 1;
    await act();
    const before = this.#rows;
    const { entries } = await this.#storage.log.search({}, { limit: 1_000 });
    this.#rows = new Map(entries.map((entry) => [entry.id, entry]));
    expect([...this.#rows.keys()].toSorted()).toEqual(this.#ids.toSorted());
    for (const row of entries) this.#check(row, before.get(row.id), operatorsTask === row.id);
  }

  #check(row: TaskLogEntry, before: TaskLogEntry | undefined, isOperators: boolean): void {
    if (before !== undefined && before.status !== row.status) {
      expect(mayChange(before.status, row.status, isOperators), `${before.status} to ${row.status}`).toBe(
        true,
      );
    }
    if (before !== undefined && isFinished(before.status) && !isOperators) expect(row).toEqual(before);
    if (isFinished(row.status)) expect(row.pushAt).toBeNull();
    if (row.status === 'running') expect(row.startedAt).not.toBeNull();
    expect(row.claimUntil !== null || !['dequeued', 'running'].includes(row.status)).toBe(true);
    expect(row.attempts).toBeLessThanOrEqual(MAX_ATTEMPTS);
    expect(row.attempts + row.lapses).toBeLessThanOrEqual(this.#begun.get(row.id) ?? 0);
  }

  #noteAnswer(answer: ClaimAnswer, task: HeldTask & { readonly worker: number }): void {
    expect(['claimed', 'finished', 'early', 'held']).toContain(answer.kind);
    // A cancellation that waited for the claim to lapse.
    if (answer.kind === 'finished') this.#endClaims(task.id);
    if (answer.kind !== 'claimed') return;
    expect(this.#rows.get(task.id)?.notBefore, 'it is due').toBeLessThanOrEqual(this.#storage.now());
    for (const other of this.#claims) {
      if (other.id !== task.id || other.isOver) continue;
      expect(other.until, 'the claim before it has lapsed').toBeLessThanOrEqual(this.#now);
      other.isOver = true;
    }
    const { attempts, lapses, leaseLeftMs, started } = answer;
    const until = this.#now + leaseLeftMs;
    const claim: Claim = { ...task, attempts, lapses, until, hasBegun: false, isOver: false, isLost: false };
    this.#claims.push(claim);
    if (started) this.#noteBegun(claim);
  }

  #noteBegun(claim: Claim): void {
    claim.hasBegun = true;
    this.#begun.set(claim.id, (this.#begun.get(claim.id) ?? 0) + 1);
  }

  #endClaims(id: string): void {
    for (const claim of this.#claims) if (claim.id === id) claim.isOver = true;
  }

  #newId(): string {
    const id = `task-${this.#ids.length}`;
    this.#ids.push(id);
    return id;
  }

  #claim(which: number): Claim {
    return this.#usable[which % this.#usable.length] as Claim;
  }

  async #read(id: string): Promise<TaskLogEntry | undefined> {
    return (await this.#storage.log.search({ ids: [id] }, { limit: 1 })).entries[0];
  }
}

function held({ id, token, receipt }: Claim): HeldTask {
  return { id, token, ...(receipt === undefined ? {} : { receipt }) };
}

function settlementOf(claim: Claim, wanted: SettleKind, step: number): Settlement {
  const task = held(claim);
  const report = `report of step ${step}`;
  if (claim.lapses >= MAX_LAPSES) return { task, kind: 'failed', report, deadReason: 'CRASHED' };
  if (!claim.hasBegun) return { task, kind: 'give-back', afterMs: 0 };
  switch (wanted) {
    case 'retry':
      return claim.attempts + 1 < MAX_ATTEMPTS
        ? { task, kind: 'retry', afterMs: RETRY_MS, cause: report }
        : { task, kind: 'failed', report, deadReason: 'ATTEMPTS_EXHAUSTED' };
    case 'again':
    case 'give-back':
      return { task, kind: wanted, afterMs: wanted === 'again' ? RETRY_MS : 0 };
    case 'completed':
    case 'failed':
    case 'child_running':
    case 'cancelled':
      return { task, kind: wanted, report };
  }
}
