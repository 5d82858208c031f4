import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { InMemoryQueueBroker } from '../../brokers/memory.ts';
import { RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { defineConfig } from '../../src/config/config.ts';
import { Queue } from '../../src/queue.ts';
import { createSignalbox } from '../../src/signalbox.ts';
import type { EnqueueOptions } from '../../src/submission.ts';
import { defineTask } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { failureOf, memoryCore } from '../support/core.ts';
import type { Core } from '../support/core.ts';
import { sqliteFile } from '../support/sqlite.ts';
import type { SqliteFile } from '../support/sqlite.ts';

const anything = defineTask({ name: 'anything', run: (parameters: unknown) => parameters ?? null });

function cycle(): unknown {
  const loop: Record<string, unknown> = {};
  loop['deep'] = [loop];
  return loop;
}

let file: SqliteFile;

beforeEach(async () => {
  file = await sqliteFile();
});

afterEach(() => file.remove());

async function onSqlite(): Promise<Core> {
  const persistence = file.open();
  const core = memoryCore({
    queueBroker: new RdsQueueBroker(persistence),
    logBroker: new RdsTaskLogBroker(persistence),
  });
  await core.dispatcher.initialize();
  await core.taskLog.createContainer();
  return core;
}

/** Nothing was stored, and a worker finds nothing and still works. */
async function expectUntouched(core: Core): Promise<void> {
  expect((await core.taskLog.search()).entries).toEqual([]);
  expect(await core.dispatcher.count()).toBe(0);
  const handle = await core.dispatcher.enqueue(anything({ sound: true }));
  if (!core.dispatcher.isSync()) await new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true }).run();
  expect(await handle.result()).toEqual({ sound: true });
}

const NOT_JSON: readonly (readonly [string, unknown, string])[] = [
  ['a BigInt', { a: { b: 1n } }, 'parameters.a.b'],
  ['a function', { run: () => 1 }, 'parameters.run'],
  ['a symbol', [Symbol('s')], 'parameters[0]'],
  ['a cycle', cycle(), 'parameters.deep[0]'],
  ['NaN', { 'odd key': NaN }, 'parameters["odd key"]'],
  ['an infinity', Infinity, 'parameters'],
  ['a date', { at: new Date(0) }, 'parameters.at'],
  ['a map', new Map(), 'parameters'],
  ['a hole in a list', [1, undefined], 'parameters[1]'],
];

describe.each([
  ['waiting for a worker', () => memoryCore()],
  ['run inside enqueue', () => memoryCore({ queueBroker: new InMemoryQueueBroker() })],
])('a task %s', (_, open) => {
  it.each(NOT_JSON)(
    'is refused before anything is stored when its parameters hold %s',
    async (__, value, path) => {
      const core = open();
      const error = await failureOf(() => core.dispatcher.enqueue(anything(value)));
      expect(error.code).toBe('PARAMETERS_NOT_JSON');
      expect(error.message.startsWith(`${path} `)).toBe(true);
      const second = await failureOf(() => core.dispatcher.createTask(anything, value));
      expect(second.code).toBe('PARAMETERS_NOT_JSON');
      await expectUntouched(core);
    },
  );

  const WRONG: readonly (readonly [string, string, EnqueueOptions])[] = [
    ['a label of 256 characters', 'LABEL_TOO_LONG', { label: 'x'.repeat(256) }],
    ['a label that is no text', 'INVALID_ARGUMENT', { label: 7 as never }],
    ['a header that is no text', 'HEADERS_INVALID', { headers: { n: 1 as never } }],
    ['headers above 16 KiB', 'HEADERS_INVALID', { headers: { a: 'x'.repeat(17_000) } }],
    ['a priority that is no integer', 'INVALID_ARGUMENT', { priority: 0.5 }],
    ['a priority beyond its range', 'INVALID_ARGUMENT', { priority: 40_000 }],
    ['a retry that makes no sense', 'INVALID_ARGUMENT', { retry: { maxAttempts: 0 } }],
    ['a negative timeout', 'INVALID_ARGUMENT', { timeoutMs: -1 }],
  ];

  it.each(WRONG)('is refused before anything is stored with %s', async (__, code, options) => {
    const core = open();
    expect((await failureOf(() => core.dispatcher.enqueue(anything({}), options))).code).toBe(code);
    await expectUntouched(core);
  });
});

