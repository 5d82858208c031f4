import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { Persistence, RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { Queue } from '../../src/queue.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import { TaskLog } from '../../src/task-log.ts';

export type StoreName = 'memory' | 'sqlite';

export interface Counts {
  statements: number;
  commits: number;
}

export interface BenchStore {
  readonly name: StoreName;
  readonly dispatcher: QueueDispatcher;
  /** Since the store was opened; absent where there are no statements. */
  readonly counts: Counts | undefined;
  close(): Promise<void>;
}

export async function benchStore(name: StoreName, file: string): Promise<BenchStore> {
  const store = name === 'memory' ? memory() : sqlite(file);
  await store.dispatcher.taskLog.createContainer();
  await store.dispatcher.initialize();
  return store;
}

function memory(): BenchStore {
  const taskLog = new TaskLog({ broker: new InMemoryTaskLogBroker() });
  const queues = [new Queue('bench', new InMemoryQueueBroker({ sync: false }))];
  const dispatcher = new QueueDispatcher({ queues, taskLog });
  return { name: 'memory', dispatcher, counts: undefined, close: () => dispatcher.close() };
}

function sqlite(filename: string): BenchStore {
  const counts = { statements: 0, commits: 0 };
  const persistence = new Persistence({
    client: 'sqlite',
    connection: { filename },
    onStatement(sql) {
      counts.statements += 1;
      if (sql === 'commit') counts.commits += 1;
    },
  });
  const taskLog = new TaskLog({ broker: new RdsTaskLogBroker(persistence) });
  const dispatcher = new QueueDispatcher({
    queues: [new Queue('bench', new RdsQueueBroker(persistence))],
    taskLog,
  });
  const close = async (): Promise<void> => {
    await dispatcher.close();
    await persistence.close();
  };
  return { name: 'sqlite', dispatcher, counts, close };
}
