import { expect } from 'vitest';
import { LONG_MS, one, SHORT_MS, SHORT_PASSED_MS } from './scene.ts';
import type { Case } from './scene.ts';
import {
  claimOne,
  FINISHING,
  insertHeld,
  newEntry,
  REOPENING,
  REPORT,
  rowOf,
  settleOne,
  SETTLEMENTS,
} from './task-log-scene.ts';
import type { TaskLogScene } from './task-log-scene.ts';

export function taskLogSettleCases(test: Case<TaskLogScene>): void {
  finishCases(test);
  reopenCases(test);
  attemptLineCases(test);
  repeatCases(test);
  lostCases(test);
  cancelRequestCases(test);
}

function finishCases(test: Case<TaskLogScene>): void {
  for (const kind of FINISHING) {
    test(`writes ${kind} with its report, and keeps who ran it`, async ({ log }) => {
      const task = await insertHeld(log, 'a', 't', true, { owedInMs: LONG_MS });
      const { startedAt } = await rowOf(log, 'a');
      const answer = await settleOne(log, SETTLEMENTS[kind](task));
      expect(answer).toEqual({ id: 'a', log: 'written', status: kind });
      const row = await rowOf(log, 'a');
      expect(row).toMatchObject({
        status: kind,
        report: REPORT,
        deadReason: null,
        attempts: 1,
        lapses: 0,
        worker: 'worker',
        startedAt,
        claimUntil: null,
        cancelRequestedAt: null,
        pushAt: null,
        finishedAt: kind === 'child_running' ? null : row.updatedAt,
      });
      expect(row.generation).toBeGreaterThan(1);
    });

    test(`counts no attempt when ${kind} is written of a task that was not started`, async ({ log }) => {
      const task = await insertHeld(log, 'a', 't', false);
      await settleOne(log, SETTLEMENTS[kind](task));
      expect(await rowOf(log, 'a')).toMatchObject({ status: kind, attempts: 0, startedAt: null });
    });
  }

  test('keeps why a task is dead', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', true);
    await settleOne(log, { ...SETTLEMENTS.failed(task), deadReason: 'crashed' });
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'failed', deadReason: 'crashed' });
  });

  test('settles many at once and answers in their order', async ({ log }) => {
    const ids = Array.from({ length: 100 }, (_, index) => `task-${index}`);
    await log.insert(
      ids.map((id) => newEntry(id, { claim: { token: 't', worker: 'w', leaseMs: LONG_MS, start: true } })),
    );
    const settlements = ids.map((id, index) => {
      const task = { id, token: 't' };
      if (index % 3 === 0) return { ...SETTLEMENTS.completed(task), report: `report of ${id}` };
      return index % 3 === 1 ? SETTLEMENTS.retry(task) : { ...SETTLEMENTS.failed(task), report: id };
    });
    const { settled } = await log.settle(settlements, []);
    expect(settled.map((answer) => answer.id)).toEqual(ids);
    expect(settled.every((answer) => answer.log === 'written')).toBe(true);
    expect(await log.stats({})).toEqual({ completed: 34, enqueued: 33, failed: 33 });
    expect((await rowOf(log, 'task-99')).report).toBe('report of task-99');
    expect((await rowOf(log, 'task-98')).report).toBe('task-98');
  });
}

function reopenCases(test: Case<TaskLogScene>): void {
  for (const kind of REOPENING) {
    const attempts = kind === 'retry' ? 1 : 0;

    test(`enqueues a task again on ${kind}, due when asked`, async (scene) => {
      const { log } = scene;
      const task = await insertHeld(log, 'a', 't', true);
      const answer = await settleOne(log, { ...SETTLEMENTS[kind](task), afterMs: SHORT_MS });
      expect(answer).toEqual({ id: 'a', log: 'written', status: 'enqueued' });
      const row = await rowOf(log, 'a');
      expect(row).toMatchObject({
        status: 'enqueued',
        attempts,
        unknowns: 0,
        startedAt: null,
        finishedAt: null,
        claimUntil: null,
        pushAt: null,
      });
      expect(row.notBefore).toBe(row.updatedAt + SHORT_MS);
      await scene.pass(SHORT_PASSED_MS);
      expect(await claimOne(log, 'a', 'next', { start: 1 })).toMatchObject({
        kind: 'claimed',
        started: true,
        attempts,
        lapses: 0,
      });
    });

    test(`moves the debt of a message along on ${kind}`, async ({ log }) => {
      const task = await insertHeld(log, 'a', 't', true, { owedInMs: 30_000 });
      await settleOne(log, SETTLEMENTS[kind](task));
      const row = await rowOf(log, 'a');
      expect(row.pushAt).toBe(row.notBefore);
      expect(row.generation).toBe(2);
    });

    test(`counts a worker that did not know the name on ${kind}`, async ({ log }) => {
      const task = await insertHeld(log, 'a', 't', false);
      await settleOne(log, { ...SETTLEMENTS[kind](task), unknown: true });
      expect(await rowOf(log, 'a')).toMatchObject({ status: 'enqueued', unknowns: 1, attempts: 0 });
    });
  }
}

