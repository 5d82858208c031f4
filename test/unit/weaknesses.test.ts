/**
 * Weaknesses that queues of this design are known to have, and where the test is that keeps ours free of each.
 *
 * | weakness                                                          | test                                              |
 * |-------------------------------------------------------------------|---------------------------------------------------|
 * | a message is hidden for ever when its worker dies                 | worker-ends: a task that crashed its workers      |
 * | a message may be drawn before its row exists, and is lost         | here: row and message; worker-faults: without row |
 * | a crash between row and message loses the task                    | worker-faults: an outage between row and message  |
 * | a second delivery arms an ended or running task again             | worker: a run; conformance of task logs           |
 * | a run longer than its lease is delivered again                    | here: leases; worker-stop: a pause                |
 * | prefetched tasks are lost when the worker stops                   | worker-stop: stopping, a pause                    |
 * | limit and prefetching together strand tasks                       | worker-stop: a limit                              |
 * | a lost claim leaves its message behind for ever                   | worker: a run; worker-faults: taken claims        |
 * | choosing an empty queue sleeps instead of trying another          | worker-stop: several queues                       |
 * | prefetched tasks starve while other queues are drawn              | here: leases                                      |
 * | one queue that holds a call open blocks the others, or the end    | worker-stop: stopping                             |
 * | an acknowledgement looks its queue up again, and hits another     | here: the queue of a delivery                     |
 * | two workers take one row                                          | worker: a worker; conformance of queue brokers    |
 * | an unreadable message is dropped silently or kills its worker     | worker-faults: a message that nobody can read     |
 * | a renamed task loses its queued work                              | tasks: the registry; worker: a worker             |
 * | a message chooses the class that is made of it                    | tasks: the registry                               |
 * | no retry, no backoff, no end of attempts                          | worker-ends: a retry                              |
 * | a hanging task blocks its worker for ever                         | worker-ends: a timeout                            |
 * | what cannot be written as JSON is accepted and lost               | bad-input: a task                                 |
 * | what is too large for its column or broker is accepted and lost   | bad-input: the size of a task                     |
 * | a report that cannot be stored leaves its task running for ever   | worker-faults: an outage                          |
 * | the order of tasks is right to the second only                    | here: order                                       |
 * | queue names that differ in case, or equal the log's table, collide | routing; bad-input: a configuration               |
 * | a sync queue runs another task than the one enqueued              | sync-queue: a sync queue                          |
 * | a sync task changes the session or the parameters of its caller   | sync-queue; here: the caller of a sync task       |
 * | the outcome of a sync task is hidden from its caller              | sync-queue; tasks: what a handler returns         |
 * | an outage looks like "no task", "no status" or "another worker"   | here: an outage; worker-faults: an outage         |
 * | cancelling and archiving look first and write later               | here: cancelling against running                  |
 * | an archived task that was queued runs all the same                | worker: a run                                     |
 * | one odd row empties every list                                    | here: a row of a newer version                    |
 * | an error's details never reach the user                           | worker: a run                                     |
 * | a row lacks queue, worker, attempts and times                     | here: the times of a row                          |
 * | the label of the task object is ignored                           | dispatcher: enqueue                               |
 * | interpolation data of the root report is lost                     | tasks: what a handler returns                     |
 * | a task's owner or headers leak into the next task                 | dispatcher: what a handler knows                  |
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import type { Persistence } from '../../brokers/rds/index.ts';
import { BrokerError } from '../../src/errors.ts';
import { Queue } from '../../src/queue.ts';
import { AbstractTask, defineTask } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { failureOf, intercepted, memoryCore, pause, until } from '../support/core.ts';
import type { Core } from '../support/core.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sqliteFile } from '../support/sqlite.ts';
import type { SqliteFile } from '../support/sqlite.ts';

const plain = defineTask({ name: 'plain', run: (_: object) => 'done' });

function drain({ dispatcher }: Core): Promise<unknown> {
  return new Worker({ dispatcher, stopWhenEmpty: true }).run();
}

describe('row and message in one database', () => {
  let file: SqliteFile;
  let persistence: Persistence;
  let core: Core;

  beforeEach(async () => {
    file = await sqliteFile();
    persistence = file.open();
    core = memoryCore({
      queueBroker: new RdsQueueBroker(persistence),
      logBroker: new RdsTaskLogBroker(persistence),
    });
    await core.dispatcher.initialize();
    await core.taskLog.createContainer();
  });

  afterEach(() => file.remove());

  it('are there together: a worker in a hurry meets no message without its row', async () => {
    const worker = new Worker({ dispatcher: core.dispatcher, pollIntervalMs: 1 });
    const ended = worker.run();
    const handles = [];
    for (let i = 0; i < 40; i += 1) handles.push(await core.dispatcher.enqueue(plain({})));
    await core.dispatcher.waitForCompletion(10_000);
    await worker.stop();
    await ended;
    const rows = await Promise.all(handles.map(({ id }) => core.taskLog.getById(id)));
    for (const row of rows)
      expect(row).toMatchObject({ status: 'completed', attempts: 1, lapses: 0, pushAt: null });
  });

  it('come and go with the transaction of the caller', async () => {
    const told: string[] = [];
    core.dispatcher.events.on('task:enqueued', ({ taskId }) => told.push(taskId));
    const knex = await persistence.knex();
    const undone = await knex.transaction();
    const gone = await core.dispatcher.enqueue(plain({}), { transaction: undone });
    await undone.rollback();
    expect(await gone.status()).toBe('unknown');
    expect(await core.dispatcher.count()).toBe(0);
    const done = await knex.transaction();
    const kept = await core.dispatcher.enqueue(plain({}), { transaction: done });
    expect(told).toEqual([]);
    await done.commit();
    expect(await core.dispatcher.count()).toBe(1);
    await until('its enqueue is told', () => told.length > 0);
    expect(told).toEqual([kept.id]);
    await drain(core);
    expect(await kept.status()).toBe('completed');
  });

  it('are both absent when the message is refused', async () => {
    await (await persistence.knex()).raw('drop table tq_message');
    await expect(core.dispatcher.enqueue(plain({}))).rejects.toMatchObject({ name: 'BrokerError' });
    expect((await core.taskLog.search()).entries).toEqual([]);
  });

  it('survive a row of a newer version: the others are listed, and it counts as unknown', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 3; i += 1) ids.push((await core.dispatcher.enqueue(plain({}))).id);
    await (await persistence.knex())('tq_task_log').where({ id: ids[1] }).update({ status: 'hovering' });
    const { entries } = await core.taskLog.search();
    expect(entries.map(({ id }) => id).sort()).toEqual(ids);
    expect(await core.taskLog.getStatus(ids[1] ?? '')).toBe('unknown');
    expect(await core.taskLog.getStatus(ids[2] ?? '')).toBe('enqueued');
  });

  it('tell queue, worker, attempts and times, which archiving leaves alone', async () => {
    const { id } = await core.dispatcher.enqueue(defineTask({ name: 'slow', run: () => pause(20) })({}));
    await drain(core);
    const row = await core.taskLog.getById(id);
    expect(row).toMatchObject({ queue: 'main', attempts: 1 });
    expect(row.worker).toContain(`${process.pid}`);
    expect(row.startedAt).toBeGreaterThanOrEqual(row.createdAt);
    expect((row.finishedAt ?? 0) - (row.startedAt ?? 0)).toBeGreaterThanOrEqual(19);
    await core.taskLog.archive(id);
    const { startedAt, finishedAt } = await core.taskLog.getById(id);
    expect({ startedAt, finishedAt }).toEqual({ startedAt: row.startedAt, finishedAt: row.finishedAt });
  });
});

describe('leases', () => {
  it('of a run that lasts many times longer are renewed: another worker finds nothing', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    let runs = 0;
    let end = (): void => undefined;
    const long = defineTask({
      name: 'long',
      run: async () => {
        runs += 1;
        await new Promise<void>((resolve) => (end = resolve));
      },
    });
    const handle = await core.dispatcher.enqueue(long({}));
    const workers = [1, 2].map(() => new Worker({ dispatcher: core.dispatcher, leaseMs: 10_000 }));
    const ended = workers.map((worker) => worker.run());
    for (let minute = 0; minute < 20; minute += 1) {
      await clock.advance(60_000);
      expect(await core.queueBroker.count('main')).toMatchObject({ leased: 1, ready: 0 });
    }
    expect(runs).toBe(1);
    end();
    await clock.settle();
    expect(await core.taskLog.getById(handle.id)).toMatchObject({
      status: 'completed',
      attempts: 1,
      lapses: 0,
    });
    await Promise.all(workers.map((worker) => worker.stop()));
    await Promise.all(ended);
  });

  it('of tasks that were taken ahead hold up nobody: what cannot begin soon runs elsewhere', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    for (let i = 0; i < 100; i += 1) await core.dispatcher.enqueue(plain({}));
    const busy = new Worker({ dispatcher: core.dispatcher, concurrency: 1 });
    const busyEnd = busy.run();
    await until('it is warm', async () => (await core.taskLog.stats()).completed === 100);
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const blocking = defineTask({ name: 'blocking', run: () => gate });
    await core.dispatcher.enqueue(blocking({}));
    await clock.settle();
    await Promise.all(Array.from({ length: 20 }, () => core.dispatcher.enqueue(plain({}))));
    await until('it has taken them', async () => (await core.taskLog.stats()).dequeued === 20);
    expect(await core.taskLog.stats()).toMatchObject({ running: 1, dequeued: 20 });
    const idle = new Worker({ dispatcher: core.dispatcher });
    const idleEnd = idle.run();
    await clock.advance(5_000);
    expect(await core.taskLog.stats()).toMatchObject({
      running: 1,
      dequeued: 0,
      enqueued: 0,
      completed: 120,
    });
    open();
    await clock.settle();
    await Promise.all([busy.stop(), idle.stop(), busyEnd, idleEnd]);
  });
});

describe('the queue of a delivery', () => {
  it('is settled with it, whatever the task would answer by now', async () => {
    let choice = 'first';
    class Fickle extends AbstractTask {
      override getQueueName(): string {
        return choice;
      }

      run(): string {
        choice = 'second';
        return 'done';
      }
    }
    const queueBroker = new InMemoryQueueBroker({ sync: false });
    const queues = [new Queue('first', queueBroker), new Queue('second', queueBroker)];
    const core = memoryCore({ queueBroker, queues });
    await core.dispatcher.enqueue(new Fickle());
    await core.dispatcher.enqueue(plain({}), { queue: 'second', delayMs: 60_000 });
    await drain(core);
    expect(await queueBroker.count('first')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
    expect(await queueBroker.count('second')).toMatchObject({ delayed: 1 });
  });
});

describe('order', () => {
  it('is that of the calls, also within one millisecond', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    const order: number[] = [];
    const note = defineTask({ name: 'note', run: ({ n }: { n: number }) => void order.push(n) });
    const numbers = Array.from({ length: 50 }, (_, n) => n);
    await Promise.all(numbers.map((n) => core.dispatcher.enqueue(note({ n }))));
    await new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true, concurrency: 1 }).run();
    expect(order).toEqual(numbers);
  });
});

describe('the caller of a sync task', () => {
  it('keeps its own context and owner', async () => {
    const session = new AsyncLocalStorage<string>();
    const { dispatcher, taskLog } = memoryCore({ queueBroker: new InMemoryQueueBroker() });
    dispatcher.setOwner('caller');
    const other = defineTask({ name: 'other', run: (_: object) => session.enterWith('of the task') });
    await session.run('of the caller', async () => {
      await dispatcher.enqueue(other({}), { owner: 'somebody else' });
      expect(session.getStore()).toBe('of the caller');
    });
    const { id } = await dispatcher.enqueue(plain({}));
    expect(await taskLog.getById(id)).toMatchObject({ owner: 'caller' });
  });
});

describe('an outage', () => {
  const away = (): Promise<never> => Promise.reject(new BrokerError('BROKER_UNAVAILABLE', 'Away.'));
  const core = memoryCore({
    queueBroker: intercepted(new InMemoryQueueBroker({ sync: false }), away),
    logBroker: intercepted(new InMemoryTaskLogBroker(), away),
  });

  it.each([
    ['a status', () => core.taskLog.getStatus('a')],
    ['a report', () => core.taskLog.getReport('a')],
    ['a row', () => core.taskLog.find('a')],
    ['a list', () => core.taskLog.search()],
    ['the available tasks', () => core.taskLog.findAvailable()],
    ['statistics', () => core.taskLog.stats()],
    ['lines', () => core.taskLog.lines('a')],
    ['a cancellation', () => core.taskLog.cancel('a')],
    ['an archiving', () => core.taskLog.archive('a')],
    ['a wait', () => core.taskLog.waitFor('a', { timeoutMs: 1 })],
    ['a count', () => core.dispatcher.count()],
    ['the end of all tasks', () => core.dispatcher.waitForCompletion(1)],
  ])('is never taken for an answer: %s', async (_, ask) => {
    expect((await failureOf(ask)).code).toBe('BROKER_UNAVAILABLE');
  });
});

describe('cancelling against running', () => {
  it('ends each task in one way only: cancelled ones have no result, completed ones stay completed', async () => {
    const core = memoryCore();
    const ran = new Set<string>();
    const brief = defineTask({
      name: 'brief',
      run: async (_: object, { taskId }) => {
        ran.add(taskId);
        await pause(Math.random() * 2);
        return 'done';
      },
    });
    const handles = await Promise.all(Array.from({ length: 60 }, () => core.dispatcher.enqueue(brief({}))));
    const worker = new Worker({ dispatcher: core.dispatcher, concurrency: 4 });
    const ended = worker.run();
    const answers = new Map<string, string>();
    await Promise.all(
      handles.map(async ({ id }, index) => {
        await pause(Math.random() * index);
        answers.set(id, await core.taskLog.cancel(id).catch(() => 'refused'));
      }),
    );
    expect(await core.dispatcher.waitForCompletion(10_000)).toBe(true);
    await worker.stop();
    await ended;
    for (const { id } of handles) {
      const { status, report } = await core.taskLog.getById(id);
      if (answers.get(id) === 'cancelled') {
        expect({ status, report, ran: ran.has(id) }).toEqual({
          status: 'cancelled',
          report: null,
          ran: false,
        });
      } else {
        expect(ran.has(id)).toBe(true);
        expect(['completed', 'cancelled']).toContain(status);
      }
    }
    expect(new Set(answers.values()).has('cancelled')).toBe(true);
  });
});
