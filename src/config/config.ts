import type { LogLevel } from '../environment.ts';
import type { RetryOptions } from '../retry.ts';

/** The settings of a Signalbox, as a configuration file exports them. All plain data; durations are in ms. */
export interface SignalboxConfig {
  /** Databases by name; brokers refer to them. */
  readonly persistences?: Readonly<Record<string, PersistenceConfig>> | undefined;
  /** At least one. */
  readonly queues: readonly QueueConfig[];
  /** For tasks that no other rule places; default: the first queue. */
  readonly defaultQueue?: string | undefined;
  /** Default: in the memory of this process. Queues on a database need a task log on a database. */
  readonly taskLog?: TaskLogConfig | undefined;
  /** Task name → queue name. */
  readonly taskToQueueAssociations?: Readonly<Record<string, string>> | undefined;
  /** Files, or patterns with `*` and `**`, relative to the configuration file; the command line registers what they export. */
  readonly tasks?: readonly string[] | undefined;
  /** `weighted` (default): queues get tasks in the ratio of their weights. `strict`: the heaviest queue first, always. */
  readonly strategy?: 'weighted' | 'strict' | undefined;
  readonly defaults?: QueueDefaults | undefined;
  readonly worker?: WorkerConfig | undefined;
  readonly sync?: SyncConfig | undefined;
  readonly log?: { readonly level?: ConfigLogLevel | undefined } | undefined;
}

export type ConfigLogLevel = LogLevel | 'silent';

export interface PersistenceConfig {
  readonly client: 'sqlite';
  /** A relative file name counts from the configuration file. */
  readonly connection: { readonly filename: string };
}

export interface QueueDefaults {
  readonly retry?: RetryOptions | undefined;
  /** For one run; 0 or absent: no timeout. */
  readonly timeoutMs?: number | undefined;
}

export interface QueueConfig extends QueueDefaults {
  /** 1 to 64 letters, digits, hyphens and underscores. */
  readonly name: string;
  /** Relative to the other queues; default 1. */
  readonly weight?: number | undefined;
  readonly broker: QueueBrokerConfig;
}

export type QueueBrokerConfig =
  | {
      readonly type: 'memory';
      /** True (default): tasks run inside `enqueue`. False: a worker of the same process drains the queue. */
      readonly sync?: boolean | undefined;
      readonly receive?: number | string | undefined;
    }
  | {
      readonly type: 'rds';
      readonly persistence: string;
      /** A cap on one receive; the sign is dropped. Absent: the worker adapts. */
      readonly receive?: number | string | undefined;
    };

export interface TaskLogConfig {
  readonly broker:
    | { readonly type: 'memory' }
    | {
        readonly type: 'rds';
        readonly persistence: string;
        /** Its table is `tq_<container>`; default `task_log`. */
        readonly container?: string | undefined;
      };
}

export interface WorkerConfig {
  /** Tasks that run at the same time. */
  readonly concurrency?: number | undefined;
  readonly leaseMs?: number | undefined;
  readonly pollIntervalMs?: number | undefined;
  /** How long running tasks may go on after the first signal to stop. */
  readonly shutdownMs?: number | undefined;
  /** How long a task may take to return after its abort. */
  readonly abortGraceMs?: number | undefined;
}

export interface SyncConfig {
  /** The longest retry delay that `enqueue` waits for in a sync queue; default 0. */
  readonly maxWaitMs?: number | undefined;
}

/** Gives an editor the types; returns its argument. */
export function defineConfig(config: SignalboxConfig): SignalboxConfig {
  return config;
}
