import { Persistence, RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { Queue } from '../../src/queue.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import { bindSignals } from '../../src/worker/signals.ts';
import { defineTask } from '../../src/task.ts';
import { TaskLog } from '../../src/task-log.ts';
import { Worker } from '../../src/worker/worker.ts';

/** A worker on a SQLite file that listens to signals and says on standard output what happens, a line each. */
export interface SignalOrder {
  readonly filename: string;
  readonly queue: string;
  readonly workerId: string;
  readonly concurrency: number;
  readonly leaseMs: number;
  readonly shutdownMs: number;
  readonly abortGraceMs: number;
}

export interface NapParameters {
  readonly name: string;
  readonly ms: number;
  /** Whether an abort ends it early; else it takes its time, whatever happens. */
  readonly heedsAbort: boolean;
}

const order = JSON.parse(process.argv[2] ?? '{}') as SignalOrder;
const { filename, queue: queueName, ...settings } = order;
const persistence = new Persistence({ client: 'sqlite', connection: { filename } });
const taskLog = new TaskLog({ broker: new RdsTaskLogBroker(persistence) });
const queue = new Queue(queueName, new RdsQueueBroker(persistence));
const dispatcher = new QueueDispatcher({ queues: [queue], taskLog });

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function nap(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    });
  });
}

const napTask = defineTask({
  name: 'nap',
  async run({ name, ms, heedsAbort }: NapParameters, context) {
    say(`start ${name} ${context.attempt}`);
    context.signal.addEventListener('abort', () => say(`abort ${name}`));
    await nap(ms, heedsAbort ? context.signal : undefined);
    context.log('info', `ended by ${settings.workerId}`);
    say(`end ${name}`);
    return settings.workerId;
  },
});
dispatcher.registry.register(napTask);
dispatcher.events.on('worker:paused', () => say('paused'));
dispatcher.events.on('worker:resumed', () => say('resumed'));

const worker = new Worker({ dispatcher, pollIntervalMs: 50, ...settings });
const unbind = bindSignals(worker);
for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGUSR2', 'SIGCONT'] as const) {
  process.on(signal, () => say(signal));
}
say('ready');
const { reason, exitCode } = await worker.run();
unbind();
say(`stopped ${reason}`);
// What a left-behind handler holds open must not keep the process.
process.exit(exitCode);
