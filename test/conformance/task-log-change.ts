import { expect } from 'vitest';
import type { TaskAct } from '../../src/task-log-broker.ts';
import { mayChange, TASK_STATUSES } from '../../src/task-status.ts';
import type { TaskStatus } from '../../src/task-status.ts';
import { LONG_MS, one } from './scene.ts';
import type { Case } from './scene.ts';
import { claimOne, insertHeld, insertIn, newEntry, rowOf, settleOne, SETTLEMENTS } from './task-log-scene.ts';
import type { TaskLogScene } from './task-log-scene.ts';

const ACTS: readonly TaskAct[] = ['cancel', 'archive', 'retry', 'fail'];

/** What the row says after the act; null when the act does not change it. */
function after(act: TaskAct, from: TaskStatus, force: boolean): TaskStatus | null {
  switch (act) {
    case 'cancel':
      if (from === 'cancelled' || from === 'archived' || !mayChange(from, 'cancelled', force)) return null;
      return from === 'running' && !force ? 'running' : 'cancelled';
    case 'archive':
      return from !== 'archived' && mayChange(from, 'archived', force) ? 'archived' : null;
    case 'retry':
      return from === 'failed' || from === 'cancelled' ? 'enqueued' : null;
    case 'fail':
      return from === 'enqueued' ? 'failed' : null;
  }
}

export function taskLogChangeCases(test: Case<TaskLogScene>): void {
  tableCases(test);
  cancelCases(test);
  fenceCases(test);
  retryCases(test);
  failCases(test);
}

function tableCases(test: Case<TaskLogScene>): void {
  for (const act of ACTS) {
    for (const force of [false, true]) {
      test(`changes by ${act}${force ? ' with force' : ''} what the table of statuses allows`, async ({
        log,
      }) => {
        for (const status of TASK_STATUSES) await insertIn(log, `was-${status}`, 't', status);
        const before = new Map((await log.search({}, { limit: 100 })).entries.map((row) => [row.id, row]));
        const ids = TASK_STATUSES.map((status) => `was-${status}`);
        const answers = await log.change(act, [...ids, 'nobody'], { force });
        const now = new Map(answers.map((answer) => [answer.id, answer]));
        for (const status of TASK_STATUSES) {
          const id = `was-${status}`;
          const wanted = after(act, status, force);
          const row = await rowOf(log, id);
          expect([id, now.get(id)?.status ?? null]).toEqual([id, wanted]);
          if (wanted === null) expect(row).toEqual(before.get(id));
          else expect(row).toMatchObject({ status: wanted, generation: now.get(id)?.generation });
        }
        expect(now.has('nobody')).toBe(false);
      });
    }
  }

  test('fences the row that it archives by force', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', true, { owedInMs: LONG_MS });
    await log.change('archive', ['a'], { force: true });
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'archived', claimUntil: null, pushAt: null });
    expect(await settleOne(log, SETTLEMENTS.completed(task))).toEqual({ id: 'a', log: 'lost' });
  });
}

function cancelCases(test: Case<TaskLogScene>): void {
  test('cancels a row that waits', async ({ log }) => {
    await log.insert([newEntry('a', { owedInMs: 30_000 })]);
    const answer = one(await log.change('cancel', ['a'], {}));
    const row = await rowOf(log, 'a');
    expect(row).toMatchObject({ status: 'cancelled', pushAt: null, finishedAt: row.updatedAt });
    expect(row.generation).toBeGreaterThan(1);
    expect(answer.generation).toBe(row.generation);
    expect((await claimOne(log, 'a', 't')).kind).toBe('finished');
  });

  test('notes the wish to cancel a run, and notes it again', async ({ log }) => {
    await insertHeld(log, 'a', 't', true, { leaseMs: LONG_MS });
    const before = await rowOf(log, 'a');
    expect(await log.change('cancel', ['a'], {})).toMatchObject([{ id: 'a', status: 'running' }]);
    const row = await rowOf(log, 'a');
    expect(row.cancelRequestedAt).toBe(row.updatedAt);
    expect(row).toMatchObject({ status: 'running', claimUntil: before.claimUntil, finishedAt: null });
    expect(await log.change('cancel', ['a'], {})).toMatchObject([{ id: 'a', status: 'running' }]);
  });

  test('answers an id once that is named twice', async ({ log }) => {
    await log.insert([newEntry('a')]);
    await insertHeld(log, 'b', 't', true);
    expect(await log.change('cancel', ['a', 'b', 'b', 'a'], {})).toHaveLength(2);
  });
}

