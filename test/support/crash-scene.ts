import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { Persistence, RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { Queue } from '../../src/queue.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import { defineTask } from '../../src/task.ts';
import type { DefinedTask } from '../../src/task.ts';
import { TaskLog } from '../../src/task-log.ts';
import { withoutLedger } from './faulty.ts';
import type { Faults } from './faulty.ts';

/** What parent and child have to agree on; plain data, so that it fits on a command line. */
export interface CrashPlace {
  readonly queueFile: string;
  /** The same as `queueFile`: one database for both. */
  readonly logFile: string;
  /** Where handlers leave their effects, a line each. */
  readonly effectsFile: string;
  readonly ledger: 'own' | 'composed';
}

export const QUEUE_NAME = 'work';

/** One run of a handler. */
export interface Effect {
  readonly taskId: string;
  readonly attempt: number;
  readonly pid: number;
}

export interface NoteParameters {
  /** The first run throws after its effect. */
  readonly failsFirst?: boolean;
  /** Goes on until its lease was renewed. */
  readonly isLong?: boolean;
  /** Writes a line. */
  readonly writes?: boolean;
}

export interface CrashScene {
  readonly dispatcher: QueueDispatcher;
  readonly taskLog: TaskLog;
  readonly broker: RdsQueueBroker;
  /** The database of the queue and the one of the log; the same one twice when they share it. */
  readonly databases: readonly Persistence[];
  readonly note: DefinedTask<NoteParameters, Promise<string>>;
  initialize(): Promise<void>;
  close(): Promise<void>;
}

const LOOK_MS = 5;

export interface CrashWatch {
  /** Sees every call of the driver's own ledger, or of broker and log under a composed one. */
  readonly faults: Faults;
  readonly onStatement: (sql: string) => void;
  /** Before and after the effect of a handler. */
  readonly onEffect: () => void;
}

export function openCrashScene(place: CrashPlace, watch?: CrashWatch): CrashScene {
  const faults = watch?.faults;
  const onStatement = watch === undefined ? {} : { onStatement: watch.onStatement };
  const open = (filename: string): Persistence =>
    new Persistence({ client: 'sqlite', connection: { filename }, ...onStatement });
  const queues = open(place.queueFile);
  const logs = place.logFile === place.queueFile ? queues : open(place.logFile);
  const broker = new RdsQueueBroker(queues);
  const log = new RdsTaskLogBroker(logs);
  const faultyBroker = faults?.wrap('broker', broker) ?? broker;
  const taskLog = new TaskLog({ broker: faults?.wrap('log', log) ?? log });
  const queue = new Queue(QUEUE_NAME, place.ledger === 'own' ? faultyBroker : withoutLedger(faultyBroker));
  const dispatcher = new QueueDispatcher({ queues: [queue], taskLog });
  const note = noteTask(place, watch);
  dispatcher.registry.register(note);
  const databases = [queues, logs];
  return {
    dispatcher,
    taskLog,
    broker,
    databases,
    note,
    async initialize() {
      await broker.initialize([QUEUE_NAME]);
      await log.createContainer();
    },
    async close() {
      await Promise.all(databases.map((database) => database.close()));
    },
  };
}

export function effectsOf({ effectsFile }: CrashPlace): Effect[] {
  if (!existsSync(effectsFile)) return [];
  const lines = readFileSync(effectsFile, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Effect);
}

function noteTask(place: CrashPlace, watch: CrashWatch | undefined): CrashScene['note'] {
  return defineTask({
    name: 'note',
    retry: { maxAttempts: 3, backoff: 0, maxLapses: 3 },
    async run({ failsFirst = false, isLong = false, writes = false }: NoteParameters, context) {
      watch?.onEffect();
      const effect: Effect = { taskId: context.taskId, attempt: context.attempt, pid: process.pid };
      appendFileSync(place.effectsFile, `${JSON.stringify(effect)}\n`);
      watch?.onEffect();
      if (writes) context.log('info', 'noted');
      if (isLong && watch !== undefined) await renewed(place, watch.faults);
      if (failsFirst && context.attempt === 1) throw new Error('The first run fails');
      return 'noted';
    },
  });
}

/** Resolves once a lease was renewed in this process after the call. */
async function renewed({ ledger }: CrashPlace, faults: Faults): Promise<void> {
  const operation = ledger === 'own' ? 'ledger.renew' : 'log.renew';
  const before = faults.count(operation);
  while (faults.count(operation) === before) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
