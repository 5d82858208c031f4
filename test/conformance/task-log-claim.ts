import { expect } from 'vitest';
import { TASK_STATUSES } from '../../src/task-status.ts';
import { LONG_MS, SHORT_MS, SHORT_PASSED_MS } from './scene.ts';
import type { Case } from './scene.ts';
import { claimAll, claimOne, insertHeld, insertIn, newEntry, rowOf, SETTLEMENTS } from './task-log-scene.ts';
import type { TaskLogScene } from './task-log-scene.ts';

export function taskLogClaimCases(test: Case<TaskLogScene>): void {
  claimCases(test);
  startCases(test);
  repeatCases(test);
  refusalCases(test);
  takeoverCases(test);
  cancelledTakeoverCase(test);
  raceCases(test);
}

function claimCases(test: Case<TaskLogScene>): void {
  test('claims a row that is due', async ({ log }) => {
    await log.insert([newEntry('a')]);
    const answer = await claimOne(log, 'a', 't', { worker: 'host:1', leaseMs: 60_000 });
    expect(answer).toEqual({
      id: 'a',
      kind: 'claimed',
      started: false,
      attempts: 0,
      lapses: 0,
      unknowns: 0,
      leaseLeftMs: 60_000,
    });
    const row = await rowOf(log, 'a');
    expect(row).toMatchObject({ status: 'dequeued', worker: 'host:1', startedAt: null, pushAt: null });
    expect(row.claimUntil).toBe(row.updatedAt + 60_000);
  });

  test('answers in the order of the ids, and says what is missing', async ({ log }) => {
    await log.insert([newEntry('a'), newEntry('b'), newEntry('c')]);
    const answers = await claimAll(log, ['c', 'nobody', 'a', 'b'], 't');
    expect(answers.map(({ id, kind }) => [id, kind])).toEqual([
      ['c', 'claimed'],
      ['nobody', 'missing'],
      ['a', 'claimed'],
      ['b', 'claimed'],
    ]);
  });

  test('claims 300 rows in one call', async ({ log }) => {
    const ids = Array.from({ length: 300 }, (_, index) => `task-${index}`);
    await log.insert(ids.map((id) => newEntry(id)));
    const answers = await claimAll(log, ids, 't', { start: 100 });
    expect(answers.map((answer) => answer.id)).toEqual(ids);
    expect(answers.every((answer) => answer.kind === 'claimed')).toBe(true);
    expect(await log.stats({})).toEqual({ running: 100, dequeued: 200 });
  });
}

function startCases(test: Case<TaskLogScene>): void {
  test('starts the first of the ids, as many as asked for', async ({ log }) => {
    await log.insert(['d', 'b', 'a', 'c'].map((id) => newEntry(id)));
    await insertIn(log, 'done', 'x', 'completed');
    const answers = await claimAll(log, ['done', 'c', 'a', 'd', 'b'], 't', { start: 2 });
    expect(answers.map((answer) => answer.kind === 'claimed' && answer.started)).toEqual([
      false,
      true,
      true,
      false,
      false,
    ]);
    const started = await rowOf(log, 'a');
    expect(started).toMatchObject({ status: 'running', startedAt: started.updatedAt });
    expect(await rowOf(log, 'd')).toMatchObject({ status: 'dequeued', startedAt: null });
  });

  test('counts a run that had begun as no start of this draw', async (scene) => {
    const { log } = scene;
    await insertHeld(log, 'crashed', 'x', true, { leaseMs: SHORT_MS });
    await log.insert([newEntry('fresh')]);
    await scene.pass(SHORT_PASSED_MS);
    const answers = await claimAll(log, ['crashed', 'fresh'], 't', { start: 1 });
    expect(answers).toMatchObject([
      { id: 'crashed', kind: 'claimed', started: false },
      { id: 'fresh', kind: 'claimed', started: true },
    ]);
  });
}

