import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Knex } from 'knex';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { Queue } from '../../src/queue.ts';
import { Report } from '../../src/report.ts';
import { defineTask } from '../../src/task.ts';
import type { DefinedTask, TaskContext } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { failureOf, intercepted, memoryCore, notingClock, until } from '../support/core.ts';
import type { Core, CoreOptions } from '../support/core.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sqliteFile } from '../support/sqlite.ts';
import type { SqliteFile } from '../support/sqlite.ts';

function syncCore(options: CoreOptions = {}): Core {
  return memoryCore({ queueBroker: new InMemoryQueueBroker(), ...options });
}

function task<R>(run: (parameters: object, context: TaskContext) => R): DefinedTask<object, R> {
  return defineTask({ name: 'task', run });
}

describe('a sync queue', () => {
  it('has run the task when enqueue resolves, and the log holds status, report and times', async () => {
    const { dispatcher, taskLog } = syncCore();
    const add = defineTask({ name: 'add', run: async ({ a }: { a: number }) => a + 1 });
    const handle = await dispatcher.enqueue(add({ a: 1 }), 'Add');
    expect(await handle.status()).toBe('completed');
    expect((await handle.report())?.data).toBe(2);
    expect(await handle.result({ timeoutMs: 0 })).toBe(2);
    const row = await taskLog.getById(handle.id);
    expect(row).toMatchObject({ attempts: 1, lapses: 0, claimUntil: null, pushAt: null, label: 'Add' });
    expect(row.startedAt).not.toBeNull();
    expect(row.finishedAt).not.toBeNull();
    expect(await dispatcher.count()).toBe(0);
  });

  it('accepts a task that fails: its row and report say so', async () => {
    const { dispatcher } = syncCore();
    const failing = task(() => {
      throw new TypeError('no such thing');
    });
    const handle = await dispatcher.enqueue(failing({}));
    expect(handle).toBeTruthy();
    expect(await handle.status()).toBe('failed');
    expect((await handle.report())?.message).toBe('TypeError: no such thing');
    expect((await failureOf(() => handle.result())).code).toBe('TASK_FAILED');
  });

  it('runs a task that a running task enqueues to its end first, also on a second sync queue', async () => {
    const broker = new InMemoryQueueBroker();
    const order: string[] = [];
    const { dispatcher, taskLog } = syncCore({
      queues: [new Queue('outer', broker), new Queue('inner', broker)],
    });
    const inner = defineTask({ name: 'inner', run: async () => void order.push('inner') });
    const outer = defineTask({
      name: 'outer',
      run: async ({ queue }: { queue: string }) => {
        order.push('outer begins');
        await dispatcher.enqueue(inner({}), { queue });
        order.push('outer ends');
      },
    });
    await dispatcher.enqueue(outer({ queue: 'inner' }));
    await dispatcher.enqueue(outer({ queue: 'outer' }));
    const once = ['outer begins', 'inner', 'outer ends'];
    expect(order).toEqual([...once, ...once]);
    expect(await taskLog.stats()).toMatchObject({ completed: 4 });
  });

  it('runs the very task that was enqueued, also when an older message waits in the queue', async () => {
    const queueBroker = new InMemoryQueueBroker();
    const { dispatcher } = syncCore({ queueBroker });
    await queueBroker.push('main', [{ id: 'old', body: '{}', generation: 1 }]);
    const echo = defineTask({ name: 'echo', run: ({ n }: { n: number }) => n });
    const handles = [await dispatcher.enqueue(echo({ n: 1 })), await dispatcher.enqueue(echo({ n: 2 }))];
    expect(await Promise.all(handles.map((handle) => handle.result()))).toEqual([1, 2]);
    expect(await dispatcher.count()).toBe(1);
  });

  it('runs tasks that are enqueued at the same time each once', async () => {
    const { dispatcher } = syncCore();
    const echo = defineTask({ name: 'echo', run: async ({ n }: { n: number }) => n });
    const numbers = Array.from({ length: 50 }, (_, n) => n);
    const handles = await Promise.all(numbers.map((n) => dispatcher.enqueue(echo({ n }))));
    expect(await Promise.all(handles.map((handle) => handle.result()))).toEqual(numbers);
  });

  it('hands the handler a copy: what it changes stays unchanged for the caller', async () => {
    const { dispatcher } = syncCore();
    const spoil = defineTask({
      name: 'spoil',
      run: (parameters: { list: number[] }) => void parameters.list.push(2),
    });
    const parameters = { list: [1] };
    await dispatcher.enqueue(spoil(parameters));
    expect(parameters).toEqual({ list: [1] });
  });

  it('repeats at once, however long the backoff, and says each failed attempt', async () => {
    const clock = notingClock(new ManualClock());
    const { dispatcher, taskLog } = syncCore({ clock });
    const attempts: number[] = [];
    const flaky = defineTask({
      name: 'flaky',
      retry: { maxAttempts: 3, backoff: 3_600_000 },
      run: (_: object, { attempt }) => {
        attempts.push(attempt);
        if (attempt < 3) throw new Error(`attempt ${attempt}`);
        return 'done';
      },
    });
    const handle = await dispatcher.enqueue(flaky({}));
    expect(attempts).toEqual([1, 2, 3]);
    expect(await handle.result()).toBe('done');
    expect(await taskLog.getById(handle.id)).toMatchObject({ status: 'completed', attempts: 3 });
    const lines = await taskLog.lines(handle.id);
    expect(lines.map((line) => line.kind)).toEqual(['attempt', 'attempt']);
    expect(clock.sleeps).not.toContain(3_600_000);
  });

  it('does not repeat a task at once whose handler goes on in spite of its abort', async () => {
    const clock = new ManualClock();
    const { dispatcher } = syncCore({ clock });
    const begun: number[] = [];
    const stubborn = defineTask({
      name: 'stubborn',
      timeoutMs: 1_000,
      retry: { maxAttempts: 2, backoff: 0 },
      run: (_: object, { attempt }) => {
        begun.push(clock.now());
        return attempt === 1 ? new Promise<string>(() => undefined) : 'done';
      },
    });
    const enqueued = dispatcher.enqueue(stubborn({}));
    await clock.advance(20_000);
    expect(await (await enqueued).result()).toBe('done');
    expect((begun[1] ?? 0) - (begun[0] ?? 0)).toBeGreaterThanOrEqual(1_000 + 2 * 5_000);
  });

  it('waits for a backoff that is short enough for its setting', async () => {
    const { dispatcher } = syncCore({ sync: { maxWaitMs: 60 } });
    let firstEnd = 0;
    let secondStart = 0;
    const flaky = defineTask({
      name: 'flaky',
      retry: { maxAttempts: 2, backoff: 30, jitter: 0 },
      run: (_: object, { attempt }) => {
        if (attempt === 1) {
          firstEnd = performance.now();
          throw new Error('not yet');
        }
        secondStart = performance.now();
      },
    });
    await dispatcher.enqueue(flaky({}));
    expect(secondStart - firstEnd).toBeGreaterThanOrEqual(29);
  });

  it('runs a task at once that asked for a delay, since nobody would run it later', async () => {
    const { dispatcher } = syncCore();
    const handle = await dispatcher.enqueue(task(() => 1)({}), { delayMs: 3_600_000 });
    expect(await handle.status()).toBe('completed');
  });

  it('renews the claim of a slow task', async () => {
    const clock = new ManualClock();
    const { dispatcher, taskLog } = syncCore({ clock });
    let end = (): void => undefined;
    const begun = new Promise<void>((begin) => {
      const slow = task(async () => {
        begin();
        await new Promise<void>((resolve) => (end = resolve));
      });
      void dispatcher.enqueue(slow({}));
    });
    await begun;
    for (let minute = 0; minute < 5; minute += 1) {
      await clock.advance(60_000);
      const [row] = (await taskLog.search()).entries;
      expect(row?.claimUntil).toBeGreaterThan(clock.now());
    }
    end();
    await clock.settle();
    expect(await taskLog.stats()).toMatchObject({ completed: 1 });
  });

  it('aborts a task that is cancelled while it runs, and it ends cancelled', async () => {
    const clock = new ManualClock();
    const { dispatcher, taskLog } = syncCore({ clock });
    const patient = task((_, { signal }) => {
      return new Promise<never>((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('aborted')));
      });
    });
    const call = patient({});
    const enqueued = dispatcher.enqueue(call);
    await clock.settle();
    expect(await taskLog.cancel(call.id)).toBe('running');
    await clock.advance(30_000);
    await enqueued;
    expect(await taskLog.getStatus(call.id)).toBe('cancelled');
  });

  it('writes nothing for a task that was taken away from it', async () => {
    const { dispatcher, taskLog } = syncCore();
    const robbed = task(async (_, { taskId }) => {
      await taskLog.cancel(taskId, { force: true });
      return 'too late';
    });
    const handle = await dispatcher.enqueue(robbed({}));
    expect(await handle.status()).toBe('cancelled');
    expect(await handle.report()).toBeNull();
  });

  it('is drawn from by no worker', async () => {
    const { dispatcher } = syncCore();
    expect((await failureOf(() => new Worker({ dispatcher }))).code).toBe('WORKER_OPTIONS_INVALID');
    const named = await failureOf(() => new Worker({ dispatcher, queues: ['main'] }));
    expect(named.message).toContain('main');
  });

  it('stores nothing and runs nothing when the log refuses the row', async () => {
    let runs = 0;
    const logBroker = intercepted(new InMemoryTaskLogBroker(), (method, call) =>
      method === 'insert' ? Promise.reject(new Error('full')) : call(),
    );
    const { dispatcher } = syncCore({ logBroker });
    await expect(dispatcher.enqueue(task(() => (runs += 1))({}))).rejects.toThrow('full');
    expect(runs).toBe(0);
  });
});

