import { expect } from 'vitest';
import type { TaskLogQuery } from '../../src/task-log-broker.ts';
import { idsOf } from './scene.ts';
import type { Case } from './scene.ts';
import { insertHeld, insertIn, newEntry, rowOf } from './task-log-scene.ts';
import type { TaskLogScene } from './task-log-scene.ts';

export function taskLogSearchCases(test: Case<TaskLogScene>): void {
  queryCases(test);
  timeCases(test);
  pageCases(test);
  statsCases(test);
  lineCases(test);
}

async function insertVariety({ log }: TaskLogScene): Promise<void> {
  await log.insert([
    newEntry('a', { owner: 'ann', taskName: 'mail', category: 'post' }),
    newEntry('b', { owner: 'Ann', taskName: 'mail', queue: 'two', parentId: 'a' }),
    newEntry('c', { owner: 'bob', taskName: 'bill', category: 'money', parentId: 'a' }),
  ]);
  await insertIn(log, 'd', 't', 'completed');
}

function queryCases(test: Case<TaskLogScene>): void {
  const queries: readonly (readonly [TaskLogQuery, readonly string[]])[] = [
    [{}, ['a', 'b', 'c', 'd']],
    [{ ids: ['c', 'a', 'a', 'nobody'] }, ['a', 'c']],
    [{ statuses: ['completed', 'failed'] }, ['d']],
    [{ notStatuses: ['completed'] }, ['a', 'b', 'c']],
    [{ taskNames: ['mail', 'bill'] }, ['a', 'b', 'c']],
    [{ taskNames: ['MAIL'] }, []],
    [{ queues: ['two'] }, ['b']],
    [{ owner: 'ann' }, ['a']],
    [{ parentId: 'a' }, ['b', 'c']],
    [{ category: 'money' }, ['c']],
    [{ parentId: 'a', taskNames: ['mail'] }, ['b']],
    [{ owner: "x' or '1'='1" }, []],
    [{ owner: '%' }, []],
    [{ ids: [] }, []],
    [{ statuses: [] }, []],
    [{ taskNames: [] }, []],
    [{ queues: [] }, []],
    [{ notStatuses: [] }, ['a', 'b', 'c', 'd']],
  ];
  for (const [query, ids] of queries) {
    test(`finds ${ids.length} of 4 rows by ${JSON.stringify(query)}`, async (scene) => {
      await insertVariety(scene);
      const { entries, next } = await scene.log.search(query, { limit: 10 });
      expect(idsOf(entries).toSorted()).toEqual(ids);
      expect(next).toBeUndefined();
    });
  }
}

function timeCases(test: Case<TaskLogScene>): void {
  test('finds rows by the time of their creation and of their end', async (scene) => {
    const { log } = scene;
    await insertIn(log, 'early', 't', 'completed');
    await scene.pass(50);
    await log.insert([newEntry('late')]);
    const early = await rowOf(log, 'early');
    const late = await rowOf(log, 'late');
    const between = Math.floor((early.createdAt + late.createdAt) / 2);
    const find = async (query: TaskLogQuery): Promise<string[]> =>
      idsOf((await log.search(query, { limit: 10 })).entries);
    expect(await find({ createdBefore: late.createdAt })).toEqual(['early']);
    expect(await find({ createdAfter: between })).toEqual(['late']);
    expect(await find({ createdBefore: early.createdAt - 1 })).toEqual([]);
    expect(await find({ finishedBefore: (early.finishedAt ?? 0) + 1_000_000 })).toEqual(['early']);
    expect(await find({ finishedBefore: early.createdAt - 1 })).toEqual([]);
  });
}

