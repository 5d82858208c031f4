import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { Queue } from '../../src/queue.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import { defineTask } from '../../src/task.ts';
import type { TaskContext } from '../../src/task.ts';
import { TaskLog } from '../../src/task-log.ts';
import type { TaskLogEntry } from '../../src/task-log-broker.ts';
import { Worker } from '../../src/worker/worker.ts';
import { startChild } from '../support/children.ts';
import type { Child } from '../support/children.ts';
import { until } from '../support/core.ts';
import type { NapParameters, SignalOrder } from '../support/signal-worker.ts';
import { sqliteFile } from '../support/sqlite.ts';
import type { SqliteFile } from '../support/sqlite.ts';

const QUEUE = 'work';
const CHILD = 'the-child';
const OTHER = 'another-worker';
const FOR_EVER_MS = 60_000;

let file: SqliteFile;
let broker: RdsQueueBroker;
let taskLog: TaskLog;
let dispatcher: QueueDispatcher;
let children: Child[];
let others: Worker[];

/** What naps do in a worker of this process. */
let napHere: (context: TaskContext) => Promise<void>;
const nap = defineTask({
  name: 'nap',
  async run(_: NapParameters, context) {
    await napHere(context);
    return context.workerId;
  },
});

beforeEach(async () => {
  file = await sqliteFile();
  const persistence = file.open();
  broker = new RdsQueueBroker(persistence);
  taskLog = new TaskLog({ broker: new RdsTaskLogBroker(persistence) });
  dispatcher = new QueueDispatcher({ queues: [new Queue(QUEUE, broker)], taskLog });
  dispatcher.registry.register(nap);
  await dispatcher.initialize();
  await taskLog.createContainer();
  children = [];
  others = [];
  napHere = async () => undefined;
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await Promise.all([...children.map((child) => child.ended), ...others.map((worker) => worker.stop())]);
  await file.remove();
});

async function startWorker(options: Partial<SignalOrder> = {}): Promise<Child> {
  const child = startChild('signal-worker', {
    filename: file.filename,
    queue: QUEUE,
    workerId: CHILD,
    concurrency: 1,
    leaseMs: 30_000,
    shutdownMs: 20_000,
    abortGraceMs: 5_000,
    ...options,
  } satisfies SignalOrder);
  children.push(child);
  await child.said('ready');
  return child;
}

/** Another worker, in this process. */
function startOther(): void {
  const worker = new Worker({ dispatcher, workerId: OTHER, pollIntervalMs: 20 });
  others.push(worker);
  void worker.run();
}

async function enqueueNap(name: string, ms: number, heedsAbort: boolean = true): Promise<string> {
  const { id } = await dispatcher.enqueue(nap({ name, ms, heedsAbort }), name);
  return id;
}

function statusIs(id: string, status: TaskLogEntry['status']): Promise<void> {
  return until(`task ${id} is ${status}`, async () => (await taskLog.getStatus(id)) === status);
}

function begun(child: Child): readonly string[] {
  return child.lines.filter((line) => line.startsWith('start '));
}

/** Starts `slow` with tasks waiting behind it in the child's hand; answers the ids of `slow` and of those. */
async function prefetch(child: Child, slowMs: number): Promise<{ slow: string; waiting: string[] }> {
  await enqueueNap('first', 1);
  await child.said('end first');
  const slow = await enqueueNap('slow', slowMs);
  const waiting: string[] = [];
  for (let n = 0; n < 5; n += 1) waiting.push(await enqueueNap(`waiting-${n}`, 1));
  await child.said('start slow');
  await until('the child holds tasks ahead', async () => (await taskLog.stats()).dequeued > 0);
  return { slow, waiting };
}

describe('the first signal to stop', () => {
  it.each(['SIGTERM', 'SIGINT', 'SIGQUIT'] as const)(
    '%s lets the task in hand finish, starts nothing new and exits with 0',
    async (signal) => {
      const child = await startWorker();
      const id = await enqueueNap('slow', 500);
      await child.said('start slow');
      child.kill(signal);
      await child.said(signal);
      const late = await enqueueNap('late', 1);
      expect(await child.ended).toMatchObject({ exitCode: 0, signal: null, stderr: '' });
      expect(child.lines).toContain('end slow');
      expect(begun(child)).toEqual(['start slow 1']);
      expect(await taskLog.getById(id)).toMatchObject({ status: 'completed', worker: CHILD, attempts: 1 });
      expect(await taskLog.getById(late)).toMatchObject({ status: 'enqueued', attempts: 0, lapses: 0 });
    },
  );

  it('gives tasks that have not begun back at once, while the one in hand goes on', async () => {
    const child = await startWorker();
    const { slow, waiting } = await prefetch(child, 4_000);
    child.kill('SIGTERM');
    startOther();
    for (const id of waiting) await statusIs(id, 'completed');
    expect(child.lines).not.toContain('end slow');
    expect((await child.ended).exitCode).toBe(0);
    for (const id of waiting) {
      expect(await taskLog.getById(id)).toMatchObject({ worker: OTHER, attempts: 1, lapses: 0 });
    }
    expect(await taskLog.getById(slow)).toMatchObject({ status: 'completed', worker: CHILD, lapses: 0 });
  });
});

