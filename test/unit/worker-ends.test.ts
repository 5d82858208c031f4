import { describe, expect, it } from 'vitest';
import { InMemoryQueueBroker } from '../../brokers/memory.ts';
import { newId } from '../../src/environment.ts';
import { NonRetryableError } from '../../src/errors.ts';
import { Queue } from '../../src/queue.ts';
import { Report } from '../../src/report.ts';
import { defineTask } from '../../src/task.ts';
import type { DefinedTask, TaskContext, TaskOptions } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import type { WorkerEnd, WorkerOptions } from '../../src/worker/worker.ts';
import { failureOf, memoryCore, pause, until } from '../support/core.ts';
import type { Core } from '../support/core.ts';
import { ManualClock } from '../support/manual-clock.ts';

type Run<R> = (parameters: { n?: number }, context: TaskContext) => R;

function task<R>(run: Run<R>, options: TaskOptions = {}): DefinedTask<{ n?: number }, R> {
  return defineTask({ name: 'task', ...options, run });
}

function drain(core: Core, options: Partial<WorkerOptions> = {}): Promise<WorkerEnd> {
  return new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true, ...options }).run();
}

/** A handler that ends only when its signal is aborted, by throwing. */
function untilAborted(_: object, { signal }: TaskContext): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true });
  });
}

/** Never ends, whatever is asked of it. */
function forever(): Promise<never> {
  return new Promise(() => undefined);
}

describe('a retry', () => {
  it('comes after its backoff, in the same row, until it goes well', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    const begun: number[] = [];
    const flaky = task(
      (_, { attempt }) => {
        begun.push(clock.now());
        if (attempt < 3) throw new Error(`attempt ${attempt}`);
        return 'done';
      },
      { retry: { maxAttempts: 3, backoff: [1_000, 4_000], jitter: 0 } },
    );
    const handle = await core.dispatcher.enqueue(flaky({}));
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    await clock.advance(20_000);
    await worker.stop();
    await ended;
    expect(await core.taskLog.getById(handle.id)).toMatchObject({
      status: 'completed',
      attempts: 3,
      lapses: 0,
    });
    expect((await core.taskLog.search()).entries).toHaveLength(1);
    const [first = 0, second = 0, third = 0] = begun;
    expect(second - first).toBeGreaterThanOrEqual(1_000);
    expect(second - first).toBeLessThan(2_500);
    expect(third - second).toBeGreaterThanOrEqual(4_000);
    expect(third - second).toBeLessThan(5_500);
    const lines = await core.taskLog.lines(handle.id);
    expect(lines.map(({ kind }) => kind)).toEqual(['attempt', 'attempt']);
    expect(lines[0]?.text).toContain('attempt 1');
    expect(lines[1]?.text).toContain('attempt 2');
  });

  it('follows the call, else the task, else the queue, else the configuration', async () => {
    const queueBroker = new InMemoryQueueBroker({ sync: false });
    const queues = [
      new Queue('plain', queueBroker),
      new Queue('own', queueBroker, 1, { retry: { maxAttempts: 3 } }),
    ];
    const core = memoryCore({ queueBroker, queues, defaults: { retry: { maxAttempts: 2, backoff: 0 } } });
    const fail = (): never => {
      throw new Error('no');
    };
    const modest = defineTask({ name: 'modest', run: fail });
    const eager = defineTask({ name: 'eager', retry: { maxAttempts: 4 }, run: fail });
    const handles = [
      await core.dispatcher.enqueue(modest({})),
      await core.dispatcher.enqueue(modest({}), { queue: 'own' }),
      await core.dispatcher.enqueue(eager({}), { queue: 'own' }),
      await core.dispatcher.enqueue(eager({}), { queue: 'own', retry: { maxAttempts: 5 } }),
    ];
    await drain(core);
    const rows = await Promise.all(handles.map(({ id }) => core.taskLog.getById(id)));
    expect(rows.map(({ attempts }) => attempts)).toEqual([2, 3, 4, 5]);
  });

  it.each([
    [
      'an error that no retry can mend is thrown',
      () => {
        throw new NonRetryableError('never');
      },
      'NOT_RETRYABLE',
    ],
    ['a failure report is returned', () => Report.createFailure('no'), null],
  ])('does not come when %s', async (_, run, deadReason) => {
    let runs = 0;
    const core = memoryCore();
    const final = task(
      () => {
        runs += 1;
        return run();
      },
      { retry: { maxAttempts: 5, backoff: 0 } },
    );
    const { id } = await core.dispatcher.enqueue(final({}));
    await drain(core);
    expect(runs).toBe(1);
    expect(await core.taskLog.getById(id)).toMatchObject({ status: 'failed', attempts: 1, deadReason });
  });
});

