import { Persistence, RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { Queue } from '../../src/queue.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import { defineTask } from '../../src/task.ts';
import { TaskLog } from '../../src/task-log.ts';
import { Worker } from '../../src/worker/worker.ts';
import { writeFileSync } from 'node:fs';

/** A worker on a SQLite file, until the queue is empty. */
export interface DrainOrder {
  readonly filename: string;
  readonly queue: string;
  /** Gets the ids of the tasks whose handler was called, a line each, when the worker ends. */
  readonly effectsFile: string;
}

export interface DrainEnd {
  readonly processed: number;
  readonly exitCode: number;
  /** Messages of the failures that the worker met. */
  readonly errors: readonly string[];
}

const order = JSON.parse(process.argv[2] ?? '{}') as DrainOrder;
const persistence = new Persistence({ client: 'sqlite', connection: { filename: order.filename } });
const taskLog = new TaskLog({ broker: new RdsTaskLogBroker(persistence) });
const queue = new Queue(order.queue, new RdsQueueBroker(persistence));
const dispatcher = new QueueDispatcher({ queues: [queue], taskLog });
const effects: string[] = [];
const errors: string[] = [];
const mark = defineTask({
  name: 'mark',
  run(_: object, context) {
    effects.push(context.taskId);
    return null;
  },
});
dispatcher.registry.register(mark);
dispatcher.events.on('broker:error', ({ operation, error }) => errors.push(`${operation}: ${String(error)}`));

const worker = new Worker({ dispatcher, stopWhenEmpty: true });
const { processed, exitCode } = await worker.run();
writeFileSync(order.effectsFile, effects.map((id) => `${id}\n`).join(''));
const end: DrainEnd = { processed, exitCode, errors };
process.stdout.write(`${JSON.stringify(end)}\n`);
process.exitCode = exitCode;
await persistence.close();
