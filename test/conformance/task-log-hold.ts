import { expect } from 'vitest';
import { LONG_MS, SHORT_MS, SHORT_PASSED_MS } from './scene.ts';
import type { Case } from './scene.ts';
import { claimOne, insertHeld, insertIn, newEntry, rowOf, settleOne, SETTLEMENTS } from './task-log-scene.ts';
import type { TaskLogScene } from './task-log-scene.ts';

/** What the holder of a claim does before its end: start and renew. */
export function taskLogHoldCases(test: Case<TaskLogScene>): void {
  startCases(test);
  renewCases(test);
}

function startCases(test: Case<TaskLogScene>): void {
  test('starts a prefetched task in the call that settles another, and again', async (scene) => {
    const { log } = scene;
    const done = await insertHeld(log, 'done', 't', true);
    const next = await insertHeld(log, 'next', 't', false);
    const { started } = await log.settle([SETTLEMENTS.completed(done)], [next]);
    expect(started).toEqual([{ id: 'next', kind: 'started' }]);
    const row = await rowOf(log, 'next');
    expect(row).toMatchObject({ status: 'running', startedAt: row.updatedAt });
    await scene.pass(10);
    expect((await log.settle([], [next])).started).toEqual(started);
    expect(await rowOf(log, 'next')).toEqual(row);
    expect((await rowOf(log, 'done')).status).toBe('completed');
  });

  test('starts nothing that is not held under the token', async ({ log }) => {
    await insertHeld(log, 'another', 'x', false);
    await insertIn(log, 'done', 't', 'completed');
    await log.insert([newEntry('free')]);
    const cancelled = await insertHeld(log, 'cancelled', 't', false);
    await log.change('cancel', ['cancelled'], {});
    const tasks = ['another', 'done', 'free', 'nobody'].map((id) => ({ id, token: 't' }));
    const { started } = await log.settle([], [...tasks, cancelled]);
    expect(started.map((answer) => answer.kind)).toEqual(['lost', 'lost', 'lost', 'lost', 'lost']);
    expect(await log.stats({})).toEqual({ dequeued: 1, completed: 1, enqueued: 1, cancelled: 1 });
  });

  test('starts a run that was taken over, once that is asked for', async (scene) => {
    const { log } = scene;
    await insertHeld(log, 'a', 'x', true, { leaseMs: SHORT_MS });
    await scene.pass(SHORT_PASSED_MS);
    await claimOne(log, 'a', 't');
    const task = { id: 'a', token: 't' };
    expect((await log.settle([], [task])).started).toEqual([{ id: 'a', kind: 'started' }]);
    await settleOne(log, SETTLEMENTS.completed(task));
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'completed', attempts: 1, lapses: 1 });
  });
}

function renewCases(test: Case<TaskLogScene>): void {
  test('renews a claim, also one that had lapsed', async (scene) => {
    const { log } = scene;
    const tasks = [
      await insertHeld(log, 'a', 't', true, { leaseMs: SHORT_MS }),
      await insertHeld(log, 'b', 't', false, { leaseMs: SHORT_MS }),
    ];
    await scene.pass(SHORT_PASSED_MS);
    expect(await log.renew(tasks, LONG_MS)).toEqual([
      { id: 'a', kind: 'renewed' },
      { id: 'b', kind: 'renewed' },
    ]);
    const row = await rowOf(log, 'a');
    expect(row.claimUntil).toBe(row.updatedAt + LONG_MS);
    expect(row).toMatchObject({ status: 'running', pushAt: null, generation: 1 });
    expect((await claimOne(log, 'b', 'another')).kind).toBe('held');
  });

  test('moves the debt of a message to the new end of its claim', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', true, { owedInMs: 30_000 });
    await log.renew([task], LONG_MS);
    const row = await rowOf(log, 'a');
    expect(row.pushAt).toBe(row.claimUntil);
    expect(row.generation).toBe(2);
  });

  test('tells the holder that its end was asked for', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', true, { leaseMs: 60_000 });
    await log.change('cancel', ['a'], {});
    expect(await log.renew([task], LONG_MS)).toEqual([{ id: 'a', kind: 'cancel' }]);
    const row = await rowOf(log, 'a');
    expect(row.claimUntil).toBe(row.updatedAt + LONG_MS);
    expect(row.status).toBe('running');
  });

  test('renews nothing that is lost', async ({ log }) => {
    await insertHeld(log, 'another', 'x', true);
    await insertIn(log, 'done', 't', 'completed');
    await log.insert([newEntry('free')]);
    const before = await rowOf(log, 'another');
    const ids = ['another', 'done', 'free', 'nobody'];
    expect(
      await log.renew(
        ids.map((id) => ({ id, token: 't' })),
        LONG_MS,
      ),
    ).toEqual(ids.map((id) => ({ id, kind: 'lost' })));
    expect(await rowOf(log, 'another')).toEqual(before);
  });
}
