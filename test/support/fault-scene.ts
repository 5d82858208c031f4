import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { systemClock } from '../../src/environment.ts';
import type { Clock } from '../../src/environment.ts';
import { EventBus } from '../../src/events.ts';
import { Queue } from '../../src/queue.ts';
import type { QueueBroker } from '../../src/queue-broker.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import { TaskLog } from '../../src/task-log.ts';
import type { TaskLogBroker, TaskLogEntry } from '../../src/task-log-broker.ts';
import { recordingLogger } from './core.ts';
import type { RecordingLogger } from './core.ts';
import { Faults } from './faulty.ts';
import { sqliteFile } from './sqlite.ts';

/** In memory and in two databases the ledger is composed; in one database it is the driver's own. */
export type Storage = 'memory' | 'one SQLite file' | 'two SQLite files';

export const QUEUE = 'main';
/** Longer than a pushing process has before a relay pushes for it. */
export const PAST_GRACE_MS = 31_000;

interface Drivers {
  readonly broker: QueueBroker;
  readonly log: TaskLogBroker;
  /** What is owed is owed so much sooner. Also ages the claims, if there are any. */
  readonly age: (ms: number) => Promise<void>;
  readonly close: () => Promise<void>;
}

export interface FaultScene extends Omit<Drivers, 'age'> {
  readonly faults: Faults;
  /** Over broker and log with the faults; `broker` and `log` themselves have none. */
  readonly dispatcher: QueueDispatcher;
  readonly taskLog: TaskLog;
  readonly logger: RecordingLogger;
  readonly errors: { readonly operation: string; readonly error: unknown }[];
  /** The grace of every push that was not confirmed is over. */
  readonly passGrace: () => Promise<void>;
  readonly rows: () => Promise<readonly TaskLogEntry[]>;
  readonly messages: () => Promise<number>;
}

export async function openFaultScene(storage: Storage): Promise<FaultScene> {
  const { broker, log, age, close } = await openDrivers(storage);
  await broker.initialize([QUEUE]);
  await log.createContainer();
  const faults = new Faults();
  const logger = recordingLogger();
  const events = new EventBus(logger);
  const errors: { operation: string; error: unknown }[] = [];
  events.on('broker:error', ({ operation, error }) => errors.push({ operation, error }));
  const taskLog = new TaskLog({ broker: faults.wrap('log', log), events });
  const queues = [new Queue(QUEUE, faults.wrap('broker', broker))];
  return {
    broker,
    log,
    close,
    faults,
    logger,
    errors,
    taskLog,
    dispatcher: new QueueDispatcher({ queues, taskLog, logger }),
    passGrace: () => age(PAST_GRACE_MS),
    async rows() {
      return (await log.search({}, { limit: 1_000 })).entries;
    },
    async messages() {
      const { ready, delayed, leased } = await broker.count(QUEUE);
      return ready + delayed + leased;
    },
  };
}

function openDrivers(storage: Storage): Promise<Drivers> | Drivers {
  switch (storage) {
    case 'memory':
      return inMemory();
    case 'one SQLite file':
      return inSqlite(1);
    case 'two SQLite files':
      return inSqlite(2);
  }
}

function inMemory(): Drivers {
  let aheadMs = 0;
  const clock: Clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
  const broker = new InMemoryQueueBroker({ sync: false, clock });
  const log = new InMemoryTaskLogBroker({ clock });
  return {
    broker,
    log,
    async age(ms) {
      aheadMs += ms;
    },
    async close() {
      await broker.close();
      await log.close();
    },
  };
}

async function inSqlite(files: 1 | 2): Promise<Drivers> {
  const first = await sqliteFile();
  const second = files === 1 ? first : await sqliteFile();
  const queues = first.open();
  const logs = files === 1 ? queues : second.open();
  return {
    broker: new RdsQueueBroker(queues),
    log: new RdsTaskLogBroker(logs),
    async age(ms) {
      const knex = await logs.knex();
      await knex.raw(`update tq_task_log set push_at = push_at - ${ms}, claim_until = claim_until - ${ms}`);
    },
    async close() {
      await first.remove();
      await second.remove();
    },
  };
}
