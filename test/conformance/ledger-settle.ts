import { expect } from 'vitest';
import { drawTask, drawTasks, expectNoMessages, expectNothingToRun, newTask, QUEUE } from './ledger-scene.ts';
import type { LedgerScene } from './ledger-scene.ts';
import { LONG_MS, one, SHORT_MS, SHORT_PASSED_MS } from './scene.ts';
import type { Case } from './scene.ts';
import { FINISHING, REOPENING, REPORT, rowOf, SETTLEMENTS } from './task-log-scene.ts';

export function ledgerSettleCases(test: Case<LedgerScene>): void {
  finishCases(test);
  reopenCases(test);
  staleCases(test);
  startCases(test);
  renewCases(test);
}

function finishCases(test: Case<LedgerScene>): void {
  for (const kind of FINISHING) {
    test(`writes ${kind} and removes the message`, async (scene) => {
      const { ledger, broker, log } = scene;
      await ledger.enqueue(QUEUE, [newTask('a')]);
      const settlement = SETTLEMENTS[kind](await drawTask(scene, { start: 1 }));
      const { settled } = await ledger.settle(QUEUE, [settlement], []);
      expect(settled).toEqual([{ id: 'a', log: 'written', status: kind, message: 'done' }]);
      expect(await rowOf(log, 'a')).toMatchObject({ status: kind, report: REPORT, attempts: 1 });
      await expectNoMessages(broker);
      expect(one((await ledger.settle(QUEUE, [settlement], [])).settled)).toMatchObject({ log: 'written' });
      await expectNothingToRun(scene);
    });
  }
}

function reopenCases(test: Case<LedgerScene>): void {
  for (const kind of REOPENING) {
    const attempts = kind === 'retry' ? 1 : 0;

    test(`puts a task back at once on ${kind}`, async (scene) => {
      const { ledger } = scene;
      await ledger.enqueue(QUEUE, [newTask('a')]);
      const first = await drawTask(scene, { start: 1 });
      const { settled } = await ledger.settle(QUEUE, [{ ...SETTLEMENTS[kind](first), afterMs: 0 }], []);
      expect(settled).toEqual([{ id: 'a', log: 'written', status: 'enqueued', message: 'done' }]);
      const second = await drawTask(scene, { start: 1 });
      expect(second.answer).toMatchObject({ started: true, attempts, lapses: 0 });
      expect(second.token).not.toBe(first.token);
      await ledger.settle(QUEUE, [SETTLEMENTS.completed(second)], []);
      expect(await rowOf(scene.log, 'a')).toMatchObject({ status: 'completed', attempts: attempts + 1 });
      await expectNoMessages(scene.broker);
    });

    test(`puts a task back until it is due on ${kind}`, async (scene) => {
      const { ledger } = scene;
      await ledger.enqueue(QUEUE, [newTask('soon'), newTask('later')]);
      const settlements = (await drawTasks(scene, 2, { start: 2 })).map((task) => ({
        ...SETTLEMENTS[kind](task),
        afterMs: task.id === 'soon' ? SHORT_MS : LONG_MS,
      }));
      await ledger.settle(QUEUE, settlements, []);
      await scene.pass(SHORT_PASSED_MS);
      expect((await drawTask(scene)).id).toBe('soon');
      await expectNothingToRun(scene);
    });
  }

  test('counts a worker that did not know the name', async (scene) => {
    const { ledger } = scene;
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const settlement = { ...SETTLEMENTS['give-back'](await drawTask(scene)), afterMs: 0, unknown: true };
    await ledger.settle(QUEUE, [settlement], []);
    expect((await drawTask(scene)).answer).toMatchObject({ attempts: 0, unknowns: 1 });
  });
}

