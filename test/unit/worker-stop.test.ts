import { describe, expect, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { Queue } from '../../src/queue.ts';
import type { ReceiveOptions } from '../../src/queue-broker.ts';
import { bindSignals } from '../../src/worker/signals.ts';
import { defineTask } from '../../src/task.ts';
import type { DefinedTask, TaskContext } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import type { WorkerEnd, WorkerOptions } from '../../src/worker/worker.ts';
import { intercepted, memoryCore, pause, until } from '../support/core.ts';
import type { Core } from '../support/core.ts';
import { ManualClock } from '../support/manual-clock.ts';

/** Tasks that begin when a worker starts them and end when the test says so. */
class Gate {
  readonly begun: number[] = [];
  readonly ended: number[] = [];
  readonly reasons: unknown[] = [];
  readonly task: DefinedTask<{ n: number }, Promise<void>>;
  #open: Promise<void>;
  open: () => void = () => undefined;

  /** @param listens Whether the handlers end, by throwing, when they are aborted. */
  constructor(listens: boolean = true) {
    this.#open = new Promise((resolve) => (this.open = resolve));
    this.task = defineTask({
      name: 'gated',
      run: async ({ n }: { n: number }, { signal }: TaskContext) => {
        this.begun.push(n);
        signal.addEventListener('abort', () => {
          this.reasons.push(signal.reason);
        });
        await (listens ? Promise.race([this.#open, aborted(signal)]) : this.#open);
        this.ended.push(n);
      },
    });
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true });
  });
}

async function fill(core: Core, gate: Gate, count: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, n) => core.dispatcher.enqueue(gate.task({ n }))));
}

const quickTask = defineTask({ name: 'quick', run: (_: object) => null });

function quick(core: Core, count: number): Promise<unknown> {
  return Promise.all(Array.from({ length: count }, () => core.dispatcher.enqueue(quickTask({}))));
}

function start(
  core: Core,
  options: Partial<WorkerOptions> = {},
): { worker: Worker; ended: Promise<WorkerEnd> } {
  const worker = new Worker({ dispatcher: core.dispatcher, ...options });
  return { worker, ended: worker.run() };
}

describe('a limit', () => {
  const one = { queues: ['main'] };

  it('ends the worker after so many tasks, and strands none that it did not run', async () => {
    const core = memoryCore();
    await quick(core, 7);
    expect(await start(core, { ...one, limit: 2 }).ended).toEqual({
      processed: 2,
      reason: 'limit',
      exitCode: 0,
    });
    expect(await core.taskLog.stats()).toMatchObject({ completed: 2, enqueued: 5, dequeued: 0 });
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 5, leased: 0 });
  });

  it('counts a look that found nothing as one of its iterations', async () => {
    const core = memoryCore();
    await quick(core, 1);
    const end = await start(core, { ...one, limit: 4, pollIntervalMs: 5 }).ended;
    expect(end).toEqual({ processed: 1, reason: 'limit', exitCode: 0 });
  });

  it('lets nothing be drawn in excess after empty looks', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    const { ended } = start(core, { ...one, limit: 4, pollIntervalMs: 1_000 });
    await clock.advance(30);
    await quick(core, 10);
    await clock.advance(10_000);
    const { processed } = await ended;
    expect(processed).toBeGreaterThanOrEqual(1);
    expect(processed).toBeLessThan(4);
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 10 - processed, leased: 0 });
    expect(await core.taskLog.stats()).toMatchObject({ completed: processed, enqueued: 10 - processed });
  });

  it('holds while the end of a task is still being written and the worker is woken', async () => {
    let writing = (): void => undefined;
    const isWriting = new Promise<void>((resolve) => (writing = resolve));
    let written = (): void => undefined;
    const mayWrite = new Promise<void>((resolve) => (written = resolve));
    const logBroker = intercepted(new InMemoryTaskLogBroker(), async (method, call) => {
      if (method === 'settle') {
        writing();
        await mayWrite;
      }
      return call();
    });
    const core = memoryCore({ logBroker });
    await quick(core, 3);
    const { ended } = start(core, { ...one, limit: 1 });
    await isWriting;
    await quick(core, 1);
    await pause(50);
    written();
    expect(await ended).toMatchObject({ processed: 1 });
    expect(await core.taskLog.stats()).toMatchObject({ completed: 1, enqueued: 3 });
  });

  it('is not used up by a pause', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    const { worker, ended } = start(core, { ...one, limit: 2 });
    worker.pause();
    await clock.advance(3_600_000);
    await quick(core, 5);
    await clock.advance(3_600_000);
    expect(await core.taskLog.stats()).toMatchObject({ enqueued: 5 });
    worker.resume();
    await clock.advance(10_000);
    const { processed } = await ended;
    expect(processed).toBeGreaterThanOrEqual(1);
    expect(await core.taskLog.stats()).toMatchObject({ completed: processed, enqueued: 5 - processed });
  });
});

