import { z } from 'zod';
import type { ConfigLogLevel, PersistenceConfig, QueueDefaults, SyncConfig, WorkerConfig } from './config.ts';
import type { SignalboxConfig } from './config.ts';
import { ConfigurationError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { nearestName } from './nearest-name.ts';

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
const milliseconds = number(0, 315_360_000_000, 'a number of milliseconds from 0 to ten years');

const oneOf = <T extends string>(...values: readonly T[]) =>
  z.custom<T>((value) => values.some((allowed) => allowed === value), {
    error: `one of ${values.join(', ')}`,
    params: { values },
  });

const queueName = z.custom<string>(
  (value) => typeof value === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(value),
  { error: '1 to 64 letters, digits, hyphens and underscores', params: { code: 'QUEUE_NAME_INVALID' } },
);

/** Tables of the queues, `tq_message` and so on, are no task logs. */
const containerName = z.custom<string>(
  (value) =>
    typeof value === 'string' &&
    /^[a-z][a-z0-9_]{0,40}$/.test(value) &&
    !['message', 'record', 'schema'].includes(value),
  'a small letter, then up to 40 small letters, digits and underscores; not message, record or schema',
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

const schema = settings({
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
    leaseMs: milliseconds.optional(),
    pollIntervalMs: milliseconds.optional(),
    shutdownMs: milliseconds.optional(),
    abortGraceMs: milliseconds.optional(),
  }).default({}),
  sync: settings({ maxWaitMs: milliseconds.optional() }).default({}),
  log: settings({
    level: oneOf<ConfigLogLevel>('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent').optional(),
  }).default({}),
}) satisfies z.ZodType<CheckedConfig, SignalboxConfig>;

const HIDDEN: symbol = Symbol('something else');

interface Problem {
  readonly code: ErrorCode;
  readonly text: string;
}

/**
 * @param origin What the message calls the configuration: the path of its file, say.
 * @throws ConfigurationError with every problem in its message and the code of the first: `CONFIG_INVALID`, `QUEUES_MISSING`,
 * `QUEUE_NAME_INVALID`, `QUEUE_DUPLICATE`, `QUEUE_NAME_COLLISION`, `QUEUE_UNKNOWN`, `BROKER_UNKNOWN`, `PERSISTENCE_UNKNOWN` or
 * `SHARED_QUEUE_NEEDS_SHARED_LOG`.
 */
export function checkConfig(value: unknown, origin: string): CheckedConfig {
  const result = schema.safeParse(value);
  const misshapen = result.success ? [] : result.error.issues.flatMap((issue) => describeIssue(issue, value));
  const problems = [...misshapen, ...contradictions(value)];
  const [first, ...others] = problems;
  if (result.success && first === undefined) return result.data;
  if (first === undefined) throw new ConfigurationError('CONFIG_INVALID', `${origin} is no configuration.`);
  throw new ConfigurationError(
    first.code,
    others.length === 0
      ? `${origin}: ${first.text}`
      : `${origin} has ${problems.length} problems:\n${problems.map(({ text }) => `  ${text}`).join('\n')}`,
  );
}

function describeIssue(issue: z.core.$ZodIssue, root: unknown): Problem[] {
  const path = pathOf(issue.path);
  const value = issue.path.reduce<unknown>((holder, key) => fieldOf(holder, key), root);
  // A connection may hold a password.
  const found = issue.path.includes('connection') && value !== undefined ? HIDDEN : value;
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      code: 'CONFIG_INVALID',
      text: `${pathOf([...issue.path, key])} is no setting; allowed: ${issue.message}.${hint(key, issue.message.split(', '))}`,
    }));
  }
  if (issue.code === 'invalid_union' && issue.path.at(-1) === 'type') {
    const types = ['memory', 'rds'];
    return [
      {
        code: 'BROKER_UNKNOWN',
        text: `${path} ${state(found)}; allowed: ${types.join(', ')}.${hint(found, types)}`,
      },
    ];
  }
  const params = issue.code === 'custom' ? issue.params : undefined;
  const values = Array.isArray(params?.['values']) ? params['values'].map(String) : [];
  return [
    {
      code: codeOf(path, found, params?.['code'] === 'QUEUE_NAME_INVALID'),
      text: `${path} ${state(found)}; allowed: ${issue.message}.${hint(found, values)}`,
    },
  ];
}

function codeOf(path: string, found: unknown, isName: boolean): ErrorCode {
  if (path === 'queues' && (found === undefined || Array.isArray(found))) return 'QUEUES_MISSING';
  return isName ? 'QUEUE_NAME_INVALID' : 'CONFIG_INVALID';
}

/** What is right by itself and wrong together; looks at whatever has the right shape, so that all problems come at once. */
function contradictions(root: unknown): Problem[] {
  const queues = listOf(fieldOf(root, 'queues'));
  const names = queues.map((queue) => fieldOf(queue, 'name')).filter((name) => typeof name === 'string');
  return [
    ...duplicates(queues),
    ...collisions(root, queues),
    ...unknownQueues(root, names),
    ...unknownPersistences(root, queues),
    ...unguardedQueues(root, queues),
  ];
}