function attemptLineCases(test: Case<TaskLogScene>): void {
  test('keeps a line about an attempt that is tried again', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', true);
    const { startedAt } = await rowOf(log, 'a');
    const settlement = { ...SETTLEMENTS.retry(task), cause: 'Error: no "answer" – Grüße' };
    await settleOne(log, settlement);
    const row = await rowOf(log, 'a');
    const line = one(await log.lines('a', { limit: 10 }));
    expect(line).toMatchObject({ taskId: 'a', kind: 'attempt', at: row.updatedAt });
    expect(JSON.parse(line.text)).toEqual({
      attempt: 1,
      worker: 'worker',
      startedAt,
      endedAt: row.updatedAt,
      cause: settlement.cause,
    });
    await settleOne(log, settlement);
    expect(await log.lines('a', { limit: 10 })).toHaveLength(1);
  });

  test('keeps no line of an attempt that another holder has taken over', async (scene) => {
    const { log } = scene;
    const task = await insertHeld(log, 'a', 't', true, { leaseMs: SHORT_MS });
    await scene.pass(SHORT_PASSED_MS);
    await claimOne(log, 'a', 'next');
    await settleOne(log, { ...SETTLEMENTS.retry(task), cause: 'Error' });
    expect(await log.lines('a', { limit: 10 })).toEqual([]);
  });
}

function repeatCases(test: Case<TaskLogScene>): void {
  for (const kind of [...FINISHING, ...REOPENING]) {
    test(`answers the same settlement again as written, and changes nothing: ${kind}`, async (scene) => {
      const { log } = scene;
      const settlement = SETTLEMENTS[kind](await insertHeld(log, 'a', 't', true));
      const first = await settleOne(log, settlement);
      const row = await rowOf(log, 'a');
      await scene.pass(10);
      expect(await settleOne(log, settlement)).toEqual(first);
      expect(await rowOf(log, 'a')).toEqual(row);
    });
  }

  test('answers two settlements of one run that come at once', async ({ log }) => {
    const settlement = SETTLEMENTS.completed(await insertHeld(log, 'a', 't', true));
    const answers = await Promise.all([settleOne(log, settlement), settleOne(log, settlement)]);
    expect(answers.map((answer) => answer.log)).toEqual(['written', 'written']);
    expect((await rowOf(log, 'a')).attempts).toBe(1);
  });

  test('refuses another settlement of a run that was settled', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', true);
    await settleOne(log, SETTLEMENTS.completed(task));
    const row = await rowOf(log, 'a');
    for (const kind of ['failed', 'cancelled', 'child_running'] as const) {
      expect(await settleOne(log, SETTLEMENTS[kind](task))).toEqual({ id: 'a', log: 'lost' });
    }
    expect(await rowOf(log, 'a')).toEqual(row);
  });
}

function lostCases(test: Case<TaskLogScene>): void {
  test('writes nothing for another token, a row nobody holds or a row that is not there', async ({ log }) => {
    await insertHeld(log, 'held', 't', true);
    await log.insert([newEntry('free')]);
    const before = [await rowOf(log, 'held'), await rowOf(log, 'free')];
    for (const settlement of Object.values(SETTLEMENTS)) {
      const ids = ['held', 'free', 'nobody'];
      const { settled } = await log.settle(
        ids.map((id) => settlement({ id, token: 'wrong' })),
        [],
      );
      expect(settled).toEqual(ids.map((id) => ({ id, log: 'lost' })));
    }
    expect([await rowOf(log, 'held'), await rowOf(log, 'free')]).toEqual(before);
  });

  test('writes the valid ones of a batch and refuses the others', async ({ log }) => {
    const task = await insertHeld(log, 'a', 't', true);
    await insertHeld(log, 'b', 'another', true);
    const { settled } = await log.settle(
      [SETTLEMENTS.completed({ id: 'b', token: 't' }), SETTLEMENTS.completed(task)],
      [],
    );
    expect(settled).toEqual([
      { id: 'b', log: 'lost' },
      { id: 'a', log: 'written', status: 'completed' },
    ]);
    expect((await rowOf(log, 'b')).status).toBe('running');
  });

  test('writes for a holder whose claim lapsed when nobody took it', async (scene) => {
    const { log } = scene;
    const task = await insertHeld(log, 'a', 't', true, { leaseMs: SHORT_MS });
    await scene.pass(SHORT_PASSED_MS);
    expect(await settleOne(log, SETTLEMENTS.completed(task))).toMatchObject({ log: 'written' });
  });
}

function cancelRequestCases(test: Case<TaskLogScene>): void {
  for (const kind of REOPENING) {
    test(`cancels a task on ${kind} when somebody asked for it`, async ({ log }) => {
      const settlement = SETTLEMENTS[kind](await insertHeld(log, 'a', 't', true, { owedInMs: LONG_MS }));
      await log.change('cancel', ['a'], {});
      const answer = await settleOne(log, settlement);
      expect(answer).toEqual({ id: 'a', log: 'written', status: 'cancelled' });
      const row = await rowOf(log, 'a');
      expect(row).toMatchObject({ status: 'cancelled', report: null, pushAt: null, claimUntil: null });
      expect(row.finishedAt).toBe(row.updatedAt);
      expect(await settleOne(log, settlement)).toEqual(answer);
    });
  }

  for (const kind of FINISHING) {
    test(`writes ${kind} although somebody asked for the end`, async ({ log }) => {
      const task = await insertHeld(log, 'a', 't', true);
      await log.change('cancel', ['a'], {});
      expect(await settleOne(log, SETTLEMENTS[kind](task))).toMatchObject({ log: 'written', status: kind });
      expect(await rowOf(log, 'a')).toMatchObject({ status: kind, report: REPORT, cancelRequestedAt: null });
    });
  }
}
