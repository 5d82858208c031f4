import { describe, expect, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import type { Clock } from '../../src/environment.ts';
import { Queue } from '../../src/queue.ts';
import { StrictPrioritySelector } from '../../src/queue-selector.ts';
import type { QueueSelector, QueueShare } from '../../src/queue-selector.ts';
import { defineTask } from '../../src/task.ts';
import type { TaskHandle } from '../../src/task-handle.ts';
import { Worker } from '../../src/worker/worker.ts';
import type { WorkerOptions } from '../../src/worker/worker.ts';
import { memoryCore, recordingLogger } from '../support/core.ts';
import type { Core, RecordingLogger } from '../support/core.ts';
import { Faults } from '../support/faulty.ts';
import { ManualClock } from '../support/manual-clock.ts';

interface Scene extends Core {
  readonly clock: ManualClock;
  /** Of the broker of the queue `a`, as the part `a`; the queue `b` has none. */
  readonly faults: Faults;
  readonly logger: RecordingLogger;
  readonly told: readonly (readonly [operation: string, queue: string | undefined])[];
}

function memoryBroker(clock: Clock): InMemoryQueueBroker {
  return new InMemoryQueueBroker({ sync: false, clock });
}

function scene(): Scene {
  const clock = new ManualClock();
  const faults = new Faults();
  const logger = recordingLogger();
  const queues = [
    new Queue('a', faults.wrap('a', memoryBroker(clock)), 1_000),
    new Queue('b', memoryBroker(clock), 1),
  ];
  const core = memoryCore({ clock, logger, queues, logBroker: new InMemoryTaskLogBroker({ clock }) });
  const told: [string, string | undefined][] = [];
  core.dispatcher.events.on('broker:error', ({ operation, queue }) => told.push([operation, queue]));
  return { ...core, clock, faults, logger, told };
}

async function working<T>(
  { dispatcher, clock, faults }: Scene,
  options: Partial<WorkerOptions>,
  test: (worker: Worker) => Promise<T>,
): Promise<void> {
  const worker = new Worker({ dispatcher, ...options });
  const ended = worker.run();
  await test(worker);
  const stopped = worker.stop();
  faults.release();
  await clock.advance(10_000);
  await stopped;
  await ended;
}

const plain = defineTask({ name: 'plain', run: (_: object) => 'done' });

function onQueues({ dispatcher }: Scene): Promise<TaskHandle<string>[]> {
  return Promise.all(['a', 'b'].map((queue) => dispatcher.enqueue(plain({}), { queue })));
}

function statuses(handles: readonly TaskHandle<string>[]): Promise<string[]> {
  return Promise.all(handles.map((handle) => handle.status()));
}

describe('a broker that does not answer', () => {
  it('to a draw holds up no other queue, is asked once, and its late answer still counts', async () => {
    const core = scene();
    core.faults.on('a.receive', { kind: 'hang' }, 1);
    const handles = await onQueues(core);
    await working(core, {}, async () => {
      await core.clock.advance(60_000);
      expect(await statuses(handles)).toEqual(['enqueued', 'completed']);
      expect(core.faults.count('a.receive')).toBe(1);
      expect(core.told).toEqual([['draw', 'a']]);
      core.faults.release();
      await core.clock.advance(1_000);
      expect(await statuses(handles)).toEqual(['completed', 'completed']);
    });
  });

  it('is no empty queue', async () => {
    const core = scene();
    core.faults.on('a.receive', { kind: 'hang' }, 1);
    const handles = await onQueues(core);
    const ended = new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true }).run();
    await core.clock.advance(60_000);
    core.faults.release();
    await core.clock.advance(10_000);
    expect(await ended).toMatchObject({ processed: 2, reason: 'empty' });
    expect(await statuses(handles)).toEqual(['completed', 'completed']);
  });

  it('in time gives back what its late answer brings while every slot is taken', async () => {
    const core = scene();
    core.faults.on('a.receive', { kind: 'hang' }, 1);
    let atOnce = 0;
    let most = 0;
    const long = defineTask({
      name: 'long',
      run: async (_: object) => {
        most = Math.max(most, (atOnce += 1));
        await core.clock.sleep(20_000);
        atOnce -= 1;
        return 'done';
      },
    });
    const handles = await Promise.all(
      ['a', 'b'].map((queue) => core.dispatcher.enqueue(long({}), { queue })),
    );
    await working(core, { concurrency: 1 }, async () => {
      await core.clock.advance(10_000);
      expect(await statuses(handles)).toEqual(['enqueued', 'running']);
      core.faults.release();
      await core.clock.advance(1_000);
      expect(await statuses(handles)).toEqual(['enqueued', 'running']);
      await core.clock.advance(60_000);
      expect(await statuses(handles)).toEqual(['completed', 'completed']);
    });
    expect(most).toBe(1);
    expect(await core.taskLog.getById(handles[0]?.id ?? '')).toMatchObject({ attempts: 1, lapses: 0 });
  });

  it('when asked what is due holds up no other queue', async () => {
    const core = scene();
    core.faults.on('a.ready', { kind: 'hang' });
    await working(core, {}, async () => {
      await core.clock.advance(10_000);
      const handles = await onQueues(core);
      await core.clock.advance(10_000);
      expect(await statuses(handles)).toEqual(['completed', 'completed']);
      expect(core.faults.count('a.ready')).toBe(1);
    });
  });

  it('to a relay holds up the relay of no other queue', async () => {
    const clock = new ManualClock();
    const [first, second] = [new Faults(), new Faults()];
    const queues = [
      new Queue('a', first.wrap('broker', memoryBroker(clock))),
      new Queue('b', second.wrap('broker', memoryBroker(clock))),
    ];
    const core = memoryCore({ clock, queues, logBroker: new InMemoryTaskLogBroker({ clock }) });
    for (const faults of [first, second]) faults.on('broker.push', { kind: 'hang' });
    for (const queue of ['a', 'b']) void core.dispatcher.enqueue(plain({}), { queue });
    await clock.advance(1_000);
    second.clear('broker.push');
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    await clock.advance(60_000);
    expect(await core.taskLog.stats({ queues: ['b'] })).toMatchObject({ completed: 1 });
    expect(await core.taskLog.stats({ queues: ['a'] })).toMatchObject({ enqueued: 1 });
    const stopped = worker.stop();
    await clock.advance(10_000);
    await stopped;
    await ended;
  });
});

