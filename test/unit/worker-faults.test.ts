import { describe, expect, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { BrokerError } from '../../src/errors.ts';
import { Queue } from '../../src/queue.ts';
import type { QueueBroker } from '../../src/queue-broker.ts';
import { defineTask } from '../../src/task.ts';
import type { TaskContext } from '../../src/task.ts';
import { encodeEnvelope } from '../../src/task-envelope.ts';
import type { TaskLogBroker, TaskLogEntry } from '../../src/task-log-broker.ts';
import { Worker } from '../../src/worker/worker.ts';
import type { WorkerEnd, WorkerOptions } from '../../src/worker/worker.ts';
import { intercepted, memoryCore, pause, recordingLogger, until } from '../support/core.ts';
import type { Core } from '../support/core.ts';
import { ManualClock } from '../support/manual-clock.ts';

function outage(): BrokerError {
  return new BrokerError('BROKER_UNAVAILABLE', 'The storage is away.');
}

/** The method rejects as often as told, and then works. */
function failing<T extends object>(target: T, method: string, times: number, error = outage()): T {
  let left = times;
  return intercepted(target, (called, call) => {
    if (called !== method || left <= 0) return call();
    left -= 1;
    return Promise.reject(error);
  });
}

function drain(core: Core, options: Partial<WorkerOptions> = {}): Promise<WorkerEnd> {
  return new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true, ...options }).run();
}

const plain = defineTask({ name: 'plain', run: (_: object) => 'done' });

describe('an outage', () => {
  it('of one queue does not hold up the others, and the queue is asked again until it answers', async () => {
    const clock = new ManualClock();
    const broken = failing(new InMemoryQueueBroker({ sync: false, clock }), 'receive', 3);
    const sound = new InMemoryQueueBroker({ sync: false, clock });
    const queues = [new Queue('broken', broken, 90), new Queue('sound', sound, 10)];
    const logger = recordingLogger();
    const core = memoryCore({ clock, queues, logger });
    const errors: unknown[] = [];
    core.dispatcher.events.on('broker:error', ({ operation, queue }) => errors.push([operation, queue]));
    const first = await core.dispatcher.enqueue(plain({}), { queue: 'broken' });
    const second = await core.dispatcher.enqueue(plain({}), { queue: 'sound' });
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    await clock.settle();
    expect(await second.status()).toBe('completed');
    expect(await first.status()).toBe('enqueued');
    await clock.advance(10_000);
    expect(await first.status()).toBe('completed');
    expect(errors).toEqual(Array.from({ length: 3 }, () => ['draw', 'broken']));
    const waits = logger.lines
      .filter(({ level }) => level === 'error')
      .map(({ bindings }) => bindings['retryInMs']);
    expect(waits).toEqual([200, 400, 800]);
    await worker.stop();
    await ended;
  });

  it('is no empty queue: neither a limit nor an end when empty is reached by it', async () => {
    const clock = new ManualClock();
    const queueBroker = failing(new InMemoryQueueBroker({ sync: false, clock }), 'receive', 4);
    const core = memoryCore({ clock, queueBroker });
    const handle = await core.dispatcher.enqueue(plain({}));
    const ended = drain(core, { limit: 2, queues: ['main'] });
    await clock.advance(60_000);
    expect(await ended).toMatchObject({ processed: 1 });
    expect(await handle.status()).toBe('completed');
  });

  it.each([
    ['of the claim', 'claim'],
    ['of the settlement', 'settle'],
    ['of the lines', 'append'],
  ])('%s in the task log loses nothing and runs nothing twice', async (_, method) => {
    const clock = new ManualClock();
    const logBroker = failing(new InMemoryTaskLogBroker({ clock }), method, 2);
    const core = memoryCore({ clock, logBroker });
    let runs = 0;
    const count = defineTask({
      name: 'count',
      run: (_: object, { log }) => {
        log('info', 'a line');
        return (runs += 1);
      },
    });
    const handle = await core.dispatcher.enqueue(count({}));
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    await clock.advance(10_000);
    expect(await handle.status()).toBe('completed');
    expect(runs).toBe(1);
    await worker.stop();
    expect(await ended).toMatchObject({ processed: 1, exitCode: 0 });
  });

  it('of the acknowledgement leaves a message that is dropped when it comes again', async () => {
    const clock = new ManualClock();
    const queueBroker = failing(new InMemoryQueueBroker({ sync: false, clock }), 'acknowledge', 1);
    const core = memoryCore({ clock, queueBroker });
    let runs = 0;
    await core.dispatcher.enqueue(defineTask({ name: 'count', run: (_: object) => (runs += 1) })({}));
    const worker = new Worker({ dispatcher: core.dispatcher, leaseMs: 5_000 });
    const ended = worker.run();
    await clock.advance(20_000);
    await worker.stop();
    await ended;
    expect(runs).toBe(1);
    expect(await queueBroker.count('main')).toMatchObject({ ready: 0, leased: 0, delayed: 0 });
  });

  it('that makes the report too large for the storage still leaves the status', async () => {
    const logger = recordingLogger();
    const refused = new BrokerError('BROKER_FAILED', 'Too large.');
    const core = memoryCore({
      logger,
      logBroker: failing(new InMemoryTaskLogBroker(), 'settle', 1, refused),
    });
    const handle = await core.dispatcher.enqueue(plain({}));
    await drain(core);
    expect(await handle.status()).toBe('completed');
    expect((await handle.report())?.message).toContain('could not be stored');
    expect(logger.lines.some(({ level, message }) => level === 'error' && message.includes('refused'))).toBe(
      true,
    );
  });

  it('between row and message leaves a debt, and a worker pays it: the task is not lost', async () => {
    const clock = new ManualClock();
    const memory = new InMemoryQueueBroker({ sync: false, clock });
    const never = new Promise<never>(() => undefined);
    const dying = memoryCore({
      clock,
      queueBroker: intercepted(memory, (method, call) => (method === 'push' ? never : call())),
    });
    void dying.dispatcher.enqueue(plain({}));
    await clock.settle();
    const core = memoryCore({ clock, queueBroker: memory, logBroker: dying.logBroker });
    core.dispatcher.registry.register(plain);
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    await clock.advance(20_000);
    expect(await core.taskLog.stats()).toMatchObject({ enqueued: 1 });
    await clock.advance(30_000);
    expect(await core.taskLog.stats()).toMatchObject({ completed: 1 });
    await worker.stop();
    await ended;
  });

  it('in a caller before its row is written leaves nothing at all', async () => {
    const queueBroker = new InMemoryQueueBroker({ sync: false });
    const core = memoryCore({ queueBroker, logBroker: failing(new InMemoryTaskLogBroker(), 'insert', 9) });
    await expect(core.dispatcher.enqueue(plain({}))).rejects.toMatchObject({ code: 'ENQUEUE_UNCERTAIN' });
    expect(await queueBroker.count('main')).toMatchObject({ ready: 0, delayed: 0 });
  });
});

