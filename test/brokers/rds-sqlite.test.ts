import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  Persistence,
  RdsQueueBroker,
  RdsRecordStore,
  RdsTaskLogBroker,
  sqliteKnex,
} from '../../brokers/rds/index.ts';
import type { PersistenceSettings } from '../../brokers/rds/index.ts';
import { isSignalboxError } from '../../src/errors.ts';
import type { Ledger, NewTask } from '../../src/ledger.ts';
import type { HeldTask } from '../../src/task-log-broker.ts';
import { sqliteFile } from '../support/sqlite.ts';
import type { SqliteFile } from '../support/sqlite.ts';

let file: SqliteFile;

beforeEach(async () => {
  file = await sqliteFile();
});

afterEach(() => file.remove());

interface Opened {
  readonly persistence: Persistence;
  readonly broker: RdsQueueBroker;
  readonly log: RdsTaskLogBroker;
  readonly ledger: Ledger;
}

async function open(onStatement?: (sql: string) => void): Promise<Opened> {
  const persistence = file.open(onStatement);
  const broker = new RdsQueueBroker(persistence);
  const log = new RdsTaskLogBroker(persistence);
  await broker.initialize(['one']);
  await log.createContainer();
  const ledger = broker.ledger(log);
  if (ledger === undefined) throw new Error('one persistence, one ledger');
  return { persistence, broker, log, ledger };
}

function newTask(id: string, delayMs = 0): NewTask {
  const entry = {
    id,
    queue: 'one',
    taskName: 'test.task',
    label: id,
    owner: null,
    category: null,
    parentId: null,
    masterStatus: false,
    priority: 0,
    group: null,
    envelope: `envelope of ${id}`,
    delayMs,
  };
  return { entry, message: { id, body: entry.envelope, delayMs } };
}

function newTasks(count: number, prefix = 'task'): NewTask[] {
  return Array.from({ length: count }, (_, index) => newTask(`${prefix}-${String(index).padStart(4, '0')}`));
}

const drawing = {
  leaseMs: 60_000,
  waitMs: 0,
  worker: 'worker',
  signal: new AbortController().signal,
};

async function codeOf(call: Promise<unknown>): Promise<unknown> {
  try {
    return await call;
  } catch (error) {
    return isSignalboxError(error) ? error.code : error;
  }
}

