import { describe, expect, it } from 'vitest';
import { Report } from '../../src/report.ts';
import { defineTask } from '../../src/task.ts';
import type { DefinedTask, TaskContext } from '../../src/task.ts';
import { TaskRegistry } from '../../src/task-registry.ts';
import { Worker } from '../../src/worker/worker.ts';
import type { WorkerEnd, WorkerOptions } from '../../src/worker/worker.ts';
import { failureOf, memoryCore, pause, recordingLogger } from '../support/core.ts';
import type { Core } from '../support/core.ts';
import { ManualClock } from '../support/manual-clock.ts';

type Run<R> = (parameters: { n?: number }, context: TaskContext) => R;

function task<R>(run: Run<R>): DefinedTask<{ n?: number }, R> {
  return defineTask({ name: 'task', run });
}

function drain(core: Core, options: Partial<WorkerOptions> = {}): Promise<WorkerEnd> {
  return new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true, ...options }).run();
}

describe('a run', () => {
  it.each([
    ['an info report', () => Report.createInfo('said'), 'completed'],
    ['a warning report', () => Report.createWarning('said'), 'completed'],
    ['a value', () => 1, 'completed'],
    ['an error report', () => Report.createFailure('said'), 'failed'],
    [
      'an error below',
      () => Report.createSuccess('said').add(Report.createInfo('a').add(Report.createError('b'))),
      'failed',
    ],
  ])('that answers with %s ends the task, and its message is gone', async (_, run, status) => {
    const core = memoryCore();
    const handle = await core.dispatcher.enqueue(task<unknown>(run)({}));
    expect(await drain(core)).toEqual({ processed: 1, reason: 'empty', exitCode: 0 });
    expect(await handle.status()).toBe(status);
    expect(await handle.report()).not.toBeNull();
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });

  it('stores the report of the task itself as it is', async () => {
    const core = memoryCore();
    const report = Report.createInfo('said', { n: 1 }, [Report.createSuccess('child')]);
    const handle = await core.dispatcher.enqueue(task(() => report)({}));
    await drain(core);
    expect(JSON.stringify(await handle.report())).toBe(JSON.stringify(report));
  });

  it.each([
    ['an error', new RangeError('out')],
    ['a string', 'out'],
    ['nothing', undefined],
  ])(
    'that throws %s fails the task with class, message and attempt, and the worker goes on',
    async (_, thrown) => {
      const core = memoryCore();
      const failing = task(() => {
        throw thrown as Error;
      });
      const handle = await core.dispatcher.enqueue(failing({}));
      const next = await core.dispatcher.enqueue(defineTask({ name: 'next', run: () => 'ran' })({}));
      await drain(core);
      expect(await next.result()).toBe('ran');
      expect(await core.taskLog.getById(handle.id)).toMatchObject({
        status: 'failed',
        deadReason: 'ATTEMPTS_EXHAUSTED',
        attempts: 1,
      });
      const error = thrown instanceof Error ? thrown.name : typeof thrown;
      expect(await handle.report()).toMatchObject({ type: 'error', data: { error, attempt: 1 } });
    },
  );

  it('keeps the stack of an error in the log of the task only, never in its report', async () => {
    const core = memoryCore();
    const failing = task(() => {
      throw new Error('secret place');
    });
    const { id } = await core.dispatcher.enqueue(failing({}));
    await drain(core);
    const row = await core.taskLog.getById(id);
    expect(row.report).not.toContain('worker.test.ts');
    const [line] = await core.taskLog.lines(id);
    expect(line).toMatchObject({ kind: 'attempt' });
    expect(line?.text).toContain('worker.test.ts');
  });

  it('does not begin for a task that was cancelled or archived while it waited', async () => {
    let runs = 0;
    const core = memoryCore();
    const count = task(() => (runs += 1));
    const cancelled = await core.dispatcher.enqueue(count({}));
    const archived = await core.dispatcher.enqueue(count({}));
    expect(await core.taskLog.cancel(cancelled.id)).toBe('cancelled');
    expect(await core.taskLog.archive(archived.id)).toBe('archived');
    await drain(core);
    expect(runs).toBe(0);
    expect(await cancelled.status()).toBe('cancelled');
    expect(await archived.status()).toBe('archived');
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });

  it('does not begin again for a task that has ended, however often its message comes', async () => {
    let runs = 0;
    const core = memoryCore();
    const handle = await core.dispatcher.enqueue(task(() => (runs += 1))({}));
    await drain(core);
    const { envelope } = await core.taskLog.getById(handle.id);
    await core.queueBroker.push('main', [
      { id: handle.id, body: envelope, generation: 2 },
      { id: handle.id, body: envelope, generation: 3 },
    ]);
    expect(await drain(core)).toMatchObject({ processed: 0 });
    expect(runs).toBe(1);
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });

  it('happens once for two messages of one task that are drawn together', async () => {
    let runs = 0;
    const core = memoryCore();
    const handle = await core.dispatcher.enqueue(task(() => (runs += 1))({}));
    const { envelope } = await core.taskLog.getById(handle.id);
    await core.queueBroker.push('main', [{ id: handle.id, body: envelope, generation: 2 }]);
    await drain(core);
    expect(runs).toBe(1);
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });

  it('notes progress and lines in order, kept with the task', async () => {
    const logger = recordingLogger();
    const core = memoryCore({ logger });
    const talking = task((_, { log, progress }) => {
      log('info', 'first');
      progress(-5);
      log('fatal', 'second');
      progress(250, 'done');
      log('debug', 'third');
      return null;
    });
    const { id } = await core.dispatcher.enqueue(talking({}));
    await drain(core);
    const lines = await core.taskLog.lines(id);
    expect(lines.map(({ kind, text }) => [kind, text])).toEqual([
      ['log', 'info: first'],
      ['progress', '{"percent":0}'],
      ['log', 'fatal: second'],
      ['progress', '{"percent":100,"note":"done"}'],
      ['log', 'debug: third'],
    ]);
    const said = logger.lines.filter((line) => ['first', 'second', 'third'].includes(line.message));
    expect(said.map(({ level }) => level)).toEqual(['info', 'error', 'debug']);
    for (const { bindings } of said) expect(bindings).toMatchObject({ taskId: id, taskName: 'task' });
  });

  it('may enqueue another task', async () => {
    const core = memoryCore();
    const order: string[] = [];
    const second = defineTask({ name: 'second', run: () => void order.push('second') });
    const first = defineTask({
      name: 'first',
      run: async () => {
        order.push('first');
        await core.dispatcher.enqueue(second({}));
      },
    });
    await core.dispatcher.enqueue(first({}));
    expect(await drain(core)).toMatchObject({ processed: 2 });
    expect(order).toEqual(['first', 'second']);
  });

  it('says who works: the id of the worker is in the context and in the row', async () => {
    const core = memoryCore();
    const handle = await core.dispatcher.enqueue(task((_, { workerId }) => workerId)({}));
    await drain(core, { workerId: 'night shift' });
    expect(await handle.result()).toBe('night shift');
    expect(await core.taskLog.getById(handle.id)).toMatchObject({ worker: 'night shift' });
  });
});

