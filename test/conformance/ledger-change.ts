import { expect } from 'vitest';
import { drawTask, drawTasks, expectNoMessages, expectNothingToRun, newTask, QUEUE } from './ledger-scene.ts';
import type { LedgerScene } from './ledger-scene.ts';
import { idsOf, LONG_MS } from './scene.ts';
import type { Case } from './scene.ts';
import { insertIn, newEntry, rowOf, SETTLEMENTS } from './task-log-scene.ts';

/** Changes from outside a run, and the relay. */
export function ledgerChangeCases(test: Case<LedgerScene>): void {
  cancelCases(test);
  retryCases(test);
  relayCases(test);
}

function cancelCases(test: Case<LedgerScene>): void {
  test('never runs a task that was cancelled in the queue', async (scene) => {
    const { ledger, log } = scene;
    await ledger.enqueue(QUEUE, [newTask('a'), newTask('b')]);
    expect(await ledger.change(QUEUE, 'cancel', ['a'], {})).toMatchObject([{ id: 'a', status: 'cancelled' }]);
    expect((await drawTask(scene, { start: 1 })).id).toBe('b');
    await expectNothingToRun(scene);
    expect((await rowOf(log, 'a')).status).toBe('cancelled');
  });

  test('fences a run that is cancelled by force', async (scene) => {
    const { ledger, log } = scene;
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const task = await drawTask(scene, { start: 1 });
    await ledger.change(QUEUE, 'cancel', ['a'], { force: true });
    const { settled } = await ledger.settle(QUEUE, [SETTLEMENTS.completed(task)], []);
    expect(settled).toMatchObject([{ id: 'a', log: 'lost' }]);
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'cancelled', report: null });
  });

  test('archives what has ended', async (scene) => {
    const { ledger, log } = scene;
    await insertIn(log, 'a', 't', 'completed');
    expect(await ledger.change(QUEUE, 'archive', ['a', 'nobody'], {})).toMatchObject([
      { id: 'a', status: 'archived' },
    ]);
    expect(await ledger.change(QUEUE, 'archive', ['a'], {})).toEqual([]);
  });
}

function retryCases(test: Case<LedgerScene>): void {
  for (const status of ['failed', 'cancelled'] as const) {
    test(`sends a task again that is ${status}`, async (scene) => {
      const { ledger, broker, log } = scene;
      await ledger.enqueue(QUEUE, [newTask('a')]);
      const first = await drawTask(scene, { start: 1 });
      await ledger.settle(QUEUE, [SETTLEMENTS[status](first)], []);
      expect(await ledger.change(QUEUE, 'retry', ['a'], {})).toMatchObject([
        { id: 'a', status: 'enqueued', dueInMs: 0 },
      ]);
      const second = await drawTask(scene, { start: 1 });
      expect(second.body).toBe('envelope of a');
      expect(second.answer).toMatchObject({ started: true, attempts: 0, lapses: 0 });
      await ledger.settle(QUEUE, [SETTLEMENTS.completed(second)], []);
      expect((await rowOf(log, 'a')).status).toBe('completed');
      await expectNoMessages(broker);
    });
  }

  test('sends nothing again that has not ended badly', async (scene) => {
    const { ledger, broker, log } = scene;
    await insertIn(log, 'a', 't', 'completed');
    expect(await ledger.change(QUEUE, 'retry', ['a', 'nobody'], {})).toEqual([]);
    await expectNoMessages(broker);
  });
}

function relayCases(test: Case<LedgerScene>): void {
  test('pushes what is owed, once', async (scene) => {
    const { ledger, log } = scene;
    await log.insert([newEntry('a', { owedInMs: 0 }), newEntry('b', { owedInMs: LONG_MS })]);
    await log.insert([newEntry('c', { owedInMs: 0, queue: 'another' }), newEntry('d')]);
    await scene.pass(10);
    expect(await ledger.relay(QUEUE, 10)).toBe(1);
    expect(await ledger.relay(QUEUE, 10)).toBe(0);
    const task = await drawTask(scene, { start: 1 });
    expect([task.id, task.body]).toEqual(['a', 'envelope of a']);
    await expectNothingToRun(scene);
  });

  test('pushes no more at once than it is asked for', async (scene) => {
    const { ledger, log } = scene;
    await log.insert(['a', 'b', 'c'].map((id) => newEntry(id, { owedInMs: 0 })));
    await scene.pass(10);
    expect(await ledger.relay(QUEUE, 2)).toBe(2);
    expect(await ledger.relay(QUEUE, 2)).toBe(1);
    expect(await ledger.relay(QUEUE, 2)).toBe(0);
    expect(idsOf(await drawTasks(scene, 3)).toSorted()).toEqual(['a', 'b', 'c']);
  });

  test('pushes nothing for a task that has ended', async (scene) => {
    const { ledger, log } = scene;
    await log.insert([newEntry('a', { owedInMs: 0 })]);
    await log.change('cancel', ['a'], {});
    await scene.pass(10);
    expect(await ledger.relay(QUEUE, 10)).toBe(0);
    await expectNoMessages(scene.broker);
  });

  test('lets two relays push at once, and a task run once', async (scene) => {
    const { ledger, log } = scene;
    await log.insert([newEntry('a', { owedInMs: 0 })]);
    await scene.pass(10);
    await Promise.all([ledger.relay(QUEUE, 10), ledger.relay(QUEUE, 10)]);
    await drawTask(scene, { start: 1 });
    await expectNothingToRun(scene);
  });
}