describe('a SQLite persistence', () => {
  it('creates its tables once when eight open the same new file at once', async () => {
    const opened = await Promise.all(Array.from({ length: 8 }, () => open()));
    const [first] = opened;
    await first?.ledger.enqueue('one', newTasks(3));
    expect(await Promise.all(opened.map(({ broker }) => broker.count('one')))).toEqual(
      opened.map(() => ({ ready: 3, delayed: 0, leased: 0, exact: true })),
    );
  });

  it('refuses tables that a newer version has changed, when it creates them and when it opens them', async () => {
    const { persistence } = await open();
    await persistence.write(undefined, (session) => session.run(`update tq_schema set version = 99`));
    const later = file.open();
    expect(await codeOf(new RdsQueueBroker(later).initialize([]))).toBe('SCHEMA_TOO_NEW');
    expect(await codeOf(new RdsTaskLogBroker(later).stats({}))).toBe('SCHEMA_TOO_NEW');
    expect(await codeOf(new RdsTaskLogBroker(persistence).createContainer())).toBe('SCHEMA_TOO_NEW');
  });

  it('names the command to run while the tables are missing', async () => {
    const broker = new RdsQueueBroker(file.open());
    await expect(broker.count('one')).rejects.toMatchObject({
      code: 'NOT_INITIALIZED',
      message: expect.stringContaining('initialize-queue') as string,
    });
    expect(await codeOf(broker.push('one', [{ id: 'a', body: 'a', generation: 1 }]))).toBe('NOT_INITIALIZED');
    expect(await codeOf(new RdsTaskLogBroker(file.open()).stats({}))).toBe('NOT_INITIALIZED');
    expect(await codeOf(new RdsRecordStore(file.open()).get('a', 'b'))).toBe('NOT_INITIALIZED');
  });

  it('says that the folder is missing, and works once it is there', async () => {
    const folder = join(file.folder, 'nowhere');
    const persistence = new Persistence({
      client: 'sqlite',
      connection: { filename: join(folder, 'signalbox.sqlite') },
    });
    const broker = new RdsQueueBroker(persistence);
    expect(await codeOf(broker.initialize([]))).toBe('DATABASE_MISSING');
    await mkdir(folder);
    await broker.initialize([]);
    expect(await broker.count('one')).toMatchObject({ ready: 0 });
    await persistence.close();
  });

  it('reads a database that it may not write, and says so when it is to write', async () => {
    const { ledger, persistence: writable } = await open();
    await ledger.enqueue('one', newTasks(2));
    await writable.close();
    const persistence = new Persistence({
      client: 'sqlite',
      connection: { filename: file.filename, readOnly: true },
    });
    const broker = new RdsQueueBroker(persistence);
    expect(await broker.count('one')).toMatchObject({ ready: 2 });
    expect(await codeOf(broker.receive('one', { ...drawing, max: 1 }))).toBe('DATABASE_READ_ONLY');
    await persistence.close();
  });

  it('fails with the cause when the file is no database', async () => {
    await writeFile(
      file.filename,
      'this is no database, and longer than the header of one would have to be'.repeat(9),
    );
    await expect(new RdsQueueBroker(file.open()).count('one')).rejects.toMatchObject({
      code: 'BROKER_FAILED',
      cause: expect.any(Error) as Error,
    });
  });

  it('offers SQLite only, for now', () => {
    const settings = JSON.parse(
      '{ "client": "oracle", "connection": { "filename": "x" } }',
    ) as PersistenceSettings;
    expect(() => new Persistence(settings)).toThrow(/"oracle"; there is: sqlite/);
  });

  it('stays open for others when a broker is closed, and rejects everything once it is closed itself', async () => {
    const { persistence, broker, log, ledger } = await open();
    await broker.close();
    expect(await codeOf(broker.count('one'))).toBe('BROKER_CLOSED');
    expect(await codeOf(ledger.draw('one', { ...drawing, max: 1, token: 't', start: 1 }))).toBe(
      'BROKER_CLOSED',
    );
    expect(await log.stats({})).toEqual({});
    await persistence.close();
    await persistence.close();
    expect(await codeOf(log.stats({}))).toBe('BROKER_CLOSED');
    expect(await codeOf(persistence.transaction(async () => 1))).toBe('BROKER_CLOSED');
  });

  it('refuses containers that are no table names', () => {
    const persistence = file.open();
    for (const container of ['', 'Log', '1log', 'log;drop', 'x'.repeat(42), 'message', 'jobs_line']) {
      expect(() => new RdsTaskLogBroker(persistence, container)).toThrow(/container/);
    }
    expect(new RdsTaskLogBroker(persistence, 'billing_log').table).toBe('tq_billing_log');
  });

  it('keeps two task logs apart', async () => {
    const { persistence, log, ledger } = await open();
    const other = new RdsTaskLogBroker(persistence, 'other');
    await other.createContainer();
    await ledger.enqueue('one', newTasks(2));
    expect(await log.stats({})).toEqual({ enqueued: 2 });
    expect(await other.stats({})).toEqual({});
  });

  it('waits for the lock of another connection longer than SQLite would', async () => {
    const { ledger } = await open();
    const knex = await sqliteKnex(file.filename);
    const trx = await knex.transaction();
    await trx.raw('create table lock_holder (id integer)');
    const enqueued = ledger.enqueue('one', [newTask('patient')]);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await trx.commit();
    expect(await enqueued).toEqual(['patient']);
    await knex.destroy();
  });

  it('keeps its times in whole milliseconds of UTC', async () => {
    const { log, ledger } = await open();
    const before = Date.now();
    await ledger.enqueue('one', [newTask('a', 1_500)]);
    const after = Date.now();
    const [entry] = (await log.search({ ids: ['a'] }, { limit: 1 })).entries;
    expect(entry?.createdAt).toBeGreaterThanOrEqual(before);
    expect(entry?.createdAt).toBeLessThanOrEqual(after);
    expect((entry?.notBefore ?? 0) - (entry?.createdAt ?? 0)).toBe(1_500);
  });
});