describe('stopping when empty', () => {
  it('ends after all that was there, what its tasks enqueued included', async () => {
    const core = memoryCore();
    const child = defineTask({ name: 'child', run: () => null });
    const parent = defineTask({
      name: 'parent',
      run: async () => void (await core.dispatcher.enqueue(child({}))),
    });
    for (let i = 0; i < 5; i += 1) await core.dispatcher.enqueue(parent({}));
    expect(await start(core, { stopWhenEmpty: true, concurrency: 2 }).ended).toEqual({
      processed: 10,
      reason: 'empty',
      exitCode: 0,
    });
  });

  it('ends at once on an empty queue, and leaves what is not due yet', async () => {
    const core = memoryCore();
    await core.dispatcher.enqueue(new Gate().task({ n: 1 }), { delayMs: 60_000 });
    expect(await start(core, { stopWhenEmpty: true }).ended).toMatchObject({ processed: 0, reason: 'empty' });
    expect(await core.dispatcher.count()).toBe(1);
  });
});

describe('a pause', () => {
  it('gives back what has not begun, lets what runs go on, and ends by resuming', async () => {
    const core = memoryCore();
    const gate = new Gate();
    await quick(core, 200);
    const { worker, ended } = start(core, { concurrency: 2 });
    await until('it is warm', async () => (await core.taskLog.stats()).completed === 200);
    await fill(core, gate, 20);
    await until('both run', () => gate.begun.length === 2);
    worker.pause();
    await until('the rest is given back', async () => {
      const { dequeued, enqueued, running } = await core.taskLog.stats();
      return dequeued === 0 && enqueued === 18 && running === 2;
    });
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 18, leased: 2 });
    gate.open();
    await until('both have ended', () => gate.ended.length === 2);
    await pause(20);
    expect(gate.begun).toHaveLength(2);
    worker.resume();
    await until('all have ended', () => gate.ended.length === 20);
    await worker.stop();
    expect(await ended).toMatchObject({ processed: 220, exitCode: 0 });
  });

  it('keeps the leases of what runs', async () => {
    const clock = new ManualClock();
    const core = memoryCore({ clock });
    const gate = new Gate();
    await fill(core, gate, 1);
    const { worker, ended } = start(core);
    await clock.settle();
    worker.pause();
    await clock.advance(600_000);
    const [row] = (await core.taskLog.search()).entries;
    expect(row).toMatchObject({ status: 'running', lapses: 0 });
    expect(row?.claimUntil).toBeGreaterThan(clock.now());
    gate.open();
    await clock.settle();
    expect(await core.taskLog.stats()).toMatchObject({ completed: 1 });
    await worker.stop();
    await ended;
  });

  it('ends when the worker is stopped', async () => {
    const core = memoryCore();
    const { worker, ended } = start(core);
    worker.pause();
    await worker.stop();
    expect(await ended).toEqual({ processed: 0, reason: 'stopped', exitCode: 0 });
  });
});