describe('a selector of the user', () => {
  /** Deals so until `mend` is called. */
  function dealing(deal: () => readonly QueueShare[]): QueueSelector & { deals: number; mend(): void } {
    const sound = new StrictPrioritySelector();
    let isMended = false;
    return {
      prefetches: false,
      deals: 0,
      mend: () => (isMended = true),
      deal(...args) {
        // So that a test ends that would spin for ever.
        if ((this.deals += 1) > 10_000) throw new Error('Asked without an end');
        return isMended ? sound.deal(...args) : deal();
      },
    };
  }

  it.each([
    ['no place', []],
    ['places of unknown queues only', [{ queue: 'nobody', places: 3 }]],
    ['nothing that is a place', [0, -1, 0.5, NaN].map((places) => ({ queue: 'b', places }))],
  ])('that deals %s is asked again after a pause, and the worker goes on', async (_, shares) => {
    const core = scene();
    const selector = dealing(() => shares);
    core.dispatcher.setTaskSelector(selector);
    const handles = await onQueues(core);
    await working(core, {}, async () => {
      await core.clock.advance(10_000);
      expect(selector.deals).toBeLessThan(1_000);
      expect(await statuses(handles)).toEqual(['enqueued', 'enqueued']);
      selector.mend();
      await core.clock.advance(10_000);
      expect(await statuses(handles)).toEqual(['completed', 'completed']);
      expect(core.told).toEqual([]);
    });
  });

  it.each([
    [
      'throws',
      (): never => {
        throw new Error('a bug');
      },
    ],
    ['deals what is no list', (): readonly QueueShare[] => JSON.parse('{}') as readonly QueueShare[]],
  ])('that %s is logged, told and asked again after a pause that grows', async (_, deal) => {
    const core = scene();
    const selector = dealing(deal);
    core.dispatcher.setTaskSelector(selector);
    const handles = await onQueues(core);
    await working(core, { stopWhenEmpty: true }, async () => {
      await core.clock.advance(10_000);
      expect(new Set(core.told.map(String))).toEqual(new Set(['deal,']));
      const errors = core.logger.lines.filter(({ level }) => level === 'error');
      expect(errors.map(({ bindings }) => bindings['retryInMs']).slice(0, 3)).toEqual([200, 400, 800]);
      expect(errors.length).toBeLessThan(10);
      selector.mend();
      await core.clock.advance(10_000);
      expect(await statuses(handles)).toEqual(['completed', 'completed']);
    });
  });

  it('cannot deal more places than there are', async () => {
    const core = scene();
    const tasks = Array.from({ length: 5 }, () => core.dispatcher.enqueue(plain({}), { queue: 'b' }));
    await Promise.all(tasks);
    const share = { queue: 'b', places: Infinity };
    core.dispatcher.setTaskSelector({ prefetches: false, deal: () => [share, share] });
    await working(core, { concurrency: 2, limit: 2, queues: ['b'] }, async () => {
      await core.clock.advance(10_000);
      expect(await core.taskLog.stats()).toMatchObject({ completed: 2, enqueued: 3 });
    });
  });
});