describe('transactions on SQLite', () => {
  async function withOrders(): Promise<Opened & { readonly orders: () => Promise<number> }> {
    const opened = await open();
    const knex = await opened.persistence.knex();
    await knex.schema.createTable('orders', (table) => void table.integer('id'));
    return { ...opened, orders: async () => (await knex('orders')).length };
  }

  it("commits a task with the caller's rows, and forgets it with them", async () => {
    const { persistence, ledger, log, orders } = await withOrders();
    const knex = await persistence.knex();
    await knex.transaction(async (trx) => {
      await trx('orders').insert({ id: 1 });
      expect(await ledger.enqueue('one', [newTask('kept')], await persistence.join(trx))).toEqual(['kept']);
    });
    const rolledBack = knex.transaction(async (trx) => {
      await trx('orders').insert({ id: 2 });
      await ledger.enqueue('one', [newTask('forgotten')], await persistence.join(trx));
      throw new Error('changed my mind');
    });
    await expect(rolledBack).rejects.toThrow('changed my mind');
    expect(await orders()).toBe(1);
    expect((await log.search({}, { limit: 9 })).entries.map(({ id }) => id)).toEqual(['kept']);
    const drawn = await ledger.draw('one', { ...drawing, max: 9, token: 't', start: 9 });
    expect(drawn.map(({ answer }) => [answer.id, answer.kind])).toEqual([['kept', 'claimed']]);
  });

  it('joins a transaction of another knex on the same file, by whatever name, and of none on another file', async () => {
    const { persistence, ledger, broker } = await withOrders();
    const theirs = await sqliteKnex(join(file.folder, '.', 'signalbox.sqlite'));
    await theirs.transaction(async (trx) => {
      await trx('orders').insert({ id: 1 });
      await ledger.enqueue('one', newTasks(2), await persistence.join(trx));
    });
    expect(await broker.count('one')).toMatchObject({ ready: 2 });

    const elsewhere = await sqliteKnex(join(file.folder, 'other.sqlite'));
    await elsewhere.transaction(async (trx) => {
      expect(await codeOf(persistence.join(trx))).toBe('FOREIGN_TRANSACTION');
    });
    const ended = await theirs.transaction();
    await ended.commit();
    for (const foreign of [ended, theirs, {}, null, 'trx']) {
      expect(await codeOf(persistence.join(foreign))).toBe('FOREIGN_TRANSACTION');
    }
    await theirs.destroy();
    await elsewhere.destroy();
  });

  it('joins a transaction that holds the only connection before anything else was asked', async () => {
    await open();
    const knex = await sqliteKnex(file.filename);
    const broker = new RdsQueueBroker(new Persistence({ knex }));
    await knex.transaction(async (trx) => {
      await broker.push('one', [{ id: 'a', body: 'a', generation: 1 }], await broker.store.join(trx));
    });
    expect(await broker.count('one')).toMatchObject({ ready: 1 });
    await knex.destroy();
  });

  it('shares a knex instance of the user, and leaves it open', async () => {
    const knex = await sqliteKnex(file.filename);
    const persistence = new Persistence({ knex });
    const broker = new RdsQueueBroker(persistence);
    await broker.initialize([]);
    await knex.transaction(async (trx) => {
      await broker.push('one', [{ id: 'a', body: 'a', generation: 1 }], await persistence.join(trx));
    });
    await persistence.close();
    expect(await knex('tq_message').select('task_id')).toMatchObject([{ task_id: 'a' }]);
    await knex.destroy();
  });

  it('undoes a call that failed half-way, and nothing else of the transaction', async () => {
    const { persistence, ledger, broker, log, orders } = await withOrders();
    const knex = await persistence.knex();
    await knex.transaction(async (trx) => {
      const tx = await persistence.join(trx);
      await trx('orders').insert({ id: 1 });
      const [whole, broken] = [newTask('whole'), newTask('broken')];
      const bad = { ...broken, message: { id: 'broken', body: JSON.parse('null') as string } };
      expect(await codeOf(ledger.enqueue('one', [bad], tx))).toBe('BROKER_FAILED');
      await ledger.enqueue('one', [whole], tx);
    });
    expect(await orders()).toBe(1);
    expect(await log.stats({})).toEqual({ enqueued: 1 });
    expect(await broker.count('one')).toMatchObject({ ready: 1 });
  });

  it('takes calls at the same time in one transaction', async () => {
    const { persistence, ledger, broker } = await withOrders();
    await persistence.transaction(async (tx) => {
      await Promise.all(newTasks(20, 'own').map((task) => ledger.enqueue('one', [task], tx)));
    });
    const knex = await persistence.knex();
    await knex.transaction(async (trx) => {
      const enqueue = async (task: NewTask): Promise<unknown> =>
        ledger.enqueue('one', [task], await persistence.join(trx));
      await Promise.all(newTasks(20, 'theirs').map(enqueue));
    });
    expect(await broker.count('one')).toMatchObject({ ready: 40 });
  });

  it('rolls back a transaction of its own when the work fails', async () => {
    const { persistence, ledger, broker } = await open();
    const failed = persistence.transaction(async (tx) => {
      await ledger.enqueue('one', newTasks(2), tx);
      throw new Error('no');
    });
    await expect(failed).rejects.toThrow('no');
    expect(await broker.count('one')).toMatchObject({ ready: 0 });
  });

  it('calls back after the commit of the outermost transaction, and never after a rollback', async () => {
    const { persistence } = await open();
    const knex = await persistence.knex();
    const called: string[] = [];
    const call = async (trx: unknown, name: string): Promise<void> => {
      (await persistence.join(trx)).afterCommit(async () => void called.push(name));
    };
    await persistence.transaction(async (tx) => {
      tx.afterCommit(async () => void called.push('own'));
      expect(called).toEqual([]);
    });
    await knex.transaction(async (trx) => {
      await call(trx, 'outer');
      await trx.transaction(async (inner) => call(inner, 'inner'));
      await trx.transaction(async (inner) => {
        await call(inner, 'inner, rolled back');
        await inner.rollback();
      });
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(called).toEqual(['own']);
    });
    const quiet = await knex.transaction();
    await call(quiet, 'rolled back');
    await quiet.rollback();
    await expect.poll(() => called).toEqual(expect.arrayContaining(['own', 'outer', 'inner']));
    expect(called).toHaveLength(3);
  });
});

