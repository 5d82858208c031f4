import { expect } from 'vitest';
import { idsOf, LONG_MS, one, SHORT_MS, SHORT_PASSED_MS } from './scene.ts';
import type { Case } from './scene.ts';
import { insertHeld, newEntry, rowOf, settleOne, SETTLEMENTS } from './task-log-scene.ts';
import type { TaskLogScene } from './task-log-scene.ts';

/** Messages that somebody owes a queue. */
export function taskLogDebtCases(test: Case<TaskLogScene>): void {
  owedCases(test);
  pushedCases(test);
}

function owedCases(test: Case<TaskLogScene>): void {
  test('lists what is owed to a queue, the oldest debt first', async (scene) => {
    const { log } = scene;
    await log.insert([
      newEntry('third', { owedInMs: SHORT_MS }),
      newEntry('first', { owedInMs: 0 }),
      newEntry('second', { owedInMs: SHORT_MS / 2 }),
      newEntry('not yet', { owedInMs: LONG_MS }),
      newEntry('never', { owedInMs: null }),
      newEntry('elsewhere', { owedInMs: 0, queue: 'two' }),
    ]);
    await scene.pass(SHORT_PASSED_MS);
    const rows = await log.owed('one', 10);
    expect(rows.map((row) => row.entry.id)).toEqual(['first', 'second', 'third']);
    expect(rows[0]?.entry).toEqual(await rowOf(log, 'first'));
    expect((await log.owed('one', 2)).map((row) => row.entry.id)).toEqual(['first', 'second']);
    expect((await log.owed('two', 10)).map((row) => row.entry.id)).toEqual(['elsewhere']);
    expect(await log.owed('none', 10)).toEqual([]);
  });

  test('says when an owed row is due', async (scene) => {
    const { log } = scene;
    await log.insert([newEntry('due', { owedInMs: 0 }), newEntry('later', { owedInMs: 0, delayMs: 60_000 })]);
    await scene.pass(50);
    const rows = new Map((await log.owed('one', 10)).map((row) => [row.entry.id, row.dueInMs]));
    expect(rows.get('due')).toBeLessThanOrEqual(0);
    expect(rows.get('later')).toBeGreaterThan(0);
    expect(rows.get('later')).toBeLessThanOrEqual(60_000);
  });

  test('owes nothing for a row that is finished', async (scene) => {
    const { log } = scene;
    for (const kind of ['completed', 'child_running', 'retry'] as const) {
      const task = await insertHeld(log, kind, 't', true, { owedInMs: 0 });
      await settleOne(log, { ...SETTLEMENTS[kind](task), ...(kind === 'retry' ? { afterMs: 0 } : {}) });
    }
    await insertHeld(log, 'running', 't', true, { owedInMs: 0 });
    await log.insert([newEntry('cancelled', { owedInMs: 0 })]);
    await log.change('cancel', ['cancelled'], {});
    await scene.pass(50);
    const owed = await log.owed('one', 10);
    expect(idsOf(owed.map((row) => row.entry)).toSorted()).toEqual(['retry', 'running']);
  });
}

function pushedCases(test: Case<TaskLogScene>): void {
  test('clears a debt for good or until later', async ({ log }) => {
    await log.insert([newEntry('a', { owedInMs: 0 }), newEntry('b', { owedInMs: 0 })]);
    const cleared = await log.pushed([
      { id: 'a', generation: 1, nextPushInMs: null },
      { id: 'b', generation: 1, nextPushInMs: LONG_MS },
    ]);
    expect(cleared.toSorted()).toEqual(['a', 'b']);
    expect(await rowOf(log, 'a')).toMatchObject({ pushAt: null, generation: 1 });
    const row = await rowOf(log, 'b');
    expect(row.pushAt).toBeGreaterThanOrEqual(row.createdAt + LONG_MS);
    expect(row.generation).toBe(1);
    expect(await log.owed('one', 10)).toEqual([]);
  });

  test('does not clear a debt that is newer than the push', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', true, { owedInMs: 0 });
    const before = one(await log.owed('one', 10)).entry;
    await settleOne(log, { ...SETTLEMENTS.retry(task), afterMs: 0 });
    const answer = await log.pushed([{ id: 'a', generation: before.generation, nextPushInMs: null }]);
    expect(answer).toEqual([]);
    expect((await rowOf(log, 'a')).pushAt).not.toBeNull();
    expect(await log.pushed([{ id: 'nobody', generation: 1, nextPushInMs: null }])).toEqual([]);
  });
}