function fenceCases(test: Case<TaskLogScene>): void {
  test('fences the holder of a task that it cancels before its start', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', false, { leaseMs: LONG_MS });
    const { claimUntil } = await rowOf(log, 'a');
    await log.change('cancel', ['a'], {});
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'cancelled', claimUntil });
    expect(await log.settle([SETTLEMENTS.completed(task)], [task])).toEqual({
      settled: [{ id: 'a', log: 'lost' }],
      started: [{ id: 'a', kind: 'lost' }],
    });
    expect(await log.renew([task], LONG_MS)).toEqual([{ id: 'a', kind: 'lost' }]);
  });

  test('fences a run that it cancels by force', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', true);
    expect(await log.change('cancel', ['a'], { force: true })).toMatchObject([{ status: 'cancelled' }]);
    for (const settlement of Object.values(SETTLEMENTS)) {
      expect(await settleOne(log, settlement(task))).toEqual({ id: 'a', log: 'lost' });
    }
    expect(await log.renew([task], LONG_MS)).toEqual([{ id: 'a', kind: 'lost' }]);
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'cancelled', report: null });
  });
}

function retryCases(test: Case<TaskLogScene>): void {
  test('sends a failed task again with everything fresh', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', true);
    await settleOne(log, { ...SETTLEMENTS.failed(task), deadReason: 'exhausted' });
    const answer = one(await log.change('retry', ['a'], { owedInMs: 30_000 }));
    const row = await rowOf(log, 'a');
    expect(row).toMatchObject({
      status: 'enqueued',
      attempts: 0,
      lapses: 0,
      unknowns: 0,
      startedAt: null,
      finishedAt: null,
      cancelRequestedAt: null,
      report: null,
      deadReason: null,
      claimUntil: null,
      notBefore: row.updatedAt,
      pushAt: row.updatedAt + 30_000,
    });
    expect(answer).toEqual({ id: 'a', status: 'enqueued', generation: row.generation, dueInMs: 0 });
    for (const settlement of Object.values(SETTLEMENTS)) {
      expect(await settleOne(log, settlement(task))).toEqual({ id: 'a', log: 'lost' });
    }
    expect((await claimOne(log, 'a', 'next', { start: 1 })).kind).toBe('claimed');
  });

  test('owes no message when it is pushed in the same commit', async ({ log }) => {
    await insertIn(log, 'a', 't', 'cancelled');
    await log.change('retry', ['a'], { owedInMs: null });
    await insertIn(log, 'b', 't', 'cancelled');
    await log.change('retry', ['b'], {});
    expect([(await rowOf(log, 'a')).pushAt, (await rowOf(log, 'b')).pushAt]).toEqual([null, null]);
  });

  test('lets a retry wait for the claim that a cancellation left behind', async ({ log }) => {
    await insertHeld(log, 'a', 't', false, { leaseMs: LONG_MS });
    const { claimUntil } = await rowOf(log, 'a');
    await log.change('cancel', ['a'], {});
    const answer = one(await log.change('retry', ['a'], {}));
    expect(answer.dueInMs).toBeGreaterThan(0);
    expect(answer.dueInMs).toBeLessThanOrEqual(LONG_MS);
    expect(await rowOf(log, 'a')).toMatchObject({ notBefore: claimUntil, claimUntil: null });
    expect((await claimOne(log, 'a', 'next')).kind).toBe('early');
  });

  test('lets one of many retries through', async ({ log }) => {
    await insertIn(log, 'a', 't', 'failed');
    const answers = await Promise.all(Array.from({ length: 4 }, () => log.change('retry', ['a'], {})));
    expect(answers.flat()).toHaveLength(1);
  });
}

function failCases(test: Case<TaskLogScene>): void {
  test('fails a row whose message was refused', async ({ log }) => {
    await log.insert([newEntry('a', { owedInMs: 30_000 })]);
    await log.change('fail', ['a'], { report: 'the report', deadReason: 'PUSH_FAILED' });
    const row = await rowOf(log, 'a');
    expect(row).toMatchObject({
      status: 'failed',
      report: 'the report',
      deadReason: 'PUSH_FAILED',
      pushAt: null,
      finishedAt: row.updatedAt,
    });
    expect((await claimOne(log, 'a', 't')).kind).toBe('finished');
  });
}