function staleCases(test: Case<LedgerScene>): void {
  test('writes nothing for a holder that was taken over', async (scene) => {
    const { ledger, log } = scene;
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const stale = await drawTask(scene, { leaseMs: SHORT_MS, start: 1 });
    await scene.pass(SHORT_PASSED_MS);
    const fresh = await drawTask(scene);
    for (const settlement of Object.values(SETTLEMENTS)) {
      const { settled, started } = await ledger.settle(QUEUE, [settlement(stale)], [stale]);
      expect(settled).toMatchObject([{ id: 'a', log: 'lost' }]);
      expect(started).toEqual([{ id: 'a', kind: 'lost' }]);
    }
    expect(await ledger.renew(QUEUE, [stale], LONG_MS)).toEqual([{ id: 'a', kind: 'lost' }]);
    await expectNothingToRun(scene);
    const { settled } = await ledger.settle(QUEUE, [SETTLEMENTS.completed(fresh)], []);
    expect(settled).toEqual([{ id: 'a', log: 'written', status: 'completed', message: 'done' }]);
    expect((await rowOf(log, 'a')).status).toBe('completed');
  });

  test('settles the valid ones of a batch in their order', async (scene) => {
    const { ledger } = scene;
    await ledger.enqueue(
      QUEUE,
      ['a', 'b', 'c'].map((id) => newTask(id)),
    );
    const tasks = await drawTasks(scene, 3, { start: 3 });
    const settlements = tasks.map((task) =>
      SETTLEMENTS.completed(task.id === 'b' ? { ...task, token: 'wrong' } : task),
    );
    const { settled } = await ledger.settle(QUEUE, settlements, []);
    expect(settled.map(({ id, log }) => [id, log])).toEqual(
      tasks.map(({ id }) => [id, id === 'b' ? 'lost' : 'written']),
    );
    expect(await scene.log.stats({})).toEqual({ completed: 2, running: 1 });
  });
}

function startCases(test: Case<LedgerScene>): void {
  test('starts a prefetched task with the settlement of another', async (scene) => {
    const { ledger, log } = scene;
    await ledger.enqueue(QUEUE, [newTask('a'), newTask('b')]);
    const tasks = await drawTasks(scene, 2, { max: 2, start: 1 });
    const running = tasks.filter((task) => task.answer.started);
    const prefetched = tasks.filter((task) => !task.answer.started);
    const { settled, started } = await ledger.settle(
      QUEUE,
      running.map((task) => SETTLEMENTS.completed(task)),
      prefetched,
    );
    expect(settled.every((answer) => answer.log === 'written')).toBe(true);
    expect(started).toEqual(prefetched.map(({ id }) => ({ id, kind: 'started' })));
    for (const { id } of prefetched) expect((await rowOf(log, id)).status).toBe('running');
  });

  test('starts nothing that was cancelled meanwhile', async (scene) => {
    const { ledger } = scene;
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const task = await drawTask(scene);
    await ledger.change(QUEUE, 'cancel', ['a'], {});
    expect((await ledger.settle(QUEUE, [], [task])).started).toEqual([{ id: 'a', kind: 'lost' }]);
    expect((await rowOf(scene.log, 'a')).status).toBe('cancelled');
  });
}

function renewCases(test: Case<LedgerScene>): void {
  test('keeps a renewed task away from others', async (scene) => {
    const { ledger } = scene;
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const task = await drawTask(scene, { leaseMs: 1_000, start: 1 });
    expect(await ledger.renew(QUEUE, [task], LONG_MS)).toEqual([{ id: 'a', kind: 'renewed' }]);
    await scene.pass(1_300);
    await expectNothingToRun(scene);
    const { settled } = await ledger.settle(QUEUE, [SETTLEMENTS.completed(task)], []);
    expect(settled).toMatchObject([{ log: 'written', message: 'done' }]);
  });

  test('revives a claim that lapsed and was not taken', async (scene) => {
    const { ledger } = scene;
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const task = await drawTask(scene, { leaseMs: SHORT_MS, start: 1 });
    await scene.pass(SHORT_PASSED_MS);
    expect(await ledger.renew(QUEUE, [task], LONG_MS)).toEqual([{ id: 'a', kind: 'renewed' }]);
    await expectNothingToRun(scene);
    expect((await rowOf(scene.log, 'a')).lapses).toBe(0);
  });

  test('tells the holder that the end was asked for', async (scene) => {
    const { ledger } = scene;
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const task = await drawTask(scene, { start: 1 });
    expect(await ledger.change(QUEUE, 'cancel', ['a'], {})).toMatchObject([{ id: 'a', status: 'running' }]);
    expect(await ledger.renew(QUEUE, [task], LONG_MS)).toEqual([{ id: 'a', kind: 'cancel' }]);
    const { settled } = await ledger.settle(QUEUE, [SETTLEMENTS.retry(task)], []);
    expect(settled).toEqual([{ id: 'a', log: 'written', status: 'cancelled', message: 'done' }]);
    await expectNoMessages(scene.broker);
  });
}
