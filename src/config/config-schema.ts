import { z } from 'zod';
import type {
  ConfigLogLevel,
  PersistenceConfig,
  QueueDefaults,
  SignalboxConfig,
  SyncConfig,
  WorkerConfig,
} from './config.ts';

/** A configuration that was found right, with its defaults filled in. */
export interface CheckedConfig {
  readonly persistences: Readonly<Record<string, PersistenceConfig>>;
  readonly queues: readonly CheckedQueue[];
  readonly defaultQueue?: string | undefined;
  readonly taskLog: { readonly broker: CheckedTaskLogBroker };
  readonly taskToQueueAssociations: Readonly<Record<string, string>>;
  readonly tasks: readonly string[];
  readonly strategy: 'weighted' | 'strict';
  readonly defaults: QueueDefaults;
  readonly worker: WorkerConfig;
  readonly sync: SyncConfig;
  readonly log: { readonly level?: ConfigLogLevel | undefined };
}

export interface CheckedQueue extends QueueDefaults {
  readonly name: string;
  readonly weight: number;
  readonly broker: CheckedQueueBroker;
}

export type CheckedQueueBroker =
  | { readonly type: 'memory'; readonly sync: boolean; readonly receive?: number | undefined }
  | { readonly type: 'rds'; readonly persistence: string; readonly receive?: number | undefined };

export type CheckedTaskLogBroker =
  | { readonly type: 'memory' }
  | { readonly type: 'rds'; readonly persistence: string; readonly container: string };

/** The message of every schema below says what is allowed; what was found is looked up by the issue's path. */
const settings = <S extends z.ZodRawShape>(shape: S): z.ZodObject<S, z.core.$strict> =>
  z.strictObject(shape, {
    error: (issue) => (issue.code === 'unrecognized_keys' ? Object.keys(shape).join(', ') : 'an object'),
  });

const text = z.custom<string>((value) => typeof value === 'string' && value !== '', 'a text');

const truth = z.custom<boolean>((value) => typeof value === 'boolean', 'true or false');

const wholeNumber = (least: number) =>
  z.custom<number>(
    (value) => Number.isSafeInteger(value) && Number(value) >= least,
    `a whole number of at least ${least}`,
  );

const number = (least: number, most: number, name: string) =>
  z.custom<number>((value) => typeof value === 'number' && value >= least && value <= most, name);

/** Ten years, as for every policy. */
const MOST_MS = 315_360_000_000;

const milliseconds = number(0, MOST_MS, 'a number of milliseconds from 0 to ten years');

const wholeMilliseconds = (least: number) =>
  z.custom<number>(
    (value) => Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= MOST_MS,
    `a whole number of milliseconds of at least ${least}`,
  );

const oneOf = <T extends string>(...values: readonly T[]) =>
  z.custom<T>((value) => values.some((allowed) => allowed === value), {
    error: `one of ${values.join(', ')}`,
    params: { values },
  });

const queueName = z.custom<string>(
  (value) => typeof value === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(value),
  { error: '1 to 64 letters, digits, hyphens and underscores', params: { code: 'QUEUE_NAME_INVALID' } },
);

/** Tables of the queues, `tq_message` and so on, are no task logs, nor are those of lines. */
const containerName = z.custom<string>(
  (value) =>
    typeof value === 'string' &&
    /^(?!.*_line$)[a-z][a-z0-9_]{0,40}$/.test(value) &&
    !['message', 'record', 'schema'].includes(value),
  'a small letter, then up to 40 small letters, digits and underscores, no "_line" at the end; not message, record or schema',
);

const receive = z
  .custom<number | string>(
    (value) =>
      (typeof value === 'number' || (typeof value === 'string' && value !== '')) &&
      Number.isSafeInteger(Number(value)) &&
      Number(value) !== 0,
    'a whole number of at least 1',
  )
  .transform((value) => Math.abs(Number(value)));

const backoff = z.union(
  [
    milliseconds,
    z.array(milliseconds).min(1),
    z.strictObject({
      kind: z.literal('exponential'),
      baseMs: milliseconds,
      factor: number(1, Number.MAX_VALUE, 'a number of at least 1').optional(),
      maxMs: milliseconds.optional(),
    }),
    z.strictObject({ kind: z.literal('linear'), baseMs: milliseconds, maxMs: milliseconds.optional() }),
    z.strictObject({ kind: z.literal('fixed'), delayMs: milliseconds }),
    z.strictObject({ kind: z.literal('list'), delaysMs: z.array(milliseconds).min(1) }),
  ],
  "a number of milliseconds, a list of them, { kind: 'exponential', baseMs, factor?, maxMs? }, " +
    "{ kind: 'linear', baseMs, maxMs? }, { kind: 'fixed', delayMs } or { kind: 'list', delaysMs }",
);

const retry = settings({
  maxAttempts: wholeNumber(1).optional(),
  backoff: backoff.optional(),
  jitter: number(0, 1, 'a number from 0 to 1').optional(),
  maxLapses: wholeNumber(1).optional(),
  onCrash: oneOf('retry', 'fail').optional(),
});

const runOptions = { retry: retry.optional(), timeoutMs: milliseconds.optional() };

const persistence = settings({
  client: oneOf('sqlite'),
  connection: settings({ filename: text }),
});

const queueBroker = z.discriminatedUnion(
  'type',
  [
    settings({ type: z.literal('memory'), sync: truth.default(true), receive: receive.optional() }),
    settings({ type: z.literal('rds'), persistence: text, receive: receive.optional() }),
  ],
  { error: 'an object with a type' },
);

const taskLogBroker = z.discriminatedUnion(
  'type',
  [
    settings({ type: z.literal('memory') }),
    settings({ type: z.literal('rds'), persistence: text, container: containerName.default('task_log') }),
  ],
  { error: 'an object with a type' },
);

const queue = settings({
  name: queueName,
  weight: number(0, Number.MAX_VALUE, 'a number of at least 0').default(1),
  broker: queueBroker,
  ...runOptions,
});

export const configSchema: z.ZodType<CheckedConfig, SignalboxConfig> = settings({
  persistences: z.record(z.string(), persistence, { error: 'an object: name → persistence' }).default({}),
  queues: z.array(queue, 'a list of queues').min(1, 'a list of at least one queue'),
  defaultQueue: text.optional(),
  taskLog: settings({ broker: taskLogBroker }).default({ broker: { type: 'memory' } }),
  taskToQueueAssociations: z
    .record(z.string(), text, { error: 'an object: task name → queue name' })
    .default({}),
  tasks: z.array(text, 'a list of files or patterns').default([]),
  strategy: oneOf('weighted', 'strict').default('weighted'),
  defaults: settings(runOptions).default({}),
  worker: settings({
    concurrency: wholeNumber(1).optional(),
    leaseMs: wholeMilliseconds(100).optional(),
    pollIntervalMs: wholeMilliseconds(1).optional(),
    shutdownMs: milliseconds.optional(),
    abortGraceMs: milliseconds.optional(),
  }).default({}),
  sync: settings({ maxWaitMs: milliseconds.optional() }).default({}),
  log: settings({
    level: oneOf<ConfigLogLevel>('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent').optional(),
  }).default({}),
});
