import { describe, expect, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { BrokerError } from '../../src/errors.ts';
import { Queue } from '../../src/queue.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import { WeightedSelector } from '../../src/queue-selector.ts';
import { Action, CallbackTask, createToken, defineTask } from '../../src/task.ts';
import type { TaskContext } from '../../src/task.ts';
import { decodeEnvelope } from '../../src/task-envelope.ts';
import { TaskLog } from '../../src/task-log.ts';
import { Worker } from '../../src/worker/worker.ts';
import { failureOf, intercepted, memoryCore } from '../support/core.ts';
import type { Core } from '../support/core.ts';
import { ManualClock } from '../support/manual-clock.ts';

class RegeneratePayload extends Action<string[]> {
  run(): void {}
}

const idle = defineTask({ name: 'idle', run: () => null });

function drain({ dispatcher }: Core): Promise<unknown> {
  return new Worker({ dispatcher, stopWhenEmpty: true }).run();
}

/** A queue broker that answers every push with this error. */
function refusing(error: Error): InMemoryQueueBroker {
  return intercepted(new InMemoryQueueBroker({ sync: false }), (method, call) =>
    method === 'push' ? Promise.reject(error) : call(),
  );
}

describe('createTask', () => {
  it('gives back a task with an id, the parameters, the label and the owner, which is enqueued', async () => {
    const { dispatcher, taskLog } = memoryCore();
    dispatcher.setOwner('u1');
    const first = await dispatcher.createTask(new RegeneratePayload(), ['uri'], 'Fancy Label');
    const second = await dispatcher.createTask(RegeneratePayload, ['uri'], { label: 'Other' });
    expect(first).toBeInstanceOf(CallbackTask);
    expect(first).toMatchObject({ parameters: ['uri'], label: 'Fancy Label', isEnqueued: true });
    expect(first.error).toBeUndefined();
    expect(second).toMatchObject({ label: 'Other', isEnqueued: true });
    expect(second.id).not.toBe(first.id);
    const row = await taskLog.getById(first.id);
    expect(row).toMatchObject({ status: 'enqueued', label: 'Fancy Label', owner: 'u1', queue: 'main' });
    expect(decodeEnvelope(row.envelope).parameters).toEqual(['uri']);
  });

  it('takes a defined task, and a function only under a registered name', async () => {
    const { dispatcher } = memoryCore();
    expect((await dispatcher.createTask(idle, {})).isEnqueued).toBe(true);
    const closure = (() => null) as unknown as typeof idle;
    const error = await failureOf(() => dispatcher.createTask(closure, {}));
    expect(error.code).toBe('TASK_NOT_SERIALISABLE');
    expect(error.mend).toContain('defineTask');
    expect(await dispatcher.count()).toBe(1);
  });

  it('does not reject when the push fails: the task says why, and the row is no waiting one', async () => {
    const outage = new BrokerError('BROKER_UNAVAILABLE', 'The broker is down.');
    const { dispatcher, taskLog } = memoryCore({ queueBroker: refusing(outage) });
    const task = await dispatcher.createTask(new RegeneratePayload(), [], 'Label');
    expect(task.isEnqueued).toBe(false);
    expect(task.error).toMatchObject({ code: 'ENQUEUE_FAILED' });
    expect(await taskLog.getById(task.id)).toMatchObject({ status: 'failed', deadReason: 'PUSH_FAILED' });
  });
});

describe('enqueue', () => {
  it('rejects with the reason as its cause when the push fails', async () => {
    const refusal = new BrokerError('BROKER_FAILED', 'No.');
    const { dispatcher, taskLog } = memoryCore({ queueBroker: refusing(refusal) });
    const task = idle({});
    const error = await failureOf(() => dispatcher.enqueue(task));
    expect(error).toMatchObject({ code: 'ENQUEUE_FAILED', cause: refusal });
    expect(error.place).toMatchObject({ task: task.id, queue: 'main' });
    expect(await taskLog.getStatus(task.id)).toBe('failed');
  });

  it('says that it may run when the task log does not answer, and stores the task once when it is repeated', async () => {
    let isDown = true;
    const logBroker = intercepted(new InMemoryTaskLogBroker(), async (method, call) => {
      const answer = await call();
      if (method !== 'insert' || !isDown) return answer;
      throw new BrokerError('BROKER_UNAVAILABLE', 'The answer was lost.');
    });
    const { dispatcher } = memoryCore({ logBroker });
    const task = idle({});
    expect((await failureOf(() => dispatcher.enqueue(task))).code).toBe('ENQUEUE_UNCERTAIN');
    isDown = false;
    await dispatcher.enqueue(task);
    expect((await dispatcher.taskLog.search()).entries.map((entry) => entry.id)).toEqual([task.id]);
  });

  it('stores and pushes one task once, however often it is enqueued', async () => {
    const core = memoryCore();
    const task = idle({});
    await core.dispatcher.enqueue(task);
    await core.dispatcher.enqueue(task);
    expect(await core.dispatcher.count()).toBe(1);
  });

  it('runs a task once that is enqueued twice at the same time', async () => {
    const core = memoryCore();
    let runs = 0;
    const task = defineTask({ name: 'count', run: (_: object) => (runs += 1) })({});
    await Promise.all([core.dispatcher.enqueue(task), core.dispatcher.enqueue(task)]);
    await drain(core);
    expect(runs).toBe(1);
    expect(await core.dispatcher.count()).toBe(0);
  });

  it('accepts a task again whose push was refused before, and it runs', async () => {
    let isDown = true;
    const queueBroker = intercepted(new InMemoryQueueBroker({ sync: false }), (method, call) =>
      method === 'push' && isDown ? Promise.reject(new BrokerError('BROKER_FAILED', 'No.')) : call(),
    );
    const core = memoryCore({ queueBroker });
    const task = idle({});
    expect((await failureOf(() => core.dispatcher.enqueue(task))).code).toBe('ENQUEUE_FAILED');
    isDown = false;
    const handle = await core.dispatcher.enqueue(task);
    await drain(core);
    expect(await core.taskLog.getById(handle.id)).toMatchObject({ status: 'completed', deadReason: null });
  });

  it('leaves a task alone that has ended', async () => {
    const core = memoryCore();
    const task = idle({});
    await core.dispatcher.enqueue(task);
    await drain(core);
    const before = await core.taskLog.getById(task.id);
    await core.dispatcher.enqueue(task);
    await drain(core);
    expect(await core.taskLog.getById(task.id)).toEqual(before);
  });

  it('takes the label of the call, else that of the task', async () => {
    const { dispatcher, taskLog } = memoryCore();
    const task = idle({});
    task.label = 'its own';
    await dispatcher.enqueue(task);
    expect(await taskLog.getById(task.id)).toMatchObject({ label: 'its own' });
    const other = idle({});
    other.label = 'its own';
    const { id } = await dispatcher.enqueue(other, 'of the call');
    expect(await taskLog.getById(id)).toMatchObject({ label: 'of the call' });
  });

  it('gives the task the owner of the call, else the current one, else none', async () => {
    const { dispatcher, taskLog } = memoryCore();
    const ownerOf = async (options = {}): Promise<string | null> =>
      (await taskLog.getById((await dispatcher.enqueue(idle({}), options)).id)).owner;
    expect(await ownerOf()).toBeNull();
    dispatcher.setOwner('u1');
    expect(await ownerOf()).toBe('u1');
    expect(await ownerOf({ owner: 'u2' })).toBe('u2');
    dispatcher.setOwner(null);
    expect(await ownerOf()).toBeNull();
  });

  it('refuses what is no task', async () => {
    const { dispatcher } = memoryCore();
    for (const wrong of [undefined, null, {}, idle, 'idle']) {
      const error = await failureOf(() => dispatcher.enqueue(wrong as CallbackTask));
      expect(error.code).toBe('INVALID_ARGUMENT');
    }
  });

  it('refuses a transaction when the task log lives in no database', async () => {
    const { dispatcher, taskLog } = memoryCore();
    const error = await failureOf(() => dispatcher.enqueue(idle({}), { transaction: {} }));
    expect(error.code).toBe('TRANSACTION_UNSUPPORTED');
    expect((await taskLog.search()).entries).toEqual([]);
  });
});

describe('what a handler knows', () => {
  it('is what the call said: label, owner, headers, queue, attempt', async () => {
    const seen: TaskContext[] = [];
    const look = defineTask({ name: 'look', run: (_: object, context) => void seen.push(context) });
    const core = memoryCore();
    const headers = { traceparent: '00-1', tenant: 'blue' };
    const handle = await core.dispatcher.enqueue(look({}), { label: 'A look', owner: 'u1', headers });
    await drain(core);
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatchObject({
      taskId: handle.id,
      taskName: 'look',
      label: 'A look',
      owner: 'u1',
      queue: 'main',
      attempt: 1,
      headers,
    });
    expect(seen[0]?.signal.aborted).toBe(false);
  });

  it('belongs to its own task alone', async () => {
    const owners: [string, string | null, Readonly<Record<string, string>>][] = [];
    const look = defineTask({
      name: 'look',
      run: async ({ name }: { name: string }, { owner, headers }) => void owners.push([name, owner, headers]),
    });
    const core = memoryCore();
    await core.dispatcher.enqueue(look({ name: 'a' }), { owner: 'A', headers: { of: 'a' } });
    await core.dispatcher.enqueue(look({ name: 'none' }));
    await core.dispatcher.enqueue(look({ name: 'b' }), { owner: 'B' });
    await drain(core);
    expect(owners.sort()).toEqual([
      ['a', 'A', { of: 'a' }],
      ['b', 'B', {}],
      ['none', null, {}],
    ]);
  });

  it('reaches services, and a clear error for those that nobody bound', async () => {
    const greeting = createToken<string>('greeting');
    const absent = createToken<string>('absent');
    const services = { get: <T>(token: symbol): T => (token === greeting ? 'hello' : undefined) as T };
    const greet = defineTask({ name: 'greet', run: (_: object, { get }) => get(greeting) });
    const withServices = memoryCore({ services });
    const handle = await withServices.dispatcher.enqueue(greet({}));
    await drain(withServices);
    expect(await handle.result()).toBe('hello');

    const without = memoryCore();
    const ask = defineTask({ name: 'ask', run: (_: object, { get }) => get(absent) });
    const failed = await without.dispatcher.enqueue(ask({}));
    await drain(without);
    expect((await failed.report())?.data).toMatchObject({ code: 'SERVICE_UNKNOWN' });
  });
});

describe('a task that is due later', () => {
  function later(): { clock: ManualClock; core: Core; ran: number[]; at: (due: number) => CallbackTask } {
    const clock = new ManualClock();
    const ran: number[] = [];
    const note = defineTask({ name: 'note', run: ({ due }: { due: number }) => void ran.push(due) });
    return { clock, core: memoryCore({ clock }), ran, at: (due) => note({ due }) };
  }

  it('waits for its delay or its date, and a worker that waits for it runs it then', async () => {
    const { clock, core, ran, at } = later();
    await core.dispatcher.enqueue(at(2), { delayMs: 60_000 });
    await core.dispatcher.enqueue(at(1), { runAt: new Date(clock.now() + 30_000) });
    await core.dispatcher.enqueue(at(0), { runAt: clock.now() - 1 });
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    await clock.advance(100);
    expect(ran).toEqual([0]);
    await clock.advance(29_000);
    expect(ran).toEqual([0]);
    await clock.advance(2_000);
    expect(ran).toEqual([0, 1]);
    await clock.advance(30_000);
    expect(ran).toEqual([0, 1, 2]);
    await worker.stop();
    await ended;
  });

  it('counts as waiting', async () => {
    const { core, at } = later();
    await core.dispatcher.enqueue(at(1), { delayMs: 60_000 });
    expect(await core.dispatcher.count()).toBe(1);
  });

  it.each([
    ['a delay and a date', { delayMs: 1, runAt: 1 }],
    ['a negative delay', { delayMs: -1 }],
    ['a delay that is no number', { delayMs: NaN }],
    ['a date that is none', { runAt: new Date('never') }],
  ])('is refused with %s', async (_, options) => {
    const { core, at } = later();
    const error = await failureOf(() => core.dispatcher.enqueue(at(1), options));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(await core.dispatcher.count()).toBe(0);
  });
});

describe('a dispatcher', () => {
  const broker = new InMemoryQueueBroker({ sync: false });

  it('counts what waits in all its queues', async () => {
    const queues = [2, 3, 4].map((size) => new Queue(`of-${size}`, new InMemoryQueueBroker({ sync: false })));
    const { dispatcher } = memoryCore({ queues });
    for (const [index, queue] of queues.entries()) {
      for (let i = 0; i < index + 2; i += 1) await dispatcher.enqueue(idle({}), { queue: queue.name });
    }
    expect(await dispatcher.count()).toBe(9);
  });

  it('is sync when all its queues are', () => {
    const sync = new InMemoryQueueBroker();
    expect(memoryCore({ queues: [new Queue('a', sync), new Queue('b', sync)] }).dispatcher.isSync()).toBe(
      true,
    );
    expect(memoryCore({ queues: [new Queue('a', sync), new Queue('b', broker)] }).dispatcher.isSync()).toBe(
      false,
    );
  });

  it('initializes each queue once', async () => {
    const calls: string[] = [];
    const watched = intercepted(broker, (method, call) => {
      calls.push(method);
      return call();
    });
    await memoryCore({ queues: [new Queue('a', watched), new Queue('b', watched)] }).dispatcher.initialize();
    expect(calls).toEqual(['initialize', 'initialize']);
  });

  it('gives workers a new selector from their next draw', async () => {
    const asked: string[] = [];
    const { dispatcher } = memoryCore();
    await dispatcher.enqueue(idle({}));
    const by = (name: string): WeightedSelector =>
      intercepted(new WeightedSelector(), (_, call) => {
        asked.push(name);
        return call();
      });
    dispatcher.setTaskSelector(by('first'));
    expect(dispatcher.setTaskSelector(by('second'))).toBe(dispatcher);
    await new Worker({ dispatcher, stopWhenEmpty: true }).run();
    expect(new Set(asked)).toEqual(new Set(['second']));
    expect((await failureOf(() => dispatcher.setTaskSelector({} as WeightedSelector))).code).toBe(
      'SELECTOR_INVALID',
    );
  });

  it('refuses a queue that other processes read next to a log that they cannot see', async () => {
    const shared = new InMemoryQueueBroker({ sync: false });
    const queueBroker = Object.assign(Object.create(shared) as InMemoryQueueBroker, {
      capabilities: { ...shared.capabilities, shared: true },
    });
    const taskLog = new TaskLog({ broker: new InMemoryTaskLogBroker() });
    const build = (): unknown => new QueueDispatcher({ queues: [new Queue('a', queueBroker)], taskLog });
    const error = await failureOf(build);
    expect(error.code).toBe('SHARED_QUEUE_NEEDS_SHARED_LOG');
    expect(error.message).toContain('Queue "a"');
  });

  it('knows when all tasks have ended', async () => {
    const core = memoryCore();
    expect(await core.dispatcher.waitForCompletion(0)).toBe(true);
    await core.dispatcher.enqueue(idle({}));
    expect(await core.dispatcher.waitForCompletion(5)).toBe(false);
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    expect(await core.dispatcher.waitForCompletion(10_000)).toBe(true);
    await worker.stop();
    await ended;
    expect(await core.taskLog.stats()).toMatchObject({ completed: 1 });
  });
});

describe('events', () => {
  it('tell the life of a task in order, each with the task it is about', async () => {
    const core = memoryCore();
    const told: [string, object][] = [];
    const names = [
      'task:enqueued',
      'task:started',
      'task:progress',
      'task:retrying',
      'task:completed',
    ] as const;
    for (const name of names) core.dispatcher.events.on(name, (event) => told.push([name, event]));
    let runs = 0;
    const flaky = defineTask({
      name: 'flaky',
      retry: { maxAttempts: 2, backoff: 0 },
      run: (_: object, { progress }) => {
        runs += 1;
        progress(50, 'half');
        if (runs === 1) throw new Error('not yet');
      },
    });
    const worker = new Worker({ dispatcher: core.dispatcher, pollIntervalMs: 5 });
    const ended = worker.run();
    const { id } = await core.dispatcher.enqueue(flaky({}), 'Flaky one');
    await core.taskLog.waitFor(id, { timeoutMs: 10_000 });
    await worker.stop();
    await ended;
    expect(told.map(([name]) => name)).toEqual([
      'task:enqueued',
      'task:started',
      'task:progress',
      'task:retrying',
      'task:started',
      'task:progress',
      'task:completed',
    ]);
    for (const [, event] of told)
      expect(event).toMatchObject({ taskId: id, taskName: 'flaky', queue: 'main' });
    expect(told[0]?.[1]).toMatchObject({ label: 'Flaky one', delayMs: 0 });
    expect(told[2]?.[1]).toMatchObject({ percent: 50, note: 'half' });
    expect(told[3]?.[1]).toMatchObject({ attempt: 1, error: new Error('not yet') });
    expect(told[6]?.[1]).toMatchObject({ attempt: 2, workerId: worker.id });
  });
});
