import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Persistence, RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { isSignalboxError } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { Queue } from '../../src/queue.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import { defineTask } from '../../src/task.ts';
import { TaskLog } from '../../src/task-log.ts';
import { Worker } from '../../src/worker/worker.ts';
import { failureOf, pause, until } from '../support/core.ts';
import { sqliteFile } from '../support/sqlite.ts';
import type { SqliteFile } from '../support/sqlite.ts';

const LOCKED_MS = 2_000;

interface Scene {
  readonly dispatcher: QueueDispatcher;
  readonly taskLog: TaskLog;
  /** Codes of the failures that the worker told of. */
  readonly codes: (ErrorCode | 'none')[];
  readonly persistence: Persistence;
  prepare(): Promise<void>;
}

const echo = defineTask({ name: 'echo', run: ({ text }: { readonly text: string }) => text });

let file: SqliteFile;
let opened: Persistence[];

beforeEach(async () => {
  file = await sqliteFile();
  opened = [];
});

afterEach(async () => {
  for (const persistence of opened) await persistence.close();
  await file.remove();
});

function open(filename: string, readOnly: boolean = false): Scene {
  const persistence = new Persistence({ client: 'sqlite', connection: { filename, readOnly } });
  opened.push(persistence);
  const taskLog = new TaskLog({ broker: new RdsTaskLogBroker(persistence) });
  const dispatcher = new QueueDispatcher({
    queues: [new Queue('main', new RdsQueueBroker(persistence))],
    taskLog,
  });
  dispatcher.registry.register(echo);
  const codes: (ErrorCode | 'none')[] = [];
  dispatcher.events.on('broker:error', ({ error }) =>
    codes.push(isSignalboxError(error) ? error.code : 'none'),
  );
  const prepare = async (): Promise<void> => {
    await dispatcher.initialize();
    await taskLog.createContainer();
  };
  return { dispatcher, taskLog, codes, persistence, prepare };
}

/** Runs `work` beside a worker, which must not have ended by itself. */
async function besideWorker({ dispatcher }: Scene, work: () => Promise<void>): Promise<void> {
  const worker = new Worker({ dispatcher, pollIntervalMs: 20 });
  let hasEnded = false;
  const running = worker.run().finally(() => (hasEnded = true));
  try {
    await work();
    expect(hasEnded).toBe(false);
  } finally {
    await worker.stop();
  }
  expect((await running).exitCode).toBe(0);
}

describe('a SQLite file that another connection has locked', () => {
  it('makes the worker and the producers wait, while everything else in the process goes on', async () => {
    const scene = open(file.filename);
    await scene.prepare();
    const other = file.open();
    let turns = 0;
    const timer = setInterval(() => (turns += 1), 20);
    await besideWorker(scene, async () => {
      const before = await scene.dispatcher.enqueue(echo({ text: 'before' }));
      let isLocked = false;
      const locked = other.transaction(async () => {
        isLocked = true;
        await pause(LOCKED_MS);
        isLocked = false;
      });
      await until('the database is locked', () => isLocked);
      turns = 0;
      const during = await scene.dispatcher.enqueue(echo({ text: 'during' }));
      expect(isLocked).toBe(false);
      // A thread that waited inside SQLite would have had no turn at all.
      expect(turns).toBeGreaterThan(10);
      await locked;
      for (const handle of [before, during]) {
        await handle.result({ timeoutMs: 10_000 });
        expect(await scene.taskLog.getById(handle.id)).toMatchObject({ attempts: 1, lapses: 0 });
      }
    });
    clearInterval(timer);
    expect(scene.codes).toEqual([]);
  });
});

describe('a database that may only be read', () => {
  it('refuses a task with the reason, and the worker tells of it and goes on', async () => {
    const writable = open(file.filename);
    await writable.prepare();
    const { id } = await writable.dispatcher.enqueue(echo({ text: 'waiting' }));
    const scene = open(file.filename, true);
    const error = await failureOf(() => scene.dispatcher.enqueue(echo({ text: 'refused' })));
    expect(error).toMatchObject({ code: 'ENQUEUE_FAILED', cause: { code: 'DATABASE_READ_ONLY' } });
    await besideWorker(scene, () => until('the worker has tried twice', () => scene.codes.length >= 2));
    expect(new Set(scene.codes)).toEqual(new Set(['DATABASE_READ_ONLY']));
    expect(await writable.taskLog.search()).toMatchObject({ entries: [{ id, status: 'enqueued' }] });
  });
});

describe('a database that is not there', () => {
  it('refuses a task with the reason', async () => {
    const scene = open(join(file.folder, 'nowhere', 'signalbox.sqlite'));
    const error = await failureOf(() => scene.dispatcher.enqueue(echo({ text: 'lost' })));
    expect(error).toMatchObject({ code: 'ENQUEUE_FAILED', cause: { code: 'DATABASE_MISSING' } });
    expect((await failureOf(() => scene.dispatcher.count())).code).toBe('DATABASE_MISSING');
    expect((await failureOf(() => scene.taskLog.search())).code).toBe('DATABASE_MISSING');
  });

  it('is worked on as soon as it has come', async () => {
    const folder = join(file.folder, 'later');
    const scene = open(join(folder, 'signalbox.sqlite'));
    await besideWorker(scene, async () => {
      await until('the worker has missed it', () => scene.codes.includes('DATABASE_MISSING'));
      await mkdir(folder);
      await scene.prepare();
      const handle = await scene.dispatcher.enqueue(echo({ text: 'at last' }));
      expect(await handle.result({ timeoutMs: 20_000 })).toBe('at last');
    });
  });

  it('is an error with a code when a folder stands in place of the file', async () => {
    const folder = join(file.folder, 'a-folder.sqlite');
    await mkdir(folder);
    const scene = open(folder);
    const error = await failureOf(() => scene.dispatcher.enqueue(echo({ text: 'lost' })));
    expect(error).toMatchObject({ code: 'ENQUEUE_FAILED', cause: { code: 'BROKER_FAILED' } });
    await besideWorker(scene, () =>
      until('the worker has told of it', () => scene.codes.includes('BROKER_FAILED')),
    );
  });

  it('is an error with a code when its folder was deleted before the next connection', async () => {
    const folder = join(file.folder, 'gone');
    await mkdir(folder);
    const first = open(join(folder, 'signalbox.sqlite'));
    await first.prepare();
    await first.persistence.close();
    await rm(folder, { recursive: true });
    expect((await failureOf(() => first.dispatcher.count())).code).toBe('BROKER_CLOSED');
    const second = open(join(folder, 'signalbox.sqlite'));
    expect((await failureOf(() => second.dispatcher.count())).code).toBe('DATABASE_MISSING');
  });
});
