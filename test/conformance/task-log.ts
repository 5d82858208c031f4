import { describe, expect } from 'vitest';
import { taskLogChangeCases } from './task-log-change.ts';
import { taskLogClaimCases } from './task-log-claim.ts';
import { taskLogDebtCases } from './task-log-debt.ts';
import { taskLogHoldCases } from './task-log-hold.ts';
import { taskLogSearchCases } from './task-log-search.ts';
import { taskLogSettleCases } from './task-log-settle.ts';
import { casesOn, expectClosed, factsOf } from './scene.ts';
import type { Case, Open } from './scene.ts';
import { claimAll, claimOne, fieldsOf, newEntry, REPORT, rowOf, SETTLEMENTS } from './task-log-scene.ts';
import type { TaskLogScene } from './task-log-scene.ts';

/** What every task log broker keeps to. `open` gives an empty storage each time, its container created. */
export function taskLogConformance(name: string, open: Open<TaskLogScene>): void {
  describe(`${name}: task log broker`, async () => {
    const hasStore = await factsOf(open, ({ log }) => log.store !== undefined);
    const test = casesOn(open);
    lifeCases(test);
    insertCases(test);
    contentCases(test);
    taskLogClaimCases(test);
    taskLogHoldCases(test);
    taskLogSettleCases(test);
    taskLogChangeCases(test);
    taskLogDebtCases(test);
    taskLogSearchCases(test);
    if (hasStore) transactionCases(test);
  });
}

function lifeCases(test: Case<TaskLogScene>): void {
  test('creates its container again, and many at once, and loses no row', async ({ log }) => {
    await log.insert([newEntry('a')]);
    await Promise.all(Array.from({ length: 5 }, () => log.createContainer()));
    expect((await rowOf(log, 'a')).status).toBe('enqueued');
  });

  test('takes calls about nothing', async ({ log }) => {
    expect(await log.insert([])).toEqual([]);
    expect(await claimAll(log, [], 't')).toEqual([]);
    expect(await log.settle([], [])).toEqual({ settled: [], started: [] });
    expect(await log.renew([], 1)).toEqual([]);
    expect(await log.change('cancel', [], {})).toEqual([]);
    expect(await log.pushed([])).toEqual([]);
    await log.append([]);
  });

  test('refuses every call after it was closed, and may be closed again', async ({ log }) => {
    await log.insert([newEntry('a')]);
    await log.close();
    await log.close();
    await expectClosed(log.insert([newEntry('b')]));
    await expectClosed(claimOne(log, 'a', 't'));
    await expectClosed(log.settle([SETTLEMENTS.completed({ id: 'a', token: 't' })], []));
    await expectClosed(log.renew([{ id: 'a', token: 't' }], 1));
    await expectClosed(log.change('cancel', ['a'], {}));
    await expectClosed(log.owed('one', 1));
    await expectClosed(log.search({}, { limit: 1 }));
    await expectClosed(log.stats({}));
    await expectClosed(log.lines('a', { limit: 1 }));
  });
}

function insertCases(test: Case<TaskLogScene>): void {
  test('inserts an enqueued row that is due at once', async ({ log }) => {
    expect(await log.insert([newEntry('a')])).toEqual(['a']);
    const row = await rowOf(log, 'a');
    expect(row).toEqual({
      ...fieldsOf(newEntry('a')),
      status: 'enqueued',
      attempts: 0,
      lapses: 0,
      unknowns: 0,
      report: null,
      worker: null,
      deadReason: null,
      notBefore: row.createdAt,
      claimUntil: null,
      pushAt: null,
      generation: 1,
      cancelRequestedAt: null,
      createdAt: row.createdAt,
      updatedAt: row.createdAt,
      startedAt: null,
      finishedAt: null,
    });
  });

  test('inserts rows that are due later and whose message is owed', async ({ log }) => {
    await log.insert([newEntry('a', { delayMs: 60_000, owedInMs: 30_000 })]);
    const row = await rowOf(log, 'a');
    expect(row.notBefore - row.createdAt).toBe(60_000);
    expect(row.pushAt).toBe(row.createdAt + 30_000);
    expect(row.generation).toBe(1);
  });

  test('leaves rows that are there as they are', async ({ log }) => {
    expect(await log.insert([newEntry('a')])).toEqual(['a']);
    const before = await rowOf(log, 'a');
    expect(await log.insert([newEntry('b'), newEntry('a', { label: 'Another' }), newEntry('c')])).toEqual([
      'b',
      'c',
    ]);
    expect(await rowOf(log, 'a')).toEqual(before);
  });

  test('inserts an id once when many insert it at once', async ({ log }) => {
    const ids = Array.from({ length: 20 }, (_, index) => `task-${index}`);
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => log.insert(ids.map((id) => newEntry(id)))),
    );
    expect(answers.flat().toSorted()).toEqual(ids.toSorted());
  });

  test('inserts a row claimed, and started or not', async ({ log }) => {
    for (const start of [true, false]) {
      const id = start ? 'started' : 'held';
      const claim = { token: 't', worker: 'host:1', leaseMs: 60_000, start };
      await log.insert([newEntry(id, { claim })]);
      const row = await rowOf(log, id);
      expect(row.status).toBe(start ? 'running' : 'dequeued');
      expect(row.worker).toBe('host:1');
      expect(row.claimUntil).toBe(row.createdAt + 60_000);
      expect(row.startedAt).toBe(start ? row.createdAt : null);
      expect((await claimOne(log, id, 'another')).kind).toBe('held');
      expect((await claimOne(log, id, 't')).kind).toBe('claimed');
    }
  });
}

function contentCases(test: Case<TaskLogScene>): void {
  test('gives every field back as it was', async ({ log }) => {
    const text = 'Grüße, 日本語, 👩‍👩‍👧 \'"\\ \t\r\n $1 ? :a %s';
    const entry = newEntry('a', {
      queue: 'Queue_2',
      taskName: 'Some.Task name',
      label: text,
      owner: 'Zoë',
      category: 'catégorie',
      parentId: 'parent-1',
      masterStatus: true,
      priority: -32_768,
      group: 'group',
      envelope: text.repeat(10_000),
    });
    await log.insert([entry]);
    const row = await rowOf(log, 'a');
    expect(row).toMatchObject(fieldsOf(entry));
  });

  test('tells ids apart that differ in case', async ({ log }) => {
    expect(await log.insert([newEntry('a'), newEntry('A')])).toEqual(['a', 'A']);
    expect((await rowOf(log, 'A')).label).toBe('Label of A');
  });
}

function transactionCases(test: Case<TaskLogScene>): void {
  test('commits what a transaction did', async ({ log }) => {
    await log.store?.transaction(async (tx) => {
      await log.insert([newEntry('a')], tx);
      await log.claim(['a'], { worker: 'w', token: 't', leaseMs: 60_000, start: 1, owe: false }, tx);
      await log.settle([SETTLEMENTS.completed({ id: 'a', token: 't' })], [], tx);
    });
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'completed', report: REPORT, attempts: 1 });
  });

  test('takes back what a transaction did that failed', async ({ log }) => {
    await log.insert([newEntry('kept')]);
    const work = log.store?.transaction(async (tx) => {
      await log.insert([newEntry('a')], tx);
      await log.change('cancel', ['kept'], {}, tx);
      throw new Error('on purpose');
    });
    await expect(work).rejects.toThrow('on purpose');
    expect((await log.search({}, { limit: 10 })).entries.map((row) => [row.id, row.status])).toEqual([
      ['kept', 'enqueued'],
    ]);
  });
}