describe('the cost of SQLite', () => {
  it('asks an empty queue with one statement and takes no lock', async () => {
    const statements: string[] = [];
    const { ledger, broker } = await open((sql) => statements.push(sql));
    statements.length = 0;
    expect(await ledger.draw('one', { ...drawing, max: 10, token: 't', start: 10 })).toEqual([]);
    expect(statements).toHaveLength(1);
    expect(await broker.receive('one', { ...drawing, max: 10 })).toEqual([]);
    expect(statements).toHaveLength(2);
    expect(await ledger.relay('one', 10)).toBe(0);
    expect(statements.filter((sql) => /begin|commit/.test(sql))).toEqual([]);

    const knex = await sqliteKnex(file.filename);
    const writer = await knex.transaction();
    expect(await ledger.draw('one', { ...drawing, max: 10, token: 't', start: 10 })).toEqual([]);
    await writer.rollback();
    await knex.destroy();
  });

  it('commits once a batch: enqueue, draw, settle, renew', async () => {
    const statements: string[] = [];
    const { ledger } = await open((sql) => statements.push(sql));
    const commits = async (work: () => Promise<unknown>): Promise<string[]> => {
      statements.length = 0;
      await work();
      return statements.filter((sql) => /^(begin|commit|savepoint)/.test(sql));
    };
    const once = ['begin immediate', 'commit'];
    expect(await commits(() => ledger.enqueue('one', newTasks(100)))).toEqual(once);
    const token = 'draw';
    const held: HeldTask[] = [];
    const draw = async (): Promise<void> => {
      const drawn = await ledger.draw('one', { ...drawing, max: 100, token, start: 100 });
      for (const { delivery } of drawn) held.push({ id: delivery.id, token, receipt: delivery.receipt });
    };
    expect(await commits(draw)).toEqual(once);
    expect(held).toHaveLength(100);
    expect(await commits(() => ledger.renew('one', held, 60_000))).toEqual(once);
    const settlements = held.map((task) => ({ task, kind: 'completed', report: '{}' }) as const);
    expect(await commits(() => ledger.settle('one', settlements, []))).toEqual(once);
  });

  it('looks nothing up without an index, with 200,000 messages waiting and as many rows', async () => {
    const statements = new Set<string>();
    const { persistence, ledger, broker, log } = await open((sql) => statements.add(sql));
    await fill(persistence, 200_000);
    statements.clear();
    await useAll(ledger, broker, log);
    const looked = [...statements].filter((sql) => /tq_(message|task_log)\b/.test(sql));
    expect(looked.length).toBeGreaterThan(12);
    for (const sql of looked) {
      const plan = await persistence.read((session) => session.all(`explain query plan ${sql}`));
      const details = plan.map(({ detail }) => String(detail));
      expect([
        sql,
        details.filter((detail) =>
          /^SCAN tq_(?!task_log USING INDEX tq_task_log_created)|USE TEMP B-TREE/.test(detail),
        ),
      ]).toEqual([sql, []]);
    }
  }, 120_000);

  async function fill(persistence: Persistence, rows: number): Promise<void> {
    const numbers = `with recursive n (i) as (select 1 union all select i + 1 from n where i < ${rows})`;
    await persistence.write(undefined, async (session) => {
      await session.run(`insert into tq_message
        (queue, state, prio, due, task_id, receives, body, generation)
        ${numbers} select 'one', 1, 0, 9e15, 'delayed-' || i, 0, '{}', 1 from n`);
      await session.run(`insert into tq_task_log
        (id, queue, task_name, status, label, master_status, priority, envelope, attempts, lapses, unknowns,
         not_before, generation, created_at, updated_at)
        ${numbers} select 'delayed-' || i, 'one', 't', 'enqueued', '', 0, 0, '{}', 0, 0, 0, 9e15, 1, i, i from n`);
    });
  }

  async function useAll(ledger: Ledger, broker: RdsQueueBroker, log: RdsTaskLogBroker): Promise<void> {
    await ledger.enqueue('one', newTasks(3));
    const drawn = await ledger.draw('one', { ...drawing, max: 3, token: 't', start: 1 });
    const [first, second, third] = drawn.map(({ delivery: { id, receipt } }) => ({
      id,
      receipt,
      token: 't',
    }));
    if (first === undefined || second === undefined || third === undefined) throw new Error('three tasks');
    await ledger.renew('one', [first], 60_000);
    await ledger.settle('one', [{ task: first, kind: 'completed', report: '{}' }], [second]);
    await ledger.settle('one', [{ task: third, kind: 'retry', afterMs: 0, cause: 'again' }], []);
    await ledger.change('one', 'cancel', [third.id], {});
    await ledger.change('one', 'retry', [third.id], {});
    await ledger.relay('one', 10);
    await broker.ready(['one', 'two']);
    const [delivery] = await broker.receive('one', { ...drawing, leaseMs: 0, max: 1 });
    const again = await broker.receive('one', { ...drawing, max: 1 });
    await broker.extend(
      'one',
      again.map(({ receipt }) => receipt),
      1_000,
    );
    await broker.release(
      'one',
      again.map(({ receipt }) => ({ receipt, delayMs: 0 })),
    );
    if (delivery !== undefined) await broker.acknowledge('one', [delivery.receipt]);
    await log.search({}, { limit: 10 });
    const { next } = await log.search({ statuses: ['enqueued'] }, { limit: 10 });
    if (next !== undefined) await log.search({ statuses: ['enqueued'] }, { limit: 10, after: next });
    await log.search({ ids: ['task-0001'] }, { limit: 1 });
    await log.owed('one', 10);
  }
});