function pageCases(test: Case<TaskLogScene>): void {
  const ids = Array.from({ length: 25 }, (_, index) => `task-${String(index).padStart(2, '0')}`);

  for (const order of ['newest', 'oldest'] as const) {
    test(`lists every row once, page by page, the ${order} first`, async (scene) => {
      const { log } = scene;
      for (let start = 0; start < ids.length; start += 5) {
        await log.insert(ids.slice(start, start + 5).map((id) => newEntry(id)));
        await scene.pass(5);
      }
      const seen: string[] = [];
      for (let after: string | undefined, pages = 0; pages < 10; pages += 1) {
        const page = await log.search({}, { limit: 4, order, ...(after === undefined ? {} : { after }) });
        seen.push(...idsOf(page.entries));
        after = page.next;
        if (after === undefined) break;
        await log.insert([newEntry(order === 'newest' ? `zz-${pages}` : `task-00-${pages}`)]);
      }
      const listed = seen.filter((id) => ids.includes(id));
      expect(listed).toEqual(order === 'newest' ? ids.toReversed() : ids);
    });
  }

  test('lists the newest first, and skips an offset', async ({ log }) => {
    await log.insert(ids.map((id) => newEntry(id)));
    const newest = ids.toReversed();
    expect(idsOf((await log.search({}, { limit: 3 })).entries)).toEqual(newest.slice(0, 3));
    expect(idsOf((await log.search({}, { limit: 3, offset: 20 })).entries)).toEqual(newest.slice(20, 23));
    expect(idsOf((await log.search({}, { limit: 3, offset: 24 })).entries)).toEqual(newest.slice(24));
    expect((await log.search({}, { limit: 3, offset: 30 })).entries).toEqual([]);
  });

  test('names no next page after the last', async ({ log }) => {
    await log.insert(ids.slice(0, 4).map((id) => newEntry(id)));
    expect((await log.search({}, { limit: 3 })).next).toBeTypeOf('string');
    const { next } = await log.search({}, { limit: 3 });
    const last = await log.search({}, { limit: 3, ...(next === undefined ? {} : { after: next }) });
    expect(idsOf(last.entries)).toEqual(['task-00']);
    expect(last.next).toBeUndefined();
  });
}

function statsCases(test: Case<TaskLogScene>): void {
  test('counts rows by status', async (scene) => {
    await insertVariety(scene);
    await insertIn(scene.log, 'e', 't', 'failed');
    expect(await scene.log.stats({})).toEqual({ enqueued: 3, completed: 1, failed: 1 });
    expect(await scene.log.stats({ taskNames: ['mail'] })).toEqual({ enqueued: 2 });
    expect(await scene.log.stats({ ids: [] })).toEqual({});
  });
}

function lineCases(test: Case<TaskLogScene>): void {
  test('keeps lines in order, each with its task', async ({ log }) => {
    await log.insert([newEntry('a'), newEntry('b')]);
    const at = Date.UTC(2026, 0, 1);
    const texts = ['one', 'Grüße 👍', 'three', 'four'];
    await log.append(
      texts.map((text, index) => ({ taskId: 'a', kind: 'log' as const, at: at + index, text })),
    );
    await log.append([{ taskId: 'b', kind: 'progress', at, text: '50' }]);
    const oldest = await log.lines('a', { limit: 10, order: 'oldest' });
    expect(oldest).toEqual(texts.map((text, index) => ({ taskId: 'a', kind: 'log', at: at + index, text })));
    expect(await log.lines('a', { limit: 10, order: 'newest' })).toEqual(oldest.toReversed());
    expect(await log.lines('a', { limit: 2, offset: 1, order: 'oldest' })).toEqual(oldest.slice(1, 3));
    expect(await log.lines('b', { limit: 10 })).toEqual([{ taskId: 'b', kind: 'progress', at, text: '50' }]);
    expect(await log.lines('nobody', { limit: 10 })).toEqual([]);
  });

  test('keeps a line with a token only while that token holds the task', async ({ log }) => {
    await insertHeld(log, 'held', 't', true);
    await insertIn(log, 'done', 't', 'completed');
    const at = Date.UTC(2026, 0, 1);
    await log.append([
      { taskId: 'held', kind: 'progress', at, text: 'kept', token: 't' },
      { taskId: 'held', kind: 'progress', at, text: 'refused', token: 'wrong' },
      { taskId: 'done', kind: 'progress', at, text: 'refused', token: 't' },
      { taskId: 'nobody', kind: 'progress', at, text: 'refused', token: 't' },
    ]);
    expect(await log.lines('held', { limit: 10 })).toEqual([
      { taskId: 'held', kind: 'progress', at, text: 'kept' },
    ]);
    expect(await log.lines('done', { limit: 10 })).toEqual([]);
    expect(await log.lines('nobody', { limit: 10 })).toEqual([]);
  });
}