describe('a timeout', () => {
  it('aborts the handler with a reason that says so, and fails the task', async () => {
    const core = memoryCore();
    let reason: unknown;
    const slow = task(
      async (_, context) => {
        await pause(10_000, context.signal);
        reason = context.signal.reason;
      },
      { timeoutMs: 20 },
    );
    const handle = await core.dispatcher.enqueue(slow({}));
    const next = await core.dispatcher.enqueue(defineTask({ name: 'next', run: () => 'ran' })({}));
    await drain(core, { concurrency: 1 });
    expect(reason).toMatchObject({ code: 'TASK_TIMED_OUT' });
    expect(await core.taskLog.getById(handle.id)).toMatchObject({
      status: 'failed',
      deadReason: 'TIMED_OUT',
    });
    expect(await handle.report()).toMatchObject({ data: { code: 'TASK_TIMED_OUT' } });
    expect(await next.result()).toBe('ran');
  });

  it('is the one of the call rather than that of the task; 0 is none', async () => {
    const core = memoryCore();
    const slow = task(() => pause(30), { timeoutMs: 1 });
    const handle = await core.dispatcher.enqueue(slow({}), { timeoutMs: 0 });
    await drain(core);
    expect(await handle.status()).toBe('completed');
  });

  it.each([
    ['soon when the handler returned on its abort', untilAborted, 1_000, 3_000],
    ['not before another grace when it did not', forever, 1_000 + 2 * 4_000, 11_000],
  ])('is retried %s', async (_, first, least, most) => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    const begun: number[] = [];
    const slow = task(
      (parameters, context) => {
        begun.push(clock.now());
        return context.attempt === 1 ? first(parameters, context) : Promise.resolve('done');
      },
      { timeoutMs: 1_000, retry: { maxAttempts: 2, backoff: 0 } },
    );
    const handle = await core.dispatcher.enqueue(slow({}));
    const worker = new Worker({ dispatcher: core.dispatcher, abortGraceMs: 4_000 });
    const ended = worker.run();
    await clock.advance(20_000);
    await worker.stop();
    await ended;
    expect(await handle.result()).toBe('done');
    const waited = (begun[1] ?? 0) - (begun[0] ?? 0);
    expect(waited).toBeGreaterThanOrEqual(least);
    expect(waited).toBeLessThan(most);
  });

  it('of a handler that ignores its abort settles the task after the grace, and the slot stays taken until it returns', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    let release = (): void => undefined;
    const stubborn = defineTask({
      name: 'stubborn',
      timeoutMs: 1_000,
      run: () => new Promise<void>((resolve) => (release = resolve)),
    });
    let running = 0;
    const started: number[] = [];
    const other = defineTask({
      name: 'other',
      run: async ({ n }: { n: number }) => {
        running += 1;
        started.push(n);
        expect(running).toBe(1);
        await clock.sleep(100);
        running -= 1;
      },
    });
    const handle = await core.dispatcher.enqueue(stubborn({}));
    const worker = new Worker({ dispatcher: core.dispatcher, concurrency: 2 });
    const ended = worker.run();
    await clock.advance(5_900);
    expect(await handle.status()).toBe('running');
    await clock.advance(200);
    expect(await core.taskLog.getById(handle.id)).toMatchObject({
      status: 'failed',
      deadReason: 'TIMED_OUT',
    });
    for (const n of [1, 2, 3]) await core.dispatcher.enqueue(other({ n }));
    await clock.advance(2_000);
    expect(started).toEqual([1, 2, 3]);
    release();
    await clock.settle();
    await worker.stop();
    expect((await ended).exitCode).toBe(0);
  });

  it('of stubborn handlers in every slot ends the worker with the code that asks for a new one', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    const stubborn = task(forever, { timeoutMs: 1_000 });
    for (let i = 0; i < 3; i += 1) await core.dispatcher.enqueue(stubborn({}));
    const ended = new Worker({ dispatcher: core.dispatcher, concurrency: 2 }).run();
    await clock.advance(30_000);
    expect(await ended).toMatchObject({ reason: 'slots-lost', exitCode: 75 });
    expect(await core.taskLog.stats()).toMatchObject({ failed: 2, enqueued: 1, running: 0, dequeued: 0 });
  });
});