describe('stopping', () => {
  it('lets what runs end and begins nothing new', async () => {
    const core = memoryCore();
    const gate = new Gate();
    await fill(core, gate, 10);
    const { worker, ended } = start(core, { concurrency: 3 });
    await until('three run', () => gate.begun.length === 3);
    const stopped = worker.stop();
    await until('nothing else is claimed', async () => (await core.taskLog.stats()).enqueued === 7);
    await fill(core, gate, 1);
    gate.open();
    await stopped;
    expect(await ended).toEqual({ processed: 3, reason: 'stopped', exitCode: 0 });
    expect(gate.begun).toHaveLength(3);
    expect(await core.taskLog.stats()).toMatchObject({ completed: 3, enqueued: 8 });
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 8, leased: 0 });
  });

  it('aborts what has not ended in time and gives it back, without counting an attempt', async () => {
    const core = memoryCore();
    const gate = new Gate();
    await fill(core, gate, 1);
    const { worker, ended } = start(core);
    await until('it runs', () => gate.begun.length === 1);
    await worker.stop({ timeoutMs: 20 });
    expect(await ended).toMatchObject({ reason: 'stopped', exitCode: 1 });
    expect(gate.reasons).toMatchObject([{ code: 'WORKER_STOPPING' }]);
    const [row] = (await core.taskLog.search()).entries;
    expect(row).toMatchObject({
      status: 'enqueued',
      attempts: 0,
      lapses: 0,
      claimUntil: null,
      startedAt: null,
    });
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 1, leased: 0 });
  });

  it('leaves a handler that ignores its abort claimed, so that nobody runs it beside itself', async () => {
    const core = memoryCore();
    const deaf = new Gate(false);
    await fill(core, deaf, 1);
    const { worker, ended } = start(core, { abortGraceMs: 20 });
    await until('it runs', () => deaf.begun.length === 1);
    await worker.stop({ timeoutMs: 1 });
    expect(await ended).toEqual({ processed: 0, reason: 'stopped', exitCode: 1 });
    const [row] = (await core.taskLog.search()).entries;
    expect(row).toMatchObject({ status: 'running' });
    expect(row?.claimUntil).toBeGreaterThan(Date.now());
    expect(await core.queueBroker.count('main')).toMatchObject({ ready: 0, leased: 1 });
    deaf.open();
    await until('it returns', () => deaf.ended.length === 1);
    await pause(10);
    expect(await core.taskLog.stats()).toMatchObject({ running: 1, completed: 0 });
  });

  it('by force aborts at once, also while an ordinary stop is under way', async () => {
    const core = memoryCore();
    const gate = new Gate();
    await fill(core, gate, 1);
    const { worker, ended } = start(core);
    await until('it runs', () => gate.begun.length === 1);
    const before = performance.now();
    const stopped = worker.stop({ timeoutMs: 60_000 });
    await worker.stop({ force: true });
    await stopped;
    expect(performance.now() - before).toBeLessThan(5_000);
    expect((await ended).exitCode).toBe(1);
    expect(await core.taskLog.stats()).toMatchObject({ enqueued: 1 });
  });

  it('before the beginning, or twice, is no harm', async () => {
    const core = memoryCore();
    await quick(core, 1);
    const worker = new Worker({ dispatcher: core.dispatcher });
    await worker.stop();
    expect(await worker.run()).toMatchObject({ processed: 0, reason: 'stopped' });
    await worker.stop();
    expect(await core.dispatcher.count()).toBe(1);
  });

  it('comes by itself when the time is over', async () => {
    const core = memoryCore();
    expect(await start(core, { timeLimitMs: 20 }).ended).toMatchObject({ reason: 'time-limit', exitCode: 0 });
  });

  it('comes by itself when the process is too large, also without any task', async () => {
    const end = await start(memoryCore(), { memoryLimitMb: 1 }).ended;
    expect(end).toEqual({ processed: 0, reason: 'memory-limit', exitCode: 0 });
  });

  it('comes by itself after the task with which the process has grown too large', async () => {
    const core = memoryCore();
    await quick(core, 50);
    const end = await start(core, { memoryLimitMb: 1, concurrency: 1 }).ended;
    expect(end).toMatchObject({ reason: 'memory-limit', exitCode: 0 });
    expect(end.processed).toBeLessThan(10);
    const { completed, enqueued } = await core.taskLog.stats();
    expect({ completed, all: completed + enqueued }).toEqual({ completed: end.processed, all: 50 });
  });

  it('is done when run has resolved: no call to a broker is open, and none is begun after it', async () => {
    let calls = 0;
    let underWay = 0;
    const counted = <T extends object>(target: T, slow: string): T =>
      intercepted(target, async (method, call) => {
        calls += 1;
        underWay += 1;
        await pause(method === slow ? 100 : 1);
        try {
          return await call();
        } finally {
          underWay -= 1;
        }
      });
    const queueBroker = counted(new InMemoryQueueBroker({ sync: false }), 'extend');
    const core = memoryCore({ queueBroker, logBroker: counted(new InMemoryTaskLogBroker(), 'none') });
    const talking = defineTask({
      name: 'talking',
      run: async (_: object, { log, progress }) => {
        log('info', 'a');
        await pause(60);
        progress(50);
      },
    });
    await Promise.all(Array.from({ length: 20 }, () => core.dispatcher.enqueue(talking({}))));
    const { worker, ended } = start(core, { leaseMs: 100, concurrency: 5 });
    await until('a lease is being renewed', () => underWay > 0 && calls > 10);
    await pause(40);
    await worker.stop();
    await ended;
    const atTheEnd = calls;
    expect(underWay).toBe(0);
    await pause(150);
    expect(calls).toBe(atTheEnd);
  });

  it('does not wait for a queue that holds its answer back until there is work', async () => {
    let holds = 0;
    const patient = intercepted(new InMemoryQueueBroker({ sync: false }), async (method, call, args) => {
      if (method !== 'receive') return call();
      holds += 1;
      const { signal } = args[1] as ReceiveOptions;
      await aborted(signal).catch(() => undefined);
      return [];
    });
    const core = memoryCore({ queueBroker: patient });
    const { worker, ended } = start(core);
    await until('it asks', () => holds > 0);
    await worker.stop();
    expect(await ended).toMatchObject({ reason: 'stopped', exitCode: 0 });
  });
});