describe('a sync task in the transaction of its caller', () => {
  let file: SqliteFile;
  let knex: Knex;
  let core: Core;
  let runs: string[];
  const note = task((_, { taskId }) => void runs.push(taskId));

  beforeEach(async () => {
    file = await sqliteFile();
    const persistence = file.open();
    runs = [];
    core = syncCore({ logBroker: new RdsTaskLogBroker(persistence) });
    await core.taskLog.createContainer();
    knex = await persistence.knex();
    await knex.raw('create table orders (id integer)');
  });

  afterEach(() => file.remove());

  it('runs after the commit, and never before', async () => {
    const { dispatcher, taskLog } = core;
    const transaction = await knex.transaction();
    await transaction('orders').insert({ id: 1 });
    const { id } = await dispatcher.enqueue(note({}), { transaction });
    expect(runs).toEqual([]);
    await transaction.commit();
    await until('the task has ended', async () => (await taskLog.getStatus(id)) === 'completed');
    expect(runs).toEqual([id]);
    expect(await knex('orders').select()).toEqual([{ id: 1 }]);
  });

  it('neither runs nor exists after a rollback', async () => {
    const { dispatcher, taskLog } = core;
    const transaction = await knex.transaction();
    await transaction('orders').insert({ id: 1 });
    const { id } = await dispatcher.enqueue(note({}), { transaction });
    await transaction.rollback();
    const other = await dispatcher.enqueue(note({}));
    expect(await taskLog.getStatus(id)).toBe('unknown');
    expect(await knex('orders').select()).toEqual([]);
    expect(runs).toEqual([other.id]);
  });

  it('is refused when the transaction has ended or is none', async () => {
    const { dispatcher, taskLog } = core;
    const ended = await knex.transaction();
    await ended.commit();
    for (const transaction of [ended, {}, knex]) {
      const error = await failureOf(() => dispatcher.enqueue(note({}), { transaction }));
      expect(error.code).toBe('FOREIGN_TRANSACTION');
    }
    expect((await taskLog.search()).entries).toEqual([]);
    expect(runs).toEqual([]);
  });

  it('has its report as soon as enqueue resolves when there is no transaction', async () => {
    const handle = await core.dispatcher.enqueue(task(() => Report.createSuccess('Done', { n: 1 }))({}));
    expect(await handle.report()).toMatchObject({ type: 'success', message: 'Done', data: { n: 1 } });
  });
});
