import { describe, expect } from 'vitest';
import { isSignalboxError } from '../../src/errors.ts';
import type { BrokerCapabilities } from '../../src/queue-broker.ts';
import type { Transaction } from '../../src/store.ts';
import { ledgerChangeCases } from './ledger-change.ts';
import { ledgerCopyCases } from './ledger-copies.ts';
import {
  draw,
  drawTask,
  drawTasks,
  expectNoMessages,
  expectNothingToRun,
  newTask,
  QUEUE,
} from './ledger-scene.ts';
import type { LedgerScene } from './ledger-scene.ts';
import { ledgerSettleCases } from './ledger-settle.ts';
import { casesOn, factsOf, idsOf, LONG_MS, SHORT_MS, SHORT_PASSED_MS } from './scene.ts';
import type { Case, Open } from './scene.ts';
import { REPORT, rowOf, SETTLEMENTS } from './task-log-scene.ts';

/** What every ledger keeps to. `open` gives an empty storage each time, its queue `one` and its container created. */
export function ledgerConformance(name: string, open: Open<LedgerScene>): void {
  describe(`${name}: ledger`, async () => {
    const { capabilities, hasStore } = await factsOf(open, ({ broker, log }) => ({
      capabilities: broker.capabilities,
      hasStore: log.store !== undefined,
    }));
    const test = casesOn(open);
    rowAloneCases(test);
    if (capabilities.sync) return;
    enqueueCases(test, capabilities);
    drawCases(test);
    consumerCases(test);
    ledgerSettleCases(test);
    ledgerCopyCases(test, capabilities);
    ledgerChangeCases(test);
    if (hasStore) transactionCases(test);
  });
}

function rowAloneCases(test: Case<LedgerScene>): void {
  test('enqueues a row without a message, claimed, and settles it', async (scene) => {
    const { ledger, broker, log } = scene;
    const { entry } = newTask('a');
    const claim = { token: 't', worker: 'w', leaseMs: LONG_MS, start: true };
    expect(await ledger.enqueue(QUEUE, [{ entry: { ...entry, claim } }])).toEqual(['a']);
    await expectNoMessages(broker);
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'running', pushAt: null });
    const { settled } = await ledger.settle(QUEUE, [SETTLEMENTS.completed({ id: 'a', token: 't' })], []);
    expect(settled).toMatchObject([{ id: 'a', log: 'written', status: 'completed' }]);
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'completed', report: REPORT, attempts: 1 });
  });

  test('refuses a transaction of another database', async ({ ledger, log }) => {
    const refuse = async (): Promise<never> => {
      throw new Error('no transaction');
    };
    const foreign: Transaction = {
      store: { id: 'elsewhere', transaction: refuse, join: refuse },
      afterCommit: () => undefined,
    };
    const error: unknown = await ledger.enqueue(QUEUE, [newTask('a')], foreign).then(
      () => 'resolved',
      (reason: unknown) => reason,
    );
    expect(isSignalboxError(error) ? 'coded' : error).toBe('coded');
    expect((await log.search({}, { limit: 1 })).entries).toEqual([]);
  });
}

function enqueueCases(test: Case<LedgerScene>, capabilities: BrokerCapabilities): void {
  test('enqueues a row and its message, and owes nothing', async (scene) => {
    expect(await scene.ledger.enqueue(QUEUE, [newTask('a')])).toEqual(['a']);
    const row = await rowOf(scene.log, 'a');
    expect(row.status).toBe('enqueued');
    if (capabilities.retentionMs === Infinity) expect(row.pushAt).toBeNull();
    const task = await drawTask(scene);
    expect([task.id, task.body]).toEqual(['a', 'envelope of a']);
  });

  test('adds no second row when the same ids are enqueued again', async (scene) => {
    const { ledger, log } = scene;
    expect(await ledger.enqueue(QUEUE, [newTask('a'), newTask('b')])).toEqual(['a', 'b']);
    expect(await ledger.enqueue(QUEUE, [newTask('a'), newTask('b')])).toEqual([]);
    expect(await ledger.enqueue(QUEUE, [newTask('b'), newTask('c')])).toEqual(['c']);
    expect(await log.stats({})).toEqual({ enqueued: 3 });
    const tasks = await drawTasks(scene, 3);
    expect(idsOf(tasks).toSorted()).toEqual(['a', 'b', 'c']);
    await expectNothingToRun(scene);
  });

  test('enqueues nothing', async ({ ledger, broker }) => {
    expect(await ledger.enqueue(QUEUE, [])).toEqual([]);
    await expectNoMessages(broker);
  });

  test('gives a delayed task once it is due', async (scene) => {
    await scene.ledger.enqueue(QUEUE, [
      newTask('soon', { delayMs: SHORT_MS }),
      newTask('later', { delayMs: LONG_MS }),
    ]);
    await scene.pass(SHORT_PASSED_MS);
    if (capabilities.maxDelayMs >= SHORT_MS) expect((await drawTask(scene)).id).toBe('soon');
    await expectNothingToRun(scene);
  });

  if (!capabilities.priorities) return;
  test('draws higher priorities first', async (scene) => {
    await scene.ledger.enqueue(QUEUE, [
      newTask('plain'),
      newTask('high', { priority: 5 }),
      newTask('low', { priority: -5 }),
    ]);
    expect(idsOf(await drawTasks(scene, 3))).toEqual(['high', 'plain', 'low']);
  });
}

