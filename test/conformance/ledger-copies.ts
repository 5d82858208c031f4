import { expect } from 'vitest';
import type { BrokerCapabilities } from '../../src/queue-broker.ts';
import {
  draw,
  drawKind,
  drawTask,
  expectNoMessages,
  expectNothingToRun,
  newTask,
  pushCopy,
  QUEUE,
} from './ledger-scene.ts';
import type { LedgerScene } from './ledger-scene.ts';
import { LONG_MS, SHORT_MS, SHORT_PASSED_MS } from './scene.ts';
import type { Case } from './scene.ts';
import { insertIn, rowOf, SETTLEMENTS } from './task-log-scene.ts';

/** Messages that are no reason to run a task: copies, early ones, orphans. */
export function ledgerCopyCases(test: Case<LedgerScene>, capabilities: BrokerCapabilities): void {
  finishedCases(test);
  heldCases(test);
  earlyCases(test);
  missingCase(test);
  if (capabilities.maxBatch > 1) copyCase(test);
}

function finishedCases(test: Case<LedgerScene>): void {
  for (const status of ['completed', 'failed', 'cancelled', 'archived', 'child_running'] as const) {
    test(`removes a message of a task that is ${status}`, async (scene) => {
      const { broker, log } = scene;
      await insertIn(log, 'a', 't', status);
      const before = await rowOf(log, 'a');
      await pushCopy(broker, 'a');
      const { answer } = await drawKind(scene, 'finished');
      expect(answer).toEqual({ id: 'a', kind: 'finished', status });
      await expectNoMessages(broker);
      expect((await draw(scene)).drawn).toEqual([]);
      expect(await rowOf(log, 'a')).toEqual(before);
    });
  }
}

function heldCases(test: Case<LedgerScene>): void {
  test('keeps a copy of a task in hand away, and forgets it at its end', async (scene) => {
    const { ledger, broker, log } = scene;
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const task = await drawTask(scene, { start: 1 });
    await pushCopy(broker, 'a');
    const { answer } = await drawKind(scene, 'held');
    expect(answer.kind === 'held' && answer.inMs > 0).toBe(true);
    expect((await draw(scene)).drawn).toEqual([]);
    const { settled } = await ledger.settle(QUEUE, [SETTLEMENTS.completed(task)], []);
    expect(settled).toMatchObject([{ log: 'written', status: 'completed' }]);
    await expectNothingToRun(scene);
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'completed', attempts: 1 });
  });

  test('loses no task whose holder dies after its message was taken for a copy', async (scene) => {
    const { ledger, broker, log } = scene;
    await insertIn(log, 'a', 'dead', 'enqueued');
    await log.claim(['a'], { worker: 'dead', token: 'dead', leaseMs: 2_000, start: 1, owe: false });
    await pushCopy(broker, 'a');
    await drawKind(scene, 'held');
    await scene.pass(2_300);
    await ledger.relay(QUEUE, 10);
    const task = await drawTask(scene);
    expect(task.answer).toMatchObject({ lapses: 1, lapsed: { worker: 'dead', started: true } });
  });
}

function earlyCases(test: Case<LedgerScene>): void {
  test('puts back a message that comes before its task is due', async (scene) => {
    const { ledger } = scene;
    await ledger.enqueue(QUEUE, [newTask('a', { delayMs: LONG_MS, messageDelayMs: 0 })]);
    // A broker without delays may have noted the debt instead of pushing.
    if (scene.broker.capabilities.maxDelayMs >= LONG_MS) await drawKind(scene, 'early');
    await expectNothingToRun(scene);
    expect((await rowOf(scene.log, 'a')).status).toBe('enqueued');
  });

  test('runs a task that came early once it is due', async (scene) => {
    const { ledger, broker } = scene;
    await ledger.enqueue(QUEUE, [newTask('a', { delayMs: SHORT_MS })]);
    await pushCopy(broker, 'a');
    await draw(scene);
    await scene.pass(SHORT_PASSED_MS);
    await ledger.relay(QUEUE, 10);
    expect((await drawTask(scene, { start: 1 })).answer).toMatchObject({ started: true, lapses: 0 });
  });
}

function missingCase(test: Case<LedgerScene>): void {
  test('leaves a message without a row in hand', async (scene) => {
    const { broker } = scene;
    await pushCopy(broker, 'orphan');
    const { delivery, answer } = await drawKind(scene, 'missing');
    expect(answer).toEqual({ id: 'orphan', kind: 'missing' });
    expect([delivery.id, delivery.body]).toEqual(['orphan', 'envelope of orphan']);
    expect((await draw(scene)).drawn).toEqual([]);
    expect(await broker.acknowledge(QUEUE, [delivery.receipt])).toEqual([delivery.receipt]);
    await expectNoMessages(broker);
  });
}

function copyCase(test: Case<LedgerScene>): void {
  test('claims a task once that has several messages', async (scene) => {
    const { ledger, broker, log } = scene;
    await ledger.enqueue(QUEUE, [newTask('a'), newTask('b')]);
    for (let copy = 0; copy < 3; copy += 1) await pushCopy(broker, 'a');
    const claimed: string[] = [];
    for (let round = 0; round < 5; round += 1) {
      const { token, drawn } = await draw(scene, { start: 10 });
      for (const { delivery, answer } of drawn) {
        if (answer.kind !== 'claimed') continue;
        claimed.push(answer.id);
        const settlement = SETTLEMENTS.completed({ id: answer.id, token, receipt: delivery.receipt });
        await ledger.settle(QUEUE, [settlement], []);
      }
      await scene.pass(10);
    }
    expect(claimed.toSorted()).toEqual(['a', 'b']);
    expect(await rowOf(log, 'a')).toMatchObject({ status: 'completed', attempts: 1, lapses: 0 });
    await expectNoMessages(broker);
  });
}