function repeatCases(test: Case<TaskLogScene>): void {
  test('answers a repeated claim as it did, and changes nothing', async (scene) => {
    const { log } = scene;
    await log.insert([newEntry('a'), newEntry('b')]);
    const first = await claimAll(log, ['a', 'b'], 't', { start: 1 });
    const rows = [await rowOf(log, 'a'), await rowOf(log, 'b')];
    await scene.pass(10);
    const second = await claimAll(log, ['a', 'b'], 't', { start: 2 });
    const kinds = (answers: typeof first): unknown[] =>
      answers.map((answer) => [answer.kind, answer.kind === 'claimed' && answer.started]);
    expect(kinds(first)).toEqual([
      ['claimed', true],
      ['claimed', false],
    ]);
    expect(kinds(second)).toEqual(kinds(first));
    expect([await rowOf(log, 'a'), await rowOf(log, 'b')]).toEqual(rows);
  });

  test('claims an id once that is named twice', async ({ log }) => {
    await log.insert([newEntry('a'), newEntry('b')]);
    const answers = await claimAll(log, ['a', 'a', 'b'], 't', { start: 2 });
    expect(answers.map((answer) => [answer.id, answer.kind])).toEqual([
      ['a', 'claimed'],
      ['a', 'claimed'],
      ['b', 'claimed'],
    ]);
    expect(await log.stats({})).toEqual({ running: 2 });
    expect((await rowOf(log, 'a')).lapses).toBe(0);
  });
}

function refusalCases(test: Case<TaskLogScene>): void {
  for (const status of TASK_STATUSES) {
    if (status === 'enqueued' || status === 'dequeued' || status === 'running') continue;
    test(`never claims a row that is ${status}`, async ({ log }) => {
      await insertIn(log, 'a', 'x', status);
      const before = await rowOf(log, 'a');
      expect(await claimOne(log, 'a', 't', { start: 1, owe: true })).toEqual({
        id: 'a',
        kind: 'finished',
        status,
      });
      expect(await claimOne(log, 'a', 'x', { start: 1 })).toEqual({ id: 'a', kind: 'finished', status });
      expect(await rowOf(log, 'a')).toEqual(before);
    });
  }

  test('says when a row is due that is not yet', async (scene) => {
    const { log } = scene;
    await log.insert([newEntry('a', { delayMs: 60_000 }), newEntry('b', { delayMs: SHORT_MS })]);
    const answer = await claimOne(log, 'a', 't', { start: 1 });
    expect(answer.kind).toBe('early');
    expect('inMs' in answer && answer.inMs > 0 && answer.inMs <= 60_000).toBe(true);
    expect((await rowOf(log, 'a')).status).toBe('enqueued');
    await scene.pass(SHORT_PASSED_MS);
    expect((await claimOne(log, 'b', 't')).kind).toBe('claimed');
  });

  test('says how long a living claim holds a row', async ({ log }) => {
    for (const start of [true, false]) {
      const id = start ? 'running' : 'dequeued';
      await insertHeld(log, id, 'x', start, { leaseMs: 60_000 });
      const before = await rowOf(log, id);
      const answer = await claimOne(log, id, 't', { start: 1 });
      expect(answer.kind).toBe('held');
      expect('inMs' in answer && answer.inMs > 0 && answer.inMs <= 60_000).toBe(true);
      expect(await rowOf(log, id)).toEqual(before);
    }
  });

  test('notes on request that the message of a held row is owed when its claim ends', async ({ log }) => {
    await insertHeld(log, 'a', 'x', true, { leaseMs: LONG_MS });
    expect((await claimOne(log, 'a', 't', { owe: true })).kind).toBe('held');
    const row = await rowOf(log, 'a');
    expect(row.pushAt).toBe(row.claimUntil);
    expect(row.generation).toBe(2);
  });
}