describe('a worker', () => {
  it('runs no more handlers at once than its concurrency, and each task once', async () => {
    const core = memoryCore();
    let running = 0;
    let most = 0;
    const runs = new Map<number, number>();
    const random = task(async ({ n = 0 }) => {
      running += 1;
      most = Math.max(most, running);
      runs.set(n, (runs.get(n) ?? 0) + 1);
      await pause(Math.random() * 4);
      running -= 1;
    });
    await Promise.all(Array.from({ length: 150 }, (_, n) => core.dispatcher.enqueue(random({ n }))));
    expect(await drain(core, { concurrency: 7 })).toMatchObject({ processed: 150 });
    expect(most).toBe(7);
    expect(runs.size).toBe(150);
    expect(Math.max(...runs.values())).toBe(1);
  });

  it('shares the work with others, without running anything twice', async () => {
    const core = memoryCore();
    const runs: number[] = [];
    const note = task(async ({ n = 0 }) => {
      runs.push(n);
      await pause(1);
    });
    await Promise.all(Array.from({ length: 200 }, (_, n) => core.dispatcher.enqueue(note({ n }))));
    const ends = await Promise.all([1, 2, 3].map(() => drain(core, { concurrency: 5 })));
    expect(runs.sort((a, b) => a - b)).toEqual(Array.from({ length: 200 }, (_, n) => n));
    expect(ends.reduce((sum, { processed }) => sum + processed, 0)).toBe(200);
  });

  it('runs tasks in the order of their enqueueing, higher priorities first', async () => {
    const core = memoryCore();
    const order: number[] = [];
    const note = task(({ n = 0 }) => void order.push(n));
    for (const n of [1, 2, 3, 4]) await core.dispatcher.enqueue(note({ n }), { priority: n === 3 ? 5 : 0 });
    await drain(core, { concurrency: 1 });
    expect(order).toEqual([3, 1, 2, 4]);
  });

  it('is woken by an enqueue in its process', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    const worker = new Worker({ dispatcher: core.dispatcher, pollIntervalMs: 3_600_000 });
    const ended = worker.run();
    await clock.advance(7_200_000);
    const handle = await core.dispatcher.enqueue(task(() => 'at once')({}));
    await clock.settle();
    expect(await handle.result({ timeoutMs: 0 })).toBe('at once');
    await worker.stop();
    await ended;
  });

  it('says when it starts, pauses, goes on and stops', async () => {
    const core = memoryCore();
    const told: string[] = [];
    for (const name of ['worker:started', 'worker:paused', 'worker:resumed', 'worker:stopped'] as const) {
      core.dispatcher.events.on(name, () => told.push(name));
    }
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    worker.resume();
    worker.pause();
    worker.pause();
    expect(worker.isPaused).toBe(true);
    worker.resume();
    expect(worker.isPaused).toBe(false);
    await worker.stop();
    await ended;
    worker.pause();
    expect(worker.isPaused).toBe(false);
    expect(told).toEqual(['worker:started', 'worker:paused', 'worker:resumed', 'worker:stopped']);
  });

  it('goes on when a listener throws or rejects', async () => {
    const core = memoryCore({ logger: recordingLogger() });
    for (const name of ['task:enqueued', 'task:started', 'task:completed', 'worker:started'] as const) {
      core.dispatcher.events.on(name, () => {
        throw new Error('listener');
      });
      core.dispatcher.events.on(name, () => Promise.reject(new Error('listener')));
    }
    const handle = await core.dispatcher.enqueue(task(() => 1)({}));
    await drain(core);
    expect(await handle.result()).toBe(1);
  });

  it('runs once', async () => {
    const core = memoryCore();
    const worker = new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true });
    await worker.run();
    expect((await failureOf(() => worker.run())).code).toBe('WORKER_OPTIONS_INVALID');
  });

  it.each([
    ['concurrency', { concurrency: 0 }],
    ['concurrency', { concurrency: 1.5 }],
    ['leaseMs', { leaseMs: 99 }],
    ['pollIntervalMs', { pollIntervalMs: NaN }],
    ['shutdownMs', { shutdownMs: -1 }],
    ['limit', { limit: 0, queues: ['main'] }],
    ['limit', { limit: 5 }],
    ['memoryLimitMb', { memoryLimitMb: 0 }],
    ['timeLimitMs', { timeLimitMs: 0 }],
  ])('refuses a %s that makes no sense: %j', async (name, options) => {
    const { dispatcher } = memoryCore();
    const error = await failureOf(() => new Worker({ dispatcher, ...options }));
    expect(error.code).toBe('WORKER_OPTIONS_INVALID');
    expect(error.message).toContain(name);
  });

  it('refuses a queue that does not exist', async () => {
    const { dispatcher } = memoryCore();
    const error = await failureOf(() => new Worker({ dispatcher, queues: ['nope'] }));
    expect(error.code).toBe('QUEUE_UNKNOWN');
  });

  it('knows only what its registry holds, and gives the rest back for others with a growing delay', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    const known = defineTask({ name: 'known', run: () => 1 });
    const { id } = await core.dispatcher.enqueue(task(() => 1)({}));
    await core.dispatcher.enqueue(known({}));
    const logger = recordingLogger();
    const registry = new TaskRegistry().register(known);
    const stranger = memoryCore({ ...core, clock, registry, logger });
    const delays: number[] = [];
    for (let look = 1; look <= 4; look += 1) {
      await drain(stranger);
      const row = await core.taskLog.getById(id);
      expect(row).toMatchObject({
        status: 'enqueued',
        attempts: 0,
        lapses: 0,
        unknowns: look,
        claimUntil: null,
      });
      delays.push(row.notBefore - clock.now());
      await clock.advance(row.notBefore - clock.now());
    }
    expect(delays).toEqual([5_000, 10_000, 20_000, 40_000]);
    expect(logger.lines.some(({ message }) => message.includes('"task"'))).toBe(true);
    await drain(core);
    expect(await core.taskLog.getStatus(id)).toBe('completed');
  });
});