function drawCases(test: Case<LedgerScene>): void {
  test('draws nothing from an empty queue', async (scene) => {
    expect((await draw(scene)).drawn).toEqual([]);
  });

  test('draws a task into one hand', async (scene) => {
    const { ledger, log } = scene;
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const { answer } = await drawTask(scene, { worker: 'host:1' });
    expect(answer).toMatchObject({ kind: 'claimed', started: false, attempts: 0, lapses: 0, unknowns: 0 });
    expect(answer.leaseLeftMs).toBeGreaterThan(0);
    expect(answer.leaseLeftMs).toBeLessThanOrEqual(LONG_MS);
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'dequeued', worker: 'host:1' });
    await expectNothingToRun(scene);
  });

  test('starts as many as asked for and prefetches the others', async (scene) => {
    await scene.ledger.enqueue(
      QUEUE,
      ['a', 'b', 'c'].map((id) => newTask(id)),
    );
    const tasks = await drawTasks(scene, 3, { start: 1 });
    expect(tasks[0]?.answer.started).toBe(true);
    for (const { id, answer } of tasks) {
      expect((await rowOf(scene.log, id)).status).toBe(answer.started ? 'running' : 'dequeued');
    }
  });

  test('draws a task again whose holder let it lapse before the start', async (scene) => {
    await scene.ledger.enqueue(QUEUE, [newTask('a')]);
    await drawTask(scene, { leaseMs: SHORT_MS, worker: 'first' });
    await scene.pass(SHORT_PASSED_MS);
    const { answer } = await drawTask(scene, { start: 1, worker: 'second' });
    expect(answer).toMatchObject({ started: true, lapses: 0, lapsed: { worker: 'first', started: false } });
  });

  test('draws a run again that lapsed, counts it and does not start it', async (scene) => {
    await scene.ledger.enqueue(QUEUE, [newTask('a')]);
    await drawTask(scene, { leaseMs: SHORT_MS, start: 1, worker: 'first' });
    await scene.pass(SHORT_PASSED_MS);
    const { answer } = await drawTask(scene, { start: 1, worker: 'second' });
    expect(answer).toMatchObject({ started: false, lapses: 1, lapsed: { worker: 'first', started: true } });
  });
}

function consumerCases(test: Case<LedgerScene>): void {
  test('gives each of 200 tasks to exactly one of three workers', async (scene) => {
    const { ledger, broker, log } = scene;
    const ids = Array.from({ length: 200 }, (_, index) => `task-${index}`);
    await ledger.enqueue(
      QUEUE,
      ids.slice(0, 100).map((id) => newTask(id)),
    );
    await ledger.enqueue(
      QUEUE,
      ids.slice(100).map((id) => newTask(id)),
    );
    const ran: string[] = [];
    const work = async (): Promise<void> => {
      for (let idle = 0; idle < 20 && ran.length < ids.length;) {
        const { token, drawn } = await draw(scene, { max: 10, start: 10 });
        const settlements = drawn.flatMap(({ delivery: { receipt }, answer: { id, kind } }) =>
          kind === 'claimed' ? [SETTLEMENTS.completed({ id, token, receipt })] : [],
        );
        const { settled } = await ledger.settle(QUEUE, settlements, []);
        expect(settled.every((answer) => answer.log === 'written')).toBe(true);
        ran.push(...idsOf(settled));
        if (settled.length > 0) idle = 0;
        else {
          idle += 1;
          await scene.pass(50);
        }
      }
    };
    await Promise.all([work(), work(), work()]);
    expect(ran.toSorted()).toEqual(ids.toSorted());
    expect(await log.stats({})).toEqual({ completed: 200 });
    await expectNoMessages(broker);
  });
}

function transactionCases(test: Case<LedgerScene>): void {
  test('enqueues with the transaction that it joins', async (scene) => {
    const { ledger, log } = scene;
    await log.store?.transaction(async (tx) => {
      expect(await ledger.enqueue(QUEUE, [newTask('a'), newTask('b')], tx)).toEqual(['a', 'b']);
    });
    expect(idsOf(await drawTasks(scene, 2)).toSorted()).toEqual(['a', 'b']);
  });

  test('leaves neither row nor message when the transaction is rolled back', async (scene) => {
    const { ledger, broker, log } = scene;
    const work = log.store?.transaction(async (tx) => {
      await ledger.enqueue(QUEUE, [newTask('a'), newTask('b')], tx);
      throw new Error('on purpose');
    });
    await expect(work).rejects.toThrow('on purpose');
    expect(await log.stats({})).toEqual({});
    await scene.pass(SHORT_PASSED_MS);
    expect((await draw(scene)).drawn).toEqual([]);
    await expectNoMessages(broker);
  });
}