function takeoverCases(test: Case<TaskLogScene>): void {
  test('takes over a lapsed claim that had not started, at no cost', async (scene) => {
    const { log } = scene;
    await insertHeld(log, 'a', 'x', false, { leaseMs: SHORT_MS });
    await scene.pass(SHORT_PASSED_MS);
    const answer = await claimOne(log, 'a', 't', { worker: 'second', start: 1 });
    expect(answer).toMatchObject({
      kind: 'claimed',
      started: true,
      attempts: 0,
      lapses: 0,
      lapsed: { worker: 'worker', started: false },
    });
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'running', worker: 'second', lapses: 0 });
  });

  test('takes over a lapsed run, counts the lapse and does not start it', async (scene) => {
    const { log } = scene;
    await insertHeld(log, 'a', 'x', true, { leaseMs: SHORT_MS });
    await scene.pass(SHORT_PASSED_MS);
    const answer = await claimOne(log, 'a', 't', { worker: 'second', start: 1 });
    expect(answer).toMatchObject({
      kind: 'claimed',
      started: false,
      attempts: 0,
      lapses: 1,
      lapsed: { worker: 'worker', started: true },
    });
    expect(await rowOf(log, 'a')).toMatchObject({
      status: 'dequeued',
      worker: 'second',
      lapses: 1,
      attempts: 0,
      startedAt: null,
    });
  });

  test('refuses everything of the holder that was taken over', async (scene) => {
    const { log } = scene;
    const old = await insertHeld(log, 'a', 'x', true, { leaseMs: SHORT_MS });
    await scene.pass(SHORT_PASSED_MS);
    await claimOne(log, 'a', 't');
    const before = await rowOf(log, 'a');
    for (const settlement of Object.values(SETTLEMENTS)) {
      const { settled, started } = await log.settle([settlement(old)], [old]);
      expect(settled).toEqual([{ id: 'a', log: 'lost' }]);
      expect(started).toEqual([{ id: 'a', kind: 'lost' }]);
    }
    expect(await log.renew([old], LONG_MS)).toEqual([{ id: 'a', kind: 'lost' }]);
    expect((await claimOne(log, 'a', 'x')).kind).toBe('held');
    expect(await rowOf(log, 'a')).toEqual(before);
  });

  test('takes a row over again and again, and counts', async (scene) => {
    const { log } = scene;
    await insertHeld(log, 'a', 'x', true, { leaseMs: SHORT_MS });
    for (const token of ['t1', 't2', 't3']) {
      await scene.pass(SHORT_PASSED_MS);
      await claimOne(log, 'a', token, { leaseMs: SHORT_MS });
      await log.settle([], [{ id: 'a', token }]);
    }
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'running', lapses: 3, attempts: 0 });
  });
}

function cancelledTakeoverCase(test: Case<TaskLogScene>): void {
  test('cancels instead of taking over when the cancellation was asked for', async (scene) => {
    const { log } = scene;
    const old = await insertHeld(log, 'a', 'x', true, { leaseMs: SHORT_MS, owedInMs: LONG_MS });
    await log.change('cancel', ['a'], {});
    await scene.pass(SHORT_PASSED_MS);
    const answer = await claimOne(log, 'a', 't', { start: 1 });
    expect(answer).toEqual({ id: 'a', kind: 'finished', status: 'cancelled' });
    const row = await rowOf(log, 'a');
    expect(row).toMatchObject({ status: 'cancelled', pushAt: null, claimUntil: null });
    expect(row.finishedAt).toBe(row.updatedAt);
    expect(await log.renew([old], LONG_MS)).toEqual([{ id: 'a', kind: 'lost' }]);
  });
}

function raceCases(test: Case<TaskLogScene>): void {
  test('lets exactly one of many claims have a row', async ({ log }) => {
    const ids = Array.from({ length: 20 }, (_, index) => `task-${index}`);
    await log.insert(ids.map((id) => newEntry(id)));
    const draws = await Promise.all(
      ['t1', 't2', 't3', 't4'].map((token, index) =>
        claimAll(log, index % 2 === 0 ? ids : ids.toReversed(), token, { start: 20 }),
      ),
    );
    const claimed = draws.flat().filter((answer) => answer.kind === 'claimed');
    expect(claimed.map((answer) => answer.id).toSorted()).toEqual(ids.toSorted());
    expect(await log.stats({})).toEqual({ running: 20 });
  });

  test('lets exactly one of many take over a lapsed claim', async (scene) => {
    const { log } = scene;
    await insertHeld(log, 'a', 'x', true, { leaseMs: SHORT_MS });
    await scene.pass(SHORT_PASSED_MS);
    const answers = await Promise.all(['t1', 't2', 't3', 't4'].map((token) => claimOne(log, 'a', token)));
    expect(answers.filter((answer) => answer.kind === 'claimed')).toHaveLength(1);
    expect((await rowOf(log, 'a')).lapses).toBe(1);
  });
}