describe('eight connections to one SQLite file', () => {
  it('draw each task once, while others enqueue', async () => {
    const opened = await Promise.all(Array.from({ length: 8 }, () => open()));
    const tasks = newTasks(400);
    const drawn: string[] = [];
    let left = opened.length;
    const enqueueing = (async (): Promise<void> => {
      for (let from = 0; from < tasks.length; from += 20) {
        await opened[0]?.ledger.enqueue('one', tasks.slice(from, from + 20));
      }
    })();
    const drain = async ({ ledger }: Opened, worker: string): Promise<void> => {
      for (let round = 0; drawn.length < tasks.length; round += 1) {
        const token = `${worker}-${round}`;
        const mine = await ledger.draw('one', { ...drawing, worker, max: 10, token, start: 10 });
        drawn.push(...mine.flatMap(({ answer }) => (answer.kind === 'claimed' ? [answer.id] : [])));
        const settlements = mine.map(
          ({ delivery: { id, receipt } }) =>
            ({ task: { id, token, receipt }, kind: 'completed', report: '{}' }) as const,
        );
        const { settled } = await ledger.settle('one', settlements, []);
        expect(settled.every(({ log, message }) => log === 'written' && message === 'done')).toBe(true);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      left -= 1;
    };
    await Promise.all([enqueueing, ...opened.map((one, index) => drain(one, `worker-${index}`))]);
    expect(left).toBe(0);
    expect(drawn.toSorted()).toEqual(tasks.map(({ entry }) => entry.id));
    expect(await opened[0]?.log.stats({})).toEqual({ completed: 400 });
    expect(await opened[0]?.broker.count('one')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  }, 60_000);
});