describe('a worker whose claim was taken', () => {
  /** Two workers on one queue and one log; the first cannot renew what it holds. */
  function rivals(): { weak: Core; strong: Core } {
    const strong = memoryCore();
    const queueBroker = failing(strong.queueBroker, 'extend', Infinity);
    return {
      strong,
      weak: memoryCore({ queueBroker, logBroker: failing(strong.logBroker, 'renew', Infinity) }),
    };
  }

  it('writes nothing: neither status nor report nor lines, and the winner decides', async () => {
    const { weak, strong } = rivals();
    let finish = (): void => undefined;
    const isFinished = new Promise<void>((resolve) => (finish = resolve));
    let isTaken = false;
    const slow = (name: string): ((_: object, context: TaskContext) => Promise<string>) => {
      return async (_, context) => {
        if (name === 'winner') isTaken = true;
        else await isFinished;
        context.log('info', `line of the ${name}`);
        return name;
      };
    };
    const handle = await weak.dispatcher.enqueue(defineTask({ name: 'slow', run: slow('loser') })({}));
    strong.dispatcher.registry.register(defineTask({ name: 'slow', run: slow('winner') }));
    const loser = new Worker({ dispatcher: weak.dispatcher, leaseMs: 100, concurrency: 1 });
    const lost = loser.run();
    await until('the loser runs it', async () => (await handle.status()) === 'running');
    const winner = new Worker({ dispatcher: strong.dispatcher, pollIntervalMs: 20 });
    const won = winner.run();
    await until('the winner has it', () => isTaken);
    expect(await handle.result({ timeoutMs: 10_000 })).toBe('winner');
    const before = await strong.taskLog.getById(handle.id);
    finish();
    await Promise.all([loser.stop(), winner.stop(), lost, won]);
    expect(await strong.taskLog.getById(handle.id)).toEqual(before);
    expect(before).toMatchObject({ status: 'completed', lapses: 1, attempts: 1, worker: winner.id });
    expect((await strong.taskLog.lines(handle.id)).map(({ text }) => text)).toEqual([
      'info: line of the winner',
    ]);
  });

  it('aborts the handler with a reason that says so', async () => {
    const core = memoryCore();
    let reason: unknown;
    const robbed = defineTask({
      name: 'robbed',
      run: async (_: object, { signal, taskId }) => {
        await core.taskLog.cancel(taskId, { force: true });
        await pause(10_000, signal);
        reason = signal.reason;
      },
    });
    const handle = await core.dispatcher.enqueue(robbed({}));
    await drain(core, { leaseMs: 100 });
    expect(reason).toMatchObject({ code: 'CLAIM_LOST' });
    expect(await handle.status()).toBe('cancelled');
    expect(await handle.report()).toBeNull();
  });
});