describe('a task that crashed its workers', () => {
  /** A worker that took the task, began it and was never heard of again. */
  async function die(core: Core, clock: ManualClock): Promise<void> {
    const bound = core.dispatcher.bound('main');
    const [drawn] = await bound.ledger.draw('main', {
      max: 1,
      leaseMs: 5_000,
      waitMs: 0,
      signal: new AbortController().signal,
      worker: 'dead',
      token: newId(),
      start: 1,
    });
    expect(drawn?.answer).toMatchObject({ kind: 'claimed', started: true });
    await clock.advance(60_000);
  }

  it('is run again, and the lost run counts as a lapse, not as an attempt', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    const handle = await core.dispatcher.enqueue(task((_, { attempt }) => attempt)({}));
    await die(core, clock);
    await drain(core);
    expect(await handle.result()).toBe(2);
    expect(await core.taskLog.getById(handle.id)).toMatchObject({ lapses: 1, attempts: 1 });
  });

  it.each([
    ['at the first time when it must not begin twice', { onCrash: 'fail' as const }],
    ['when its lapses are used up', { maxLapses: 1 }],
  ])('ends failed %s', async (_, retry) => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    let runs = 0;
    const handle = await core.dispatcher.enqueue(task(() => (runs += 1), { retry })({}));
    await die(core, clock);
    await drain(core);
    expect(runs).toBe(0);
    expect(await core.taskLog.getById(handle.id)).toMatchObject({ status: 'failed', deadReason: 'CRASHED' });
    expect(await handle.report()).toMatchObject({ data: { code: 'TASK_CRASHED' } });
  });
});

describe('cancelling', () => {
  it('a running task aborts its signal with a reason that says so, and it ends cancelled', async () => {
    const core = memoryCore();
    let reason: unknown;
    const patient = task((parameters, context) => {
      context.signal.addEventListener('abort', () => {
        reason = context.signal.reason;
      });
      return untilAborted(parameters, context);
    });
    const handle = await core.dispatcher.enqueue(patient({}));
    const worker = new Worker({ dispatcher: core.dispatcher, leaseMs: 100 });
    const ended = worker.run();
    await until('it runs', async () => (await handle.status()) === 'running');
    expect(await core.taskLog.cancel(handle.id)).toBe('running');
    await until('it has ended', async () => (await handle.status()) === 'cancelled');
    expect(reason).toMatchObject({ code: 'TASK_CANCELLED' });
    expect((await failureOf(() => handle.result())).code).toBe('TASK_CANCELLED');
    await worker.stop();
    expect(await ended).toMatchObject({ processed: 1, exitCode: 0 });
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });

  it('a running task whose handler ends well all the same leaves its result', async () => {
    const core = memoryCore();
    const polite = task(async (_, { signal }) => {
      await pause(10_000, signal);
      return 'half of it';
    });
    const handle = await core.dispatcher.enqueue(polite({}));
    const worker = new Worker({ dispatcher: core.dispatcher, leaseMs: 100 });
    const ended = worker.run();
    await until('it runs', async () => (await handle.status()) === 'running');
    await core.taskLog.cancel(handle.id);
    expect(await handle.result({ timeoutMs: 10_000 })).toBe('half of it');
    await worker.stop();
    await ended;
  });

  it('a task between two attempts keeps it from running again', async () => {
    const core = memoryCore();
    let runs = 0;
    const failing = task(
      () => {
        runs += 1;
        throw new Error('again');
      },
      { retry: { maxAttempts: 3, backoff: 60_000 } },
    );
    const handle = await core.dispatcher.enqueue(failing({}));
    await drain(core);
    expect(await handle.status()).toBe('enqueued');
    expect(await core.taskLog.cancel(handle.id)).toBe('cancelled');
    expect(await core.taskLog.getStatus(handle.id)).toBe('cancelled');
    expect(runs).toBe(1);
  });

  it('a waiting task ends whoever waits for its result at once', async () => {
    const core = memoryCore();
    const cancelled: string[] = [];
    core.dispatcher.events.on('task:cancelled', ({ taskId }) => cancelled.push(taskId));
    const handle = await core.dispatcher.enqueue(task(() => 1)({}), { delayMs: 60_000 });
    const failure = failureOf(() => handle.result({ timeoutMs: 60_000 }));
    await core.taskLog.cancel(handle.id);
    expect(cancelled).toEqual([handle.id]);
    expect((await failure).code).toBe('TASK_CANCELLED');
  });

  it('an unknown or an ended task is refused with the reason', async () => {
    const core = memoryCore();
    expect((await failureOf(() => core.taskLog.cancel('nobody'))).code).toBe('TASK_NOT_FOUND');
    const handle = await core.dispatcher.enqueue(task(() => 1)({}));
    await drain(core);
    const error = await failureOf(() => core.taskLog.cancel(handle.id));
    expect(error).toMatchObject({ code: 'CHANGE_REFUSED', place: { task: handle.id } });
    expect(await handle.status()).toBe('completed');
  });
});
