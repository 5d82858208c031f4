import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Knex } from 'knex';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import type { Persistence } from '../../brokers/rds/index.ts';
import { BrokerError } from '../../src/errors.ts';
import { defineTask } from '../../src/task.ts';
import type { DefinedTask } from '../../src/task.ts';
import { failureOf, memoryCore, recordingLogger, until } from '../support/core.ts';
import type { Core, RecordingLogger } from '../support/core.ts';
import { Faults } from '../support/faulty.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { sqliteFile } from '../support/sqlite.ts';
import type { SqliteFile } from '../support/sqlite.ts';

interface Scene extends Core {
  readonly clock: ManualClock;
  readonly faults: Faults;
  readonly logger: RecordingLogger;
  /** Operations of the `broker:error` events. */
  readonly told: readonly string[];
}

function scene(): Scene {
  const clock = new ManualClock();
  const faults = new Faults();
  const logger = recordingLogger();
  const logBroker = faults.wrap('log', new InMemoryTaskLogBroker({ clock }));
  const core = memoryCore({ clock, logger, logBroker, queueBroker: new InMemoryQueueBroker() });
  const told: string[] = [];
  core.dispatcher.events.on('broker:error', ({ operation }) => told.push(operation));
  return { ...core, clock, faults, logger, told };
}

function flaky(runs: number[]): DefinedTask<object, string> {
  return defineTask({
    name: 'flaky',
    retry: { maxAttempts: 3, backoff: 0 },
    run: (_: object, { attempt }) => {
      runs.push(attempt);
      if (attempt === 1) throw new Error('once');
      return 'done';
    },
  });
}

const plain = defineTask({ name: 'plain', run: (_: object) => 'done' });

function unsettled({ logger }: { readonly logger: RecordingLogger }): readonly string[] {
  return logger.lines.filter(({ level }) => level === 'error').map(({ message }) => message);
}

describe('an outage under a sync queue', () => {
  it.each(['reject-before', 'reject-after'] as const)(
    'between two runs is borne, and the task runs on (%s)',
    async (kind) => {
      const { clock, faults, dispatcher, told, ...rest } = scene();
      faults.on('log.claim', { kind }, (call) => call <= 3);
      const runs: number[] = [];
      const enqueued = dispatcher.enqueue(flaky(runs)({}));
      await clock.advance(5_000);
      expect(await (await enqueued).result({ timeoutMs: 0 })).toBe('done');
      expect(runs).toEqual([1, 2]);
      expect(told).toEqual(['claim', 'claim', 'claim']);
      expect(unsettled(rest)).toEqual([]);
    },
  );

  it('that lasts leaves the task as it is, says so, and does not call it refused', async () => {
    const { clock, faults, dispatcher, told, ...rest } = scene();
    faults.on('log.claim', { kind: 'reject-before' });
    const runs: number[] = [];
    const enqueued = dispatcher.enqueue(flaky(runs)({}));
    await clock.advance(70_000);
    expect(await (await enqueued).status()).toBe('enqueued');
    expect(runs).toEqual([1]);
    expect(new Set(told)).toEqual(new Set(['claim']));
    expect(unsettled(rest)).toEqual([expect.stringContaining('left unsettled')]);
  });

  it('that keeps the end of a run from being written lets its caller go after a minute', async () => {
    const { clock, faults, dispatcher, told, ...rest } = scene();
    faults.on('log.settle', { kind: 'reject-before' });
    const enqueued = dispatcher.enqueue(plain({}));
    await clock.advance(70_000);
    expect(await (await enqueued).status()).toBe('running');
    expect(new Set(told)).toEqual(new Set(['settle']));
    expect(unsettled(rest)).toEqual([expect.stringContaining('left unsettled')]);
  });

  it('by a refusal that does not end is repeated a few times only', async () => {
    const { clock, faults, dispatcher, told } = scene();
    const error = new BrokerError('BROKER_FAILED', 'No.');
    faults.on('log.settle', { kind: 'reject-before', error });
    const enqueued = dispatcher.enqueue(plain({}));
    await clock.advance(30_000);
    await enqueued;
    expect(told.length).toBeGreaterThan(1);
    expect(told.length).toBeLessThan(10);
  });

  it('that began with the closing of its log ends the wait at once', async () => {
    const { dispatcher, told, ...rest } = scene();
    const closing = defineTask({ name: 'closing', run: async (_: object) => dispatcher.close() });
    await dispatcher.enqueue(closing({}));
    expect(told).toEqual(['settle']);
    expect(unsettled(rest)).toEqual([expect.stringContaining('left unsettled')]);
  });

  it('before the row is stored still refuses the task', async () => {
    const { faults, dispatcher } = scene();
    faults.on('log.insert', { kind: 'reject-before' });
    expect((await failureOf(() => dispatcher.enqueue(plain({})))).code).toBe('ENQUEUE_UNCERTAIN');
  });
});

describe('a sync task that runs after the commit of its caller', () => {
  let file: SqliteFile;
  let persistence: Persistence;
  let knex: Knex;

  beforeEach(async () => {
    file = await sqliteFile();
    persistence = file.open();
    knex = await persistence.knex();
  });

  afterEach(() => file.remove());

  it('is tried again after a short outage', async () => {
    const faults = new Faults().on('log.claim', { kind: 'reject-before' }, 1);
    const logBroker = faults.wrap('log', new RdsTaskLogBroker(persistence));
    const { dispatcher, taskLog } = memoryCore({ logBroker, queueBroker: new InMemoryQueueBroker() });
    await taskLog.createContainer();
    const runs: number[] = [];
    const transaction = await knex.transaction();
    const handle = await dispatcher.enqueue(flaky(runs)({}), { transaction });
    await transaction.commit();
    await until('the task has ended', async () => (await handle.status()) === 'completed');
    expect(runs).toEqual([1, 2]);
  });

  it('says so in the log and as an event when it cannot be settled', async () => {
    const error = new BrokerError('BROKER_CLOSED', 'Closed.');
    const faults = new Faults().on('log.settle', { kind: 'reject-before', error });
    const logBroker = faults.wrap('log', new RdsTaskLogBroker(persistence));
    const logger = recordingLogger();
    const core = memoryCore({ logBroker, logger, queueBroker: new InMemoryQueueBroker() });
    await core.taskLog.createContainer();
    const told: unknown[] = [];
    core.dispatcher.events.on('broker:error', (event) => told.push(event));
    const transaction = await knex.transaction();
    await core.dispatcher.enqueue(plain({}), { transaction });
    await transaction.commit();
    await until('the log says so', () => unsettled({ logger }).length > 0);
    expect(told).toEqual([{ operation: 'settle', queue: 'main', error }]);
  });
});
