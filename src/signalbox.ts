import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../brokers/memory.ts';
import type { Persistence } from '../brokers/rds/index.ts';
import type { SignalboxConfig } from './config/config.ts';
import type { CheckedConfig, CheckedQueueBroker, CheckedTaskLogBroker } from './config/config-schema.ts';
import type { Bind, Container } from './container.ts';
import type { Logger } from './environment.ts';
import { SignalboxError } from './errors.ts';
import { EventBus } from './events.ts';
import { Queue } from './queue.ts';
import type { QueueBroker } from './queue-broker.ts';
import { QueueDispatcher } from './queue-dispatcher.ts';
import { StrictPrioritySelector, WeightedSelector } from './queue-selector.ts';
import { createToken } from './task.ts';
import type { Token } from './task.ts';
import { TaskLog } from './task-log.ts';
import type { TaskLogBroker } from './task-log-broker.ts';
import { TaskRegistry } from './task-registry.ts';
import type { Services } from './task-runner.ts';
import { Worker } from './worker/worker.ts';
import type { WorkerOptions } from './worker/worker-options.ts';

/** What `context.get` finds without any binding of yours. */
export const TOKENS: {
  readonly registry: Token<TaskRegistry>;
  readonly events: Token<EventBus>;
  readonly logger: Token<Logger>;
  readonly taskLog: Token<TaskLog>;
  readonly dispatcher: Token<QueueDispatcher>;
} = {
  registry: createToken('signalbox.registry'),
  events: createToken('signalbox.events'),
  logger: createToken('signalbox.logger'),
  taskLog: createToken('signalbox.task-log'),
  dispatcher: createToken('signalbox.dispatcher'),
};

export interface SignalboxOptions {
  /** What this process may run; tasks that are enqueued here register themselves. */
  readonly registry?: TaskRegistry;
  /** Default: JSON lines on standard error at the level that the configuration names, else `warn`. */
  readonly logger?: Logger;
  /** Binds services of yours, for `context.get`. */
  readonly bindings?: (bind: Bind) => void;
}

/** Everything that a configuration describes, wired. */
export interface Signalbox {
  readonly dispatcher: QueueDispatcher;
  readonly taskLog: TaskLog;
  readonly registry: TaskRegistry;
  readonly events: EventBus;
  /** The parts above and your own services as an inversify container; always the same one. */
  container(): Promise<Container>;
  /** A worker for all queues, with the settings of the configuration unless the options say otherwise. */
  createWorker(options?: Omit<WorkerOptions, 'dispatcher'>): Worker;
  /** Ends the brokers and the connections to the databases. Stop workers before. */
  close(): Promise<void>;
}

/**
 * Builds the queues, the task log and the dispatcher of a configuration. Nothing is connected before its first use.
 * The files under `tasks` are for the command line: here, tasks come with `registry`, or register when they are enqueued.
 * @throws ConfigurationError with every problem in its message.
 */
export async function createSignalbox(
  config: SignalboxConfig,
  options: SignalboxOptions = {},
): Promise<Signalbox> {
  const { checkConfig } = await import('./config/config-check.ts');
  return wireSignalbox(checkConfig(config, 'The configuration'), options);
}

/** The same for a configuration that was checked already. */
export async function wireSignalbox(
  config: CheckedConfig,
  options: SignalboxOptions = {},
): Promise<Signalbox> {
  const logger = options.logger ?? (await defaultLogger(config));
  const registry = options.registry ?? new TaskRegistry();
  const events = new EventBus(logger);
  const databases = await openDatabases(config);
  const taskLog = new TaskLog({ broker: taskLogBroker(config.taskLog.broker, databases), events });
  const services = new ServiceDirectory();
  const dispatcher = new QueueDispatcher({
    queues: buildQueues(config, databases),
    taskLog,
    registry,
    services,
    logger,
    taskToQueueAssociations: config.taskToQueueAssociations,
    selector: config.strategy === 'strict' ? new StrictPrioritySelector() : new WeightedSelector(),
    ...given({
      defaultQueue: config.defaultQueue,
      defaults: given(config.defaults),
      sync: given(config.sync),
    }),
  });
  services.add(TOKENS.registry, registry);
  services.add(TOKENS.events, events);
  services.add(TOKENS.logger, logger);
  services.add(TOKENS.taskLog, taskLog);
  services.add(TOKENS.dispatcher, dispatcher);
  if (options.bindings !== undefined) await services.container(options.bindings);
  return {
    dispatcher,
    taskLog,
    registry,
    events,
    container: () => services.container(),
    createWorker: (workerOptions) => new Worker({ dispatcher, ...given(config.worker), ...workerOptions }),
    async close() {
      await dispatcher.close();
      await databases.close();
    },
  };
}

