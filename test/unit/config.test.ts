import { describe, expect, it } from 'vitest';
import { checkConfig } from '../../src/config/config-check.ts';
import { defineConfig } from '../../src/config/config.ts';
import { isSignalboxError } from '../../src/errors.ts';

const memory = { type: 'memory' };
const rds = { type: 'rds', persistence: 'default' };
const persistences = { default: { client: 'sqlite', connection: { filename: 'a.sqlite' } } };
const onRds = { persistences, taskLog: { broker: rds } };

function problemOf(config: unknown): { code: string; message: string } {
  try {
    checkConfig(config, 'signalbox.config.js');
  } catch (error) {
    if (isSignalboxError(error)) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error('The configuration was accepted.');
}

describe('a good configuration', () => {
  it('gets its defaults', () => {
    const config = defineConfig({ queues: [{ name: 'queue', broker: { type: 'memory' } }] });

    expect(checkConfig(config, 'here')).toEqual({
      persistences: {},
      queues: [{ name: 'queue', weight: 1, broker: { type: 'memory', sync: true } }],
      taskLog: { broker: { type: 'memory' } },
      taskToQueueAssociations: {},
      tasks: [],
      strategy: 'weighted',
      defaults: {},
      worker: {},
      sync: {},
      log: {},
    });
  });

  it('keeps every setting that it has', () => {
    const retry = { maxAttempts: 3, backoff: [100, 200], jitter: 0, maxLapses: 2, onCrash: 'fail' };
    const config = {
      persistences,
      queues: [
        { name: 'priority', weight: 90, broker: { ...rds, receive: 10 }, retry, timeoutMs: 1_000 },
        { name: 'background', weight: 0.5, broker: { type: 'memory', sync: false } },
      ],
      defaultQueue: 'background',
      taskLog: { broker: { ...rds, container: 'jobs' } },
      taskToQueueAssociations: { 'billing.report': 'priority' },
      tasks: ['./tasks/*.ts'],
      strategy: 'strict',
      defaults: { retry: { backoff: { kind: 'linear', baseMs: 5 } }, timeoutMs: 0 },
      worker: { concurrency: 4, leaseMs: 30_000, pollIntervalMs: 500, shutdownMs: 0, abortGraceMs: 1 },
      sync: { maxWaitMs: 50 },
      log: { level: 'debug' },
    };

    expect(checkConfig(config, 'here')).toEqual(config);
  });

  it('takes the shortest lease and the shortest pause', () => {
    const worker = { leaseMs: 100, pollIntervalMs: 1 };

    expect(checkConfig({ queues: [{ name: 'queue', broker: memory }], worker }, 'here').worker).toEqual(
      worker,
    );
  });

  it('may leave settings undefined', () => {
    const config = { queues: [{ name: 'queue', broker: memory }], defaultQueue: undefined, log: undefined };

    expect(checkConfig(config, 'here')).toMatchObject({ log: {} });
  });

  it.each([
    [-5, 5],
    ['5', 5],
    ['-7', 7],
    [10, 10],
  ])('reads receive %j as %i', (receive, read) => {
    const config = { ...onRds, queues: [{ name: 'queue', broker: { ...rds, receive } }] };

    expect(checkConfig(config, 'here').queues[0]?.broker.receive).toBe(read);
  });

  it('lets a queue be called like the container of a task log in another database', () => {
    const other = { client: 'sqlite', connection: { filename: 'b.sqlite' } };
    const config = {
      persistences: { ...persistences, other },
      queues: [{ name: 'task_log', broker: { type: 'rds', persistence: 'other' } }],
      taskLog: { broker: rds },
    };

    expect(checkConfig(config, 'here').queues).toHaveLength(1);
  });
});

describe('a bad configuration', () => {
  const queue = { name: 'queue', broker: memory };

  const cases: [problem: string, code: string, config: unknown, message: string | RegExp][] = [
    ['no object', 'CONFIG_INVALID', 'queues', 'the configuration is "queues"; allowed: an object.'],
    ['nothing at all', 'CONFIG_INVALID', undefined, 'the configuration is missing; allowed: an object.'],
    ['no queues', 'QUEUES_MISSING', {}, 'queues is missing; allowed: a list of queues.'],
    ['an empty list of queues', 'QUEUES_MISSING', { queues: [] }, 'a list of at least one queue'],
    ['queues that are no list', 'CONFIG_INVALID', { queues: {} }, 'queues is {}; allowed: a list of queues.'],
    [
      'a misspelt setting',
      'CONFIG_INVALID',
      { queues: [queue], defaultQeue: 'queue' },
      /^signalbox\.config\.js: defaultQeue is no setting; allowed: persistences, queues, .* Did you mean "defaultQueue"\?$/,
    ],
    [
      'a misspelt setting of a broker',
      'CONFIG_INVALID',
      { queues: [{ name: 'queue', broker: { ...memory, recieve: 3 } }] },
      'queues[0].broker.recieve is no setting; allowed: type, sync, receive. Did you mean "receive"?',
    ],
    [
      'an unknown broker',
      'BROKER_UNKNOWN',
      { queues: [queue, { name: 'b', broker: { type: 'rsd' } }] },
      'queues[1].broker.type is "rsd"; allowed: memory, rds. Did you mean "rds"?',
    ],
    [
      'an unknown broker of the task log',
      'BROKER_UNKNOWN',
      { queues: [queue], taskLog: { broker: { type: 'file' } } },
      'taskLog.broker.type is "file"; allowed: memory, rds.',
    ],
    [
      'a queue without a broker',
      'CONFIG_INVALID',
      { queues: [{ name: 'queue' }] },
      'queues[0].broker is missing; allowed: an object with a type.',
    ],
    [
      'a queue name with a blank',
      'QUEUE_NAME_INVALID',
      { queues: [{ name: 'my queue', broker: memory }] },
      'queues[0].name is "my queue"; allowed: 1 to 64 letters, digits, hyphens and underscores.',
    ],
    [
      'a queue without a name',
      'QUEUE_NAME_INVALID',
      { queues: [{ broker: memory }] },
      'queues[0].name is missing',
    ],
    [
      'a negative weight',
      'CONFIG_INVALID',
      { queues: [{ ...queue, weight: -1 }] },
      'queues[0].weight is -1; allowed: a number of at least 0.',
    ],
    [
      'a weight without an end',
      'CONFIG_INVALID',
      { queues: [{ ...queue, weight: Infinity }] },
      'queues[0].weight is Infinity',
    ],
    [
      'two queues of one name',
      'QUEUE_DUPLICATE',
      { queues: [queue, queue] },
      'queues[1].name is "queue", which an earlier queue in `queues` has already.',
    ],
    [
      'two queues whose names differ only in case',
      'QUEUE_DUPLICATE',
      { queues: [queue, { name: 'Queue', broker: memory }] },
      'queues[1].name is "Queue", which differs from "queue" in `queues` only in case.',
    ],
    [
      'a queue called like the container of the task log',
      'QUEUE_NAME_COLLISION',
      { ...onRds, queues: [{ name: 'task_log', broker: rds }] },
      'queues[0].name is "task_log", like the container of the task log in the same database',
    ],
    [
      'such a queue behind two names of one database',
      'QUEUE_NAME_COLLISION',
      {
        persistences: { ...persistences, twin: persistences.default },
        queues: [{ name: 'Task_Log', broker: { type: 'rds', persistence: 'twin' } }],
        taskLog: { broker: rds },
      },
      'tq_Task_Log',
    ],
    [
      'a default queue that is not configured',
      'QUEUE_UNKNOWN',
      { queues: [queue], defaultQueue: 'quue' },
      'defaultQueue names the queue "quue"; "queue" is configured. Did you mean "queue"?',
    ],
    [
      'a broker on an unknown persistence',
      'PERSISTENCE_UNKNOWN',
      { ...onRds, queues: [{ name: 'queue', broker: { type: 'rds', persistence: 'defualt' } }] },
      'queues[0].broker.persistence names the persistence "defualt"; "default" is configured. Did you mean "default"?',
    ],
    [
      'a task log on an unknown persistence',
      'PERSISTENCE_UNKNOWN',
      { queues: [queue], taskLog: { broker: rds } },
      'taskLog.broker.persistence names the persistence "default"; none is configured.',
    ],
    [
      'a broker that names no persistence',
      'CONFIG_INVALID',
      { ...onRds, queues: [{ name: 'queue', broker: { type: 'rds' } }] },
      'queues[0].broker.persistence is missing',
    ],
    [
      'a database whose tasks only one process would guard',
      'SHARED_QUEUE_NEEDS_SHARED_LOG',
      { persistences, queues: [{ name: 'queue', broker: rds }] },
      'taskLog.broker.type is "memory", but other processes share the queues "queue"; allowed: rds.',
    ],
    [
      'an unknown database client',
      'CONFIG_INVALID',
      { queues: [queue], persistences: { default: { client: 'sqlite3', connection: { filename: 'a' } } } },
      'persistences.default.client is "sqlite3"; allowed: one of sqlite. Did you mean "sqlite"?',
    ],
    [
      'a container name that is no table name',
      'CONFIG_INVALID',
      { ...onRds, queues: [queue], taskLog: { broker: { ...rds, container: 'task log' } } },
      'taskLog.broker.container is "task log"',
    ],
    [
      'a container name that is the table of the lines of another',
      'CONFIG_INVALID',
      { ...onRds, queues: [queue], taskLog: { broker: { ...rds, container: 'jobs_line' } } },
      'taskLog.broker.container is "jobs_line"; allowed: a small letter, then up to 40 small letters, digits and underscores, no "_line" at the end',
    ],
    [
      'a receive of nothing',
      'CONFIG_INVALID',
      { queues: [{ name: 'queue', broker: { ...memory, receive: 0 } }] },
      'queues[0].broker.receive is 0; allowed: a whole number of at least 1.',
    ],
    [
      'a receive that is no number',
      'CONFIG_INVALID',
      { queues: [{ name: 'queue', broker: { ...memory, receive: 'many' } }] },
      'queues[0].broker.receive is "many"',
    ],
    [
      'a strategy that nobody knows',
      'CONFIG_INVALID',
      { queues: [queue], strategy: 'wieghted' },
      'strategy is "wieghted"; allowed: one of weighted, strict. Did you mean "weighted"?',
    ],
    [
      'no attempt',
      'CONFIG_INVALID',
      { queues: [{ ...queue, retry: { maxAttempts: 0 } }] },
      'queues[0].retry.maxAttempts is 0; allowed: a whole number of at least 1.',
    ],
    [
      'a backoff of an unknown kind',
      'CONFIG_INVALID',
      { queues: [queue], defaults: { retry: { backoff: { kind: 'random' } } } },
      'defaults.retry.backoff is {"kind":"random"}; allowed: a number of milliseconds, a list of them',
    ],
    [
      'half a task at a time',
      'CONFIG_INVALID',
      { queues: [queue], worker: { concurrency: 0.5 } },
      'worker.concurrency is 0.5; allowed: a whole number of at least 1.',
    ],
    [
      'a lease as text',
      'CONFIG_INVALID',
      { queues: [queue], worker: { leaseMs: '30s' } },
      'worker.leaseMs is "30s"; allowed: a whole number of milliseconds of at least 100.',
    ],
    [
      'a lease that is over at once',
      'CONFIG_INVALID',
      { queues: [queue], worker: { leaseMs: 99 } },
      'worker.leaseMs is 99; allowed: a whole number of milliseconds of at least 100.',
    ],
    [
      'a lease with a fraction',
      'CONFIG_INVALID',
      { queues: [queue], worker: { leaseMs: 100.5 } },
      'worker.leaseMs is 100.5; allowed: a whole number of milliseconds of at least 100.',
    ],
    [
      'no pause between looks',
      'CONFIG_INVALID',
      { queues: [queue], worker: { pollIntervalMs: 0 } },
      'worker.pollIntervalMs is 0; allowed: a whole number of milliseconds of at least 1.',
    ],
    [
      'a pause with a fraction',
      'CONFIG_INVALID',
      { queues: [queue], worker: { pollIntervalMs: 1.5 } },
      'worker.pollIntervalMs is 1.5; allowed: a whole number of milliseconds of at least 1.',
    ],
    [
      'a wait that is no number',
      'CONFIG_INVALID',
      { queues: [queue], sync: { maxWaitMs: Number.NaN } },
      'sync.maxWaitMs is NaN',
    ],
    [
      'an unknown log level',
      'CONFIG_INVALID',
      { queues: [queue], log: { level: 'warning' } },
      'log.level is "warning"; allowed: one of trace, debug, info, warn, error, fatal, silent.',
    ],
    ['tasks that are no list', 'CONFIG_INVALID', { queues: [queue], tasks: './t.js' }, 'tasks is "./t.js"'],
    [
      'a task associated to something that is no name',
      'CONFIG_INVALID',
      { queues: [queue], taskToQueueAssociations: { 'a.b': 3 } },
      'taskToQueueAssociations["a.b"] is 3; allowed: a text.',
    ],
  ];

  it.each(cases)('is refused for %s', (_, code, config, message) => {
    const problem = problemOf(config);

    expect(problem.code).toBe(code);
    if (typeof message === 'string') expect(problem.message).toContain(message);
    else expect(problem.message).toMatch(message);
  });

  it('hears of all its problems at once, the code being that of the first', () => {
    const { code, message } = problemOf({
      queues: [queue, queue],
      taskToQueueAssociations: { one: 'x', two: 'y' },
      worker: { concurency: 2 },
    });

    expect(code).toBe('CONFIG_INVALID');
    expect(message).toMatch(/^signalbox\.config\.js has 4 problems:\n/);
    expect(message).toContain('  worker.concurency is no setting');
    expect(message).toContain('  queues[1].name is "queue"');
    expect(message).toContain('  taskToQueueAssociations.one names the queue "x"');
    expect(message).toContain('  taskToQueueAssociations.two names the queue "y"');
  });

  it('hears of duplicate queues before it hears of unknown ones', () => {
    const { code } = problemOf({ queues: [queue, queue], defaultQueue: 'x' });

    expect(code).toBe('QUEUE_DUPLICATE');
  });

  it('is not told the connection, which may hold a password', () => {
    const { message } = problemOf({
      queues: [queue],
      persistences: { default: { client: 'sqlite', connection: 'sqlite://me:secret@host' } },
    });

    expect(message).toContain('persistences.default.connection is something else; allowed: an object.');
    expect(message).not.toContain('secret');
  });
});