function duplicates(queues: readonly unknown[]): Problem[] {
  const seen = new Map<string, string>();
  return queues.flatMap((queue, i): Problem[] => {
    const name = fieldOf(queue, 'name');
    if (typeof name !== 'string') return [];
    const other = seen.get(name.toLowerCase());
    if (other === undefined) {
      seen.set(name.toLowerCase(), name);
      return [];
    }
    const text =
      other === name
        ? `queues[${i}].name is ${show(name)}, which an earlier queue in \`queues\` has already.`
        : `queues[${i}].name is ${show(name)}, which differs from ${show(other)} in \`queues\` only in case.`;
    return [{ code: 'QUEUE_DUPLICATE', text }];
  });
}

function collisions(root: unknown, queues: readonly unknown[]): Problem[] {
  const log = fieldOf(fieldOf(root, 'taskLog'), 'broker');
  if (fieldOf(log, 'type') !== 'rds') return [];
  const container = fieldOf(log, 'container') ?? 'task_log';
  return queues.flatMap((queue, i): Problem[] => {
    const name = fieldOf(queue, 'name');
    const broker = fieldOf(queue, 'broker');
    if (typeof name !== 'string' || typeof container !== 'string') return [];
    if (name.toLowerCase() !== container.toLowerCase() || fieldOf(broker, 'type') !== 'rds') return [];
    if (!isSameDatabase(root, fieldOf(broker, 'persistence'), fieldOf(log, 'persistence'))) return [];
    return [
      {
        code: 'QUEUE_NAME_COLLISION',
        text: `queues[${i}].name is ${show(name)}, like the container of the task log in the same database: both would be tq_${name}.`,
      },
    ];
  });
}

function isSameDatabase(root: unknown, one: unknown, other: unknown): boolean {
  if (one === other) return true;
  const connections = [one, other].map((name) =>
    JSON.stringify(fieldOf(fieldOf(fieldOf(root, 'persistences'), String(name)), 'connection')),
  );
  return connections[0] !== undefined && connections[0] === connections[1];
}

function unknownQueues(root: unknown, names: readonly string[]): Problem[] {
  const chosen: [string, unknown][] = Object.entries(recordOf(fieldOf(root, 'taskToQueueAssociations'))).map(
    ([task, queue]) => [pathOf(['taskToQueueAssociations', task]), queue],
  );
  return [['defaultQueue', fieldOf(root, 'defaultQueue')] as const, ...chosen].flatMap(
    ([path, name]): Problem[] => {
      if (typeof name !== 'string' || name === '' || names.includes(name)) return [];
      return [{ code: 'QUEUE_UNKNOWN', text: `${path} names the queue ${missing(name, names)}` }];
    },
  );
}

function unknownPersistences(root: unknown, queues: readonly unknown[]): Problem[] {
  const names = Object.keys(recordOf(fieldOf(root, 'persistences')));
  const brokers: [string, unknown][] = queues.map((queue, i) => [
    `queues[${i}].broker.persistence`,
    fieldOf(queue, 'broker'),
  ]);
  brokers.push(['taskLog.broker.persistence', fieldOf(fieldOf(root, 'taskLog'), 'broker')]);
  return brokers.flatMap(([path, broker]): Problem[] => {
    const name = fieldOf(broker, 'persistence');
    if (fieldOf(broker, 'type') !== 'rds' || typeof name !== 'string' || names.includes(name)) return [];
    return [{ code: 'PERSISTENCE_UNKNOWN', text: `${path} names the persistence ${missing(name, names)}` }];
  });
}

function unguardedQueues(root: unknown, queues: readonly unknown[]): Problem[] {
  const type = fieldOf(fieldOf(fieldOf(root, 'taskLog'), 'broker'), 'type') ?? 'memory';
  const shared = queues.filter((queue) => fieldOf(fieldOf(queue, 'broker'), 'type') === 'rds');
  if (type !== 'memory' || shared.length === 0) return [];
  const names = shared.map((queue) => show(fieldOf(queue, 'name'))).join(', ');
  return [
    {
      code: 'SHARED_QUEUE_NEEDS_SHARED_LOG',
      text: `taskLog.broker.type is "memory", but other processes share the queues ${names}; allowed: rds.`,
    },
  ];
}

function missing(name: string, names: readonly string[]): string {
  const all =
    names.length === 0 ? 'none is' : `${names.map(show).join(', ')} ${names.length === 1 ? 'is' : 'are'}`;
  return `${show(name)}; ${all} configured.${hint(name, names)}`;
}

function state(found: unknown): string {
  if (found === HIDDEN) return 'is something else';
  return found === undefined ? 'is missing' : `is ${show(found)}`;
}

function show(value: unknown): string {
  const shown = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? `a ${typeof value}`);
  return shown.length > 80 ? `${shown.slice(0, 77)}…` : shown;
}

function hint(found: unknown, names: readonly string[]): string {
  const name = typeof found === 'string' ? nearestName(found, names) : undefined;
  return name === undefined ? '' : ` Did you mean ${show(name)}?`;
}

function pathOf(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'the configuration';
  return path
    .map((key) => {
      if (typeof key === 'number') return `[${key}]`;
      return /^[A-Za-z_$][\w$]*$/.test(String(key)) ? `.${String(key)}` : `[${JSON.stringify(String(key))}]`;
    })
    .join('')
    .replace(/^\./, '');
}

function recordOf(value: unknown): Record<PropertyKey, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>) : {};
}

function fieldOf(value: unknown, key: PropertyKey): unknown {
  return Object.hasOwn(recordOf(value), key) ? recordOf(value)[key] : undefined;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