/** Answers `context.get`. inversify takes a tenth of a second to load, so it is loaded for those only who bind services or ask for the container. */
class ServiceDirectory implements Services {
  readonly #parts = new Map<symbol, unknown>();
  #container: Promise<Container> | undefined;
  #bound: Container | undefined;

  add<T>(token: Token<T>, part: T): void {
    this.#parts.set(token, part);
  }

  get<T>(token: Token<T>): T {
    if (this.#parts.has(token)) return this.#parts.get(token) as T;
    if (this.#bound?.isBound(token) === true) return this.#bound.get<T>(token);
    throw new SignalboxError('SERVICE_UNKNOWN', `No service is bound to ${String(token)}.`);
  }

  container(bindings?: (bind: Bind) => void): Promise<Container> {
    this.#container ??= this.#build(bindings);
    return this.#container;
  }

  async #build(bindings: ((bind: Bind) => void) | undefined): Promise<Container> {
    const { buildContainer } = await import('./container.ts');
    this.#bound = buildContainer(this.#parts, bindings);
    return this.#bound;
  }
}

/** The databases of a configuration; the driver is loaded when there is one. */
interface Databases {
  queueBroker(persistence: string, receiveLimit: number | undefined): QueueBroker;
  taskLogBroker(persistence: string, container: string): TaskLogBroker;
  close(): Promise<void>;
}

async function openDatabases({ persistences }: CheckedConfig): Promise<Databases> {
  const rds = Object.keys(persistences).length === 0 ? undefined : await import('../brokers/rds/index.ts');
  const opened = new Map<string, Persistence>();
  for (const [name, settings] of Object.entries(persistences)) {
    if (rds !== undefined) opened.set(name, new rds.Persistence(settings));
  }
  const find = (name: string): readonly [NonNullable<typeof rds>, Persistence] => {
    const persistence = opened.get(name);
    if (rds !== undefined && persistence !== undefined) return [rds, persistence];
    throw new SignalboxError('PERSISTENCE_UNKNOWN', `There is no persistence "${name}".`);
  };
  return {
    queueBroker(name, receiveLimit) {
      const [driver, persistence] = find(name);
      return new driver.RdsQueueBroker(persistence, given({ receiveLimit }));
    },
    taskLogBroker(name, container) {
      const [driver, persistence] = find(name);
      return new driver.RdsTaskLogBroker(persistence, container);
    },
    async close() {
      await Promise.all([...opened.values()].map((persistence) => persistence.close()));
    },
  };
}

/** Queues whose brokers have the same settings share one. */
function buildQueues({ queues }: CheckedConfig, databases: Databases): Queue[] {
  const brokers = new Map<string, QueueBroker>();
  return queues.map(({ name, weight, broker: settings, retry, timeoutMs }) => {
    const key = JSON.stringify(settings);
    const broker = brokers.get(key) ?? queueBroker(settings, databases);
    brokers.set(key, broker);
    return new Queue(name, broker, weight, given({ retry, timeoutMs }));
  });
}

function queueBroker(settings: CheckedQueueBroker, databases: Databases): QueueBroker {
  const { receive: receiveLimit } = settings;
  switch (settings.type) {
    case 'memory':
      return new InMemoryQueueBroker({ sync: settings.sync, ...given({ receiveLimit }) });
    case 'rds':
      return databases.queueBroker(settings.persistence, receiveLimit);
  }
}

function taskLogBroker(settings: CheckedTaskLogBroker, databases: Databases): TaskLogBroker {
  switch (settings.type) {
    case 'memory':
      return new InMemoryTaskLogBroker();
    case 'rds':
      return databases.taskLogBroker(settings.persistence, settings.container);
  }
}

async function defaultLogger({ log }: CheckedConfig): Promise<Logger> {
  const { pino } = await import('pino');
  const logger: Logger = pino({ level: log.level ?? 'warn' }, pino.destination({ dest: 2, sync: true }));
  return logger;
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without the fields that are undefined: where a default exists, absent is not the same as undefined. */
function given<T extends object>(fields: T): Given<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Given<T>;
}