describe('a message that nobody can read', () => {
  it.each([
    ['no JSON', 'not json'],
    ['no object', '[1]'],
    ['an object of somebody else', '{"taskFqcn":"oat\\\\tao\\\\Task"}'],
    ['empty', ''],
  ])('is buried as a failed row with its raw text and the reason: %s', async (_, body) => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    await core.queueBroker.push('main', [{ id: 'odd', body, generation: 1 }]);
    const sound = await core.dispatcher.enqueue(plain({}));
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    await clock.advance(60_000);
    expect(await sound.status()).toBe('completed');
    const row = await core.taskLog.getById('odd');
    expect(row).toMatchObject({ status: 'failed', deadReason: 'UNDECODABLE', envelope: body, queue: 'main' });
    expect((await core.taskLog.getReport('odd'))?.data).toMatchObject({ code: 'ENVELOPE_INVALID' });
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 0, leased: 0, delayed: 0 });
    await worker.stop();
    expect((await ended).exitCode).toBe(0);
  });

  it('fails the row that it belongs to', async () => {
    const core = memoryCore();
    const { id } = await core.dispatcher.enqueue(plain({}));
    const damaging = intercepted(core.queueBroker, async (method, call) => {
      const answer = await call();
      if (method !== 'receive') return answer;
      return (answer as { body: string }[]).map((delivery) => ({
        ...delivery,
        body: delivery.body.slice(1),
      }));
    });
    await drain(memoryCore({ queueBroker: damaging, logBroker: core.logBroker }));
    expect(await core.taskLog.getById(id)).toMatchObject({ status: 'failed', deadReason: 'UNDECODABLE' });
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 0, leased: 0, delayed: 0 });
  });

  it('because it is newer than the worker waits for one that understands it', async () => {
    const core = memoryCore();
    const { id } = await core.dispatcher.enqueue(plain({}));
    const newer = intercepted(core.queueBroker, async (method, call) => {
      const answer = await call();
      if (method !== 'receive') return answer;
      return (answer as { body: string }[]).map((delivery) => ({
        ...delivery,
        body: delivery.body.replace('"v":1', '"v":2'),
      }));
    });
    await drain(memoryCore({ queueBroker: newer, logBroker: core.logBroker }));
    const row = await core.taskLog.getById(id);
    expect(row).toMatchObject({ status: 'enqueued', unknowns: 1, attempts: 0 });
    expect(row.notBefore).toBeGreaterThan(Date.now() + 3_000);
  });
});

describe('a message without a row', () => {
  const DAY_MS = 24 * 3_600_000;

  async function looked(
    ageMs: number,
    wrap: (log: TaskLogBroker) => TaskLogBroker = (log) => log,
  ): Promise<{ row: TaskLogEntry | null; runs: number; count: Awaited<ReturnType<QueueBroker['count']>> }> {
    const clock = new ManualClock();
    const core = memoryCore({ clock, logBroker: wrap(new InMemoryTaskLogBroker({ clock })) });
    let runs = 0;
    core.dispatcher.registry.register(defineTask({ name: 'orphan', run: (_: object) => (runs += 1) }));
    const body = encodeEnvelope({
      version: 1,
      id: 'orphan-1',
      taskName: 'orphan',
      parameters: {},
      label: 'An orphan',
      owner: 'u1',
      category: null,
      parentId: null,
      masterStatus: false,
      priority: 0,
      group: null,
      payloadVersion: 1,
      headers: {},
      createdAt: clock.now() - ageMs,
    });
    await core.queueBroker.push('main', [{ id: 'orphan-1', body, generation: 1 }]);
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    await clock.settle();
    expect(runs).toBe(0);
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 0, delayed: 1, leased: 0 });
    await clock.advance(120_000);
    await worker.stop();
    await ended;
    return { row: await core.taskLog.find('orphan-1'), runs, count: await core.queueBroker.count('main') };
  }

  it('is waited for, then adopted and run when it is young', async () => {
    const { row, runs, count } = await looked(60_000);
    expect(runs).toBe(1);
    expect(row).toMatchObject({ status: 'completed', label: 'An orphan', owner: 'u1', taskName: 'orphan' });
    expect(count).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });

  it('is waited for, then buried with the reason when it is so old that it may have run', async () => {
    const { row, runs, count } = await looked(30 * DAY_MS);
    expect(runs).toBe(0);
    expect(row).toMatchObject({ status: 'failed', deadReason: 'ROW_GONE' });
    expect(count).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });

  it('is adopted after an outage of the log, never buried because of it', async () => {
    const { row, runs } = await looked(60_000, (log) => failing(log, 'insert', 1));
    expect(row).toMatchObject({ status: 'completed' });
    expect(runs).toBe(1);
  });
});