describe('signals of the process', () => {
  it('stop, pause and resume a worker while they are bound', async () => {
    const core = memoryCore();
    const gate = new Gate();
    await fill(core, gate, 1);
    const { worker, ended } = start(core);
    const before = process.listenerCount('SIGTERM');
    const unbind = bindSignals(worker);
    process.emit('SIGCONT');
    expect(worker.isPaused).toBe(false);
    process.emit('SIGUSR2');
    expect(worker.isPaused).toBe(true);
    process.emit('SIGCONT');
    expect(worker.isPaused).toBe(false);
    await until('it runs', () => gate.begun.length === 1);
    process.emit('SIGQUIT');
    process.emit('SIGQUIT');
    expect(await ended).toMatchObject({ reason: 'stopped', exitCode: 1 });
    expect(gate.reasons).toMatchObject([{ code: 'WORKER_STOPPING' }]);
    unbind();
    expect(process.listenerCount('SIGTERM')).toBe(before);
    expect(process.listenerCount('SIGUSR2')).toBe(0);
  });
});

describe('several queues', () => {
  it('waste no time on empty heavy ones while the lightest has work', async () => {
    const queueBroker = new InMemoryQueueBroker({ sync: false });
    const queues = [90, 30, 10].map((weight) => new Queue(`w${weight}`, queueBroker, weight));
    const clock = new ManualClock();
    const core = memoryCore({ clock, queueBroker, queues });
    const order: number[] = [];
    const note = defineTask({ name: 'note', run: async ({ n }: { n: number }) => void order.push(n) });
    for (let n = 0; n < 100; n += 1) await core.dispatcher.enqueue(note({ n }), { queue: 'w10' });
    // The clock stands still: had the worker to wait for anything, it would never end.
    const end = await start(core, { concurrency: 1, stopWhenEmpty: true }).ended;
    expect(end.processed).toBe(100);
    expect(order).toEqual(Array.from({ length: 100 }, (_, n) => n));
  });
});