describe('the second signal to stop', () => {
  it('aborts what runs, and gives it back without counting an attempt', async () => {
    const child = await startWorker();
    const id = await enqueueNap('slow', FOR_EVER_MS);
    await child.said('start slow');
    child.kill('SIGTERM');
    await child.said('SIGTERM');
    expect(child.lines).not.toContain('abort slow');
    child.kill('SIGTERM');
    await child.said('abort slow');
    expect((await child.ended).signal).toBeNull();
    expect(await taskLog.getById(id)).toMatchObject({
      status: 'enqueued',
      claimUntil: null,
      attempts: 0,
      lapses: 0,
    });
    expect(await broker.count(QUEUE)).toMatchObject({ ready: 1, delayed: 0, leased: 0 });
  });
});

describe('a handler that ignores the end of its worker', () => {
  it('is left behind after the shutdown time and the grace, still claimed, and taken over later', async () => {
    const child = await startWorker({ leaseMs: 3_000, shutdownMs: 300, abortGraceMs: 300 });
    const id = await enqueueNap('deaf', FOR_EVER_MS, false);
    await child.said('start deaf');
    child.kill('SIGTERM');
    await child.said('abort deaf');
    expect(await child.ended).toMatchObject({ exitCode: 1, signal: null });
    expect(await taskLog.getById(id)).toMatchObject({
      status: 'running',
      worker: CHILD,
      attempts: 0,
      lapses: 0,
    });
    startOther();
    await statusIs(id, 'completed');
    expect(await taskLog.getById(id)).toMatchObject({ worker: OTHER, attempts: 1, lapses: 1 });
  });
});

describe('pause and resume', () => {
  it('SIGUSR2 pauses, while the leases of what runs are kept; SIGCONT goes on', async () => {
    const leaseMs = 1_500;
    const child = await startWorker({ leaseMs, concurrency: 2 });
    const running = await enqueueNap('slow', 3 * leaseMs);
    await child.said('start slow');
    child.kill('SIGUSR2');
    await child.said('paused');
    const startedAt = (await taskLog.getById(running)).startedAt ?? 0;
    const waiting = await enqueueNap('waiting', 1);
    await until('the lease was renewed past its first length', async () => {
      const { claimUntil } = await taskLog.getById(running);
      return claimUntil !== null && claimUntil > startedAt + 2 * leaseMs;
    });
    expect(begun(child)).toEqual(['start slow 1']);
    child.kill('SIGCONT');
    await child.said('resumed');
    await child.said('end slow');
    await statusIs(waiting, 'completed');
    await statusIs(running, 'completed');
    expect(await taskLog.getById(running)).toMatchObject({ worker: CHILD, attempts: 1, lapses: 0 });
    expect(begun(child)).toHaveLength(2);
  });

  it('a paused worker gives tasks that have not begun back at once', async () => {
    const child = await startWorker();
    const { waiting } = await prefetch(child, FOR_EVER_MS);
    child.kill('SIGUSR2');
    startOther();
    for (const id of waiting) await statusIs(id, 'completed');
    expect(child.lines).not.toContain('end slow');
    for (const id of waiting) expect(await taskLog.getById(id)).toMatchObject({ worker: OTHER, lapses: 0 });
  });

  it('SIGTERM ends a paused worker', async () => {
    const child = await startWorker();
    child.kill('SIGUSR2');
    await child.said('paused');
    child.kill('SIGTERM');
    expect(await child.ended).toMatchObject({ exitCode: 0, signal: null, stderr: '' });
  });

  it('SIGCONT does nothing on a worker that is not paused', async () => {
    const child = await startWorker();
    child.kill('SIGCONT');
    await child.said('SIGCONT');
    const id = await enqueueNap('next', 1);
    await statusIs(id, 'completed');
    expect(child.lines).not.toContain('resumed');
    expect(begun(child)).toEqual(['start next 1']);
  });
});

describe('a worker that was stopped with SIGSTOP beyond its lease', () => {
  it('writes nothing about a task that another worker has completed meanwhile', async () => {
    const child = await startWorker({ leaseMs: 1_000 });
    const id = await enqueueNap('slow', 2_000, false);
    await child.said('start slow');
    child.kill('SIGSTOP');
    startOther();
    await statusIs(id, 'completed');
    const won = await taskLog.getById(id);
    expect(won).toMatchObject({ worker: OTHER, attempts: 1, lapses: 1 });
    child.kill('SIGCONT');
    await child.said('end slow');
    child.kill('SIGTERM');
    expect(await child.ended).toMatchObject({ exitCode: 0, signal: null, stderr: '' });
    expect(await taskLog.getById(id)).toEqual(won);
    expect(await taskLog.lines(id)).toEqual([]);
    expect(await broker.count(QUEUE)).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });

  it('finds that the claim was taken, and aborts its run, while the other one goes on', async () => {
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    napHere = () => released;
    const child = await startWorker({ leaseMs: 1_000 });
    const id = await enqueueNap('slow', FOR_EVER_MS);
    await child.said('start slow');
    child.kill('SIGSTOP');
    startOther();
    await until('the other worker has the task', async () => (await taskLog.getById(id)).worker === OTHER);
    child.kill('SIGCONT');
    await child.said('abort slow');
    expect(await taskLog.getById(id)).toMatchObject({ worker: OTHER, attempts: 0, lapses: 1 });
    release();
    await statusIs(id, 'completed');
    expect(await taskLog.getById(id)).toMatchObject({ worker: OTHER, attempts: 1, lapses: 1 });
    expect(child.lines).not.toContain('end slow');
  });
});