describe('the size of a task', () => {
  it('is measured in bytes against what its broker can carry, and too much of it is refused', async () => {
    const queueBroker = new InMemoryQueueBroker({ sync: false, maxBodyBytes: 1_000 });
    const core = memoryCore({ queueBroker });
    const error = await failureOf(() => core.dispatcher.enqueue(anything({ text: 'é'.repeat(490) })));
    expect(error.code).toBe('PAYLOAD_TOO_LARGE');
    expect(error.message).toMatch(/takes 10\d\d bytes; queue "main" carries at most 1000/);
    await expectUntouched(core);
    const fits = await core.dispatcher.enqueue(anything({ text: 'e'.repeat(490) }));
    expect(await fits.status()).toBe('enqueued');
  });

  it('may be a megabyte in a database, and so may its result', async () => {
    const core = await onSqlite();
    const text = 'é'.repeat(500_000);
    const handle = await core.dispatcher.enqueue(anything({ text }));
    await new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true }).run();
    expect(await handle.result()).toEqual({ text });
  });
});

describe('odd text', () => {
  const ODD = [
    `quote ' " \` ;--`,
    'emoji 🚂',
    'line\nbreak\ttab',
    'percent % under _',
    '\u202eright to left',
    '{{}}',
  ];

  it.each(ODD)('comes back from a database as it was: %j', async (text) => {
    const core = await onSqlite();
    const handle = await core.dispatcher.enqueue(anything({ [text]: text }), { label: text, owner: text });
    await new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true }).run();
    expect(await handle.result()).toEqual({ [text]: text });
    const { entries } = await core.taskLog.search({ owner: text });
    expect(entries).toMatchObject([{ label: text, owner: text }]);
  });

  it('of control characters in parameters comes back too', async () => {
    const core = await onSqlite();
    const parameters = { text: '\u0000\u0001\u001b\ud800' };
    const handle = await core.dispatcher.enqueue(anything(parameters));
    await new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true }).run();
    expect(await handle.result()).toEqual(parameters);
  });

  it('of 255 characters fits a label', async () => {
    const core = await onSqlite();
    const label = 'ü'.repeat(255);
    const { id } = await core.dispatcher.enqueue(anything({}), label);
    expect(await core.taskLog.getById(id)).toMatchObject({ label });
  });
});

describe('a configuration', () => {
  const persistences = { default: { client: 'sqlite' as const, connection: { filename: ':memory:' } } };
  const rds = { type: 'rds' as const, persistence: 'default' };

  it('with a broker of an unknown type names the types that there are', async () => {
    const config = defineConfig({ queues: [{ name: 'a', broker: { type: 'kafka' as never } }] });
    const error = await failureOf(() => createSignalbox(config));
    expect(error.code).toBe('BROKER_UNKNOWN');
    expect(error.message).toContain('memory');
    expect(error.message).toContain('rds');
  });

  it('in which a queue would collide with the task log is refused', async () => {
    const config = defineConfig({
      persistences,
      queues: [{ name: 'task_log', broker: rds }],
      taskLog: { broker: { ...rds, container: 'task_log' } },
    });
    expect((await failureOf(() => createSignalbox(config))).code).toBe('QUEUE_NAME_COLLISION');
  });

  it('with queues whose names differ only in case is refused', async () => {
    const config = defineConfig({
      persistences,
      queues: [
        { name: 'Foo', broker: rds },
        { name: 'foo', broker: rds },
      ],
      taskLog: { broker: rds },
    });
    expect((await failureOf(() => createSignalbox(config))).code).toBe('QUEUE_DUPLICATE');
  });
});

describe('a queue named like the table of the log', () => {
  it('shares nothing with it when it is wired by hand', async () => {
    const persistence = file.open();
    const queueBroker = new RdsQueueBroker(persistence);
    const core = memoryCore({
      queueBroker,
      logBroker: new RdsTaskLogBroker(persistence, 'task_log'),
      queues: [new Queue('task_log', queueBroker), new Queue('tq_task_log', queueBroker)],
    });
    await core.dispatcher.initialize();
    await core.taskLog.createContainer();
    const handles = [
      await core.dispatcher.enqueue(anything(1)),
      await core.dispatcher.enqueue(anything(2), { queue: 'tq_task_log' }),
    ];
    expect(await core.dispatcher.count()).toBe(2);
    await new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true }).run();
    expect(await Promise.all(handles.map((handle) => handle.result()))).toEqual([1, 2]);
  });
});
