import { describe, expect, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { composeLedger } from '../../src/composed-ledger.ts';
import { silentLogger } from '../../src/environment.ts';
import { BrokerError } from '../../src/errors.ts';
import { EventBus } from '../../src/events.ts';
import { BoundQueue, Queue } from '../../src/queue.ts';
import type { TaskLogBroker } from '../../src/task-log-broker.ts';
import { LeaseKeeper } from '../../src/worker/lease-keeper.ts';
import type { KeptTask } from '../../src/worker/lease-keeper.ts';
import { draw, newTask, QUEUE } from '../conformance/ledger-scene.ts';
import { newEntry } from '../conformance/task-log-scene.ts';
import { intercepted, until } from '../support/core.ts';
import { ManualClock } from '../support/manual-clock.ts';

const LEASE_MS = 30_000;
const TOKEN = 'token';

interface Scene {
  readonly clock: ManualClock;
  readonly log: TaskLogBroker;
  readonly keeper: LeaseKeeper;
  /** A task that this keeper renews from now on. */
  readonly keep: (bound: BoundQueue, id: string) => Promise<KeptTask>;
  readonly claimUntil: (id: string) => Promise<number>;
  /** The queues asked to renew, once for each call. */
  readonly asked: string[];
  readonly told: string[];
  /** A queue over the log; one that hangs does not answer a renewal before `answer`. */
  readonly bind: (name: string, hangs?: boolean) => BoundQueue;
  readonly answer: () => void;
}

function openScene(): Scene {
  const clock = new ManualClock();
  const log = new InMemoryTaskLogBroker({ clock });
  const keeper = new LeaseKeeper({
    leaseMs: LEASE_MS,
    clock,
    logger: silentLogger,
    events: new EventBus(silentLogger),
  });
  const asked: string[] = [];
  const told: string[] = [];
  const waiting: (() => void)[] = [];
  return {
    clock,
    log,
    keeper,
    asked,
    told,
    bind(name, hangs = false) {
      const own = intercepted(log, (method, call) => {
        if (method !== 'renew') return call();
        asked.push(name);
        return hangs ? new Promise<void>((resolve) => waiting.push(resolve)).then(call) : call();
      });
      return new BoundQueue(new Queue(name, new InMemoryQueueBroker({ sync: false, clock })), own);
    },
    answer: () => waiting.splice(0).forEach((resolve) => resolve()),
    async keep(bound, id) {
      const claim = { token: TOKEN, worker: 'worker', leaseMs: LEASE_MS, start: true };
      await log.insert([{ ...newEntry(id), claim }]);
      const task = {
        held: { id, token: TOKEN },
        bound,
        leaseEndsAt: clock.monotonic() + LEASE_MS,
        onLost: () => told.push(`lost ${id}`),
        onCancel: () => told.push(`cancel ${id}`),
      };
      keeper.keep(task);
      return task;
    },
    async claimUntil(id) {
      const { entries } = await log.search({ ids: [id] }, { limit: 1 });
      return entries[0]?.claimUntil ?? 0;
    },
  };
}

describe('the lease keeper', () => {
  it('goes on renewing one queue while another does not answer', async () => {
    const { clock, keeper, keep, bind, claimUntil, answer } = openScene();
    await keep(bind('dumb', true), 'a');
    const sound = await keep(bind('sound'), 'b');
    await clock.advance(10 * LEASE_MS);
    expect(await claimUntil('b')).toBeGreaterThan(clock.now());
    expect(sound.leaseEndsAt).toBeGreaterThan(clock.monotonic());
    answer();
    keeper.close();
    await keeper.quiet();
  });

  it('asks a queue that does not answer only once at a time, and again when it has answered', async () => {
    const { clock, keeper, keep, bind, asked, answer } = openScene();
    await keep(bind('dumb', true), 'a');
    await clock.advance(10 * LEASE_MS);
    expect(asked).toEqual(['dumb']);
    answer();
    await clock.advance(LEASE_MS / 3);
    expect(asked).toEqual(['dumb', 'dumb']);
    answer();
    keeper.close();
    await keeper.quiet();
  });

  it('renews the tasks of one queue in one call, and rests when none is left', async () => {
    const { clock, keeper, keep, bind, asked } = openScene();
    const bound = bind('main');
    const tasks = [await keep(bound, 'a'), await keep(bound, 'b')];
    await clock.advance(LEASE_MS / 3);
    expect(asked).toEqual(['main']);
    for (const { held } of tasks) keeper.letGo(held);
    await clock.advance(10 * LEASE_MS);
    expect(asked).toEqual(['main']);
    await keep(bound, 'c');
    await clock.advance(LEASE_MS / 3);
    expect(asked).toEqual(['main', 'main']);
    keeper.close();
  });

  it('is quiet only when the renewals of all queues have ended', async () => {
    const { clock, keeper, keep, bind, answer } = openScene();
    await keep(bind('dumb', true), 'a');
    await keep(bind('sound'), 'b');
    await clock.advance(LEASE_MS / 3);
    let isQuiet = false;
    const quiet = keeper.quiet().then(() => (isQuiet = true));
    await clock.settle();
    expect(isQuiet).toBe(false);
    answer();
    await quiet;
    keeper.close();
  });

  it('renews nothing and tells nobody once it is closed', async () => {
    const { clock, log, keeper, keep, bind, asked, told, answer } = openScene();
    const bound = bind('dumb', true);
    const task = await keep(bound, 'a');
    await clock.advance(LEASE_MS / 3);
    await log.change('cancel', ['a'], { force: true });
    keeper.close();
    answer();
    await keeper.quiet();
    await keep(bound, 'b');
    await clock.advance(10 * LEASE_MS);
    expect(await keeper.isAlive(task)).toBe(false);
    expect(asked).toEqual(['dumb']);
    expect(told).toEqual([]);
  });
});

describe('a composed ledger', () => {
  it('renews the claims of a queue whose broker does not extend, and tells what became of that', async () => {
    const clock = new ManualClock();
    const log = new InMemoryTaskLogBroker({ clock });
    let refuse: (error: Error) => void = () => undefined;
    const broker = intercepted(new InMemoryQueueBroker({ sync: false, clock }), (method, call) =>
      method === 'extend' ? new Promise((_, reject) => (refuse = reject)) : call(),
    );
    const told: unknown[] = [];
    const onError = (operation: string, queue: string, error: unknown): void => {
      told.push({ operation, queue, error });
    };
    const ledger = composeLedger(broker, log, { onError });
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const leaseMs = 600;
    const { drawn, token } = await draw(
      { ledger, broker, log, close: async () => undefined, pass: (ms) => clock.advance(ms) },
      { leaseMs },
    );
    const tasks = drawn.map(({ delivery: { id, receipt } }) => ({ id, token, receipt }));
    await clock.advance(200);
    expect(await ledger.renew(QUEUE, tasks, leaseMs)).toEqual([{ id: 'a', kind: 'renewed' }]);
    const { entries } = await log.search({}, { limit: 1 });
    expect(entries[0]?.claimUntil).toBe(clock.now() + leaseMs / 2);
    const place = { operation: 'extend', queue: QUEUE };
    expect(told).toMatchObject([{ ...place, error: { code: 'BROKER_UNAVAILABLE' } }]);
    const late = new BrokerError('BROKER_FAILED', 'No such receipt.');
    refuse(late);
    await until('the late refusal is told', () => told.length === 2);
    expect(told[1]).toEqual({ ...place, error: late });
  });
});
