import { expect } from 'vitest';
import type { BrokerCapabilities } from '../../src/queue-broker.ts';
import {
  idsOf,
  LONG_MS,
  message,
  one,
  receive,
  receiveAll,
  receiveOne,
  SHORT_MS,
  SHORT_PASSED_MS,
} from './scene.ts';
import type { BrokerScene, Case } from './scene.ts';

/** A lease that is still alive when it is extended, also on a slow machine. */
const EXTENDABLE_MS = 1_000;
const EXTENDABLE_PASSED_MS = 1_300;

export function leaseCases(test: Case<BrokerScene>, capabilities: BrokerCapabilities): void {
  acknowledgeCases(test);
  lapseCases(test);
  if (capabilities.fencing === 'strict') fencingCases(test);
  releaseCases(test);
  if (capabilities.maxDelayMs > 0) delayCases(test);
}

function acknowledgeCases(test: Case<BrokerScene>): void {
  test('lends a message to one consumer at a time', async (scene) => {
    await scene.broker.initialize(['one']);
    await scene.broker.push('one', [message('a')]);
    await receiveOne(scene, 'one');
    expect(await receive(scene.broker, 'one')).toEqual([]);
  });

  test('removes the very message that is acknowledged', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push(
      'one',
      ['a', 'a', 'b', 'c'].map((id) => message(id)),
    );
    const deliveries = await receiveAll(scene, 'one', 4);
    const first = deliveries.find((delivery) => delivery.id === 'a');
    const receipts = first === undefined ? [] : [first.receipt];
    expect(await broker.acknowledge('one', receipts)).toEqual(receipts);
    const rest = deliveries.filter((delivery) => delivery !== first);
    await broker.release(
      'one',
      rest.map(({ receipt }) => ({ receipt, delayMs: 0 })),
    );
    expect(idsOf(await receiveAll(scene, 'one', 3)).toSorted()).toEqual(['a', 'b', 'c']);
    expect(await receive(broker, 'one')).toEqual([]);
  });
}

function lapseCases(test: Case<BrokerScene>): void {
  test('gives a message again, with another receipt, when its lease has lapsed', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a'), message('b')]);
    const first = await receiveAll(scene, 'one', 2, SHORT_MS);
    await scene.pass(SHORT_PASSED_MS);
    const second = await receiveAll(scene, 'one', 2);
    expect(idsOf(second).toSorted()).toEqual(['a', 'b']);
    expect(second.map((delivery) => delivery.body).toSorted()).toEqual(['body of a', 'body of b']);
    const receipts = new Set([...first, ...second].map((delivery) => delivery.receipt));
    expect(receipts.size).toBe(4);
  });

  test('keeps a message away whose lease is extended', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a')]);
    const { receipt } = await receiveOne(scene, 'one', EXTENDABLE_MS);
    const leaseMs = Math.min(LONG_MS, broker.capabilities.maxLeaseMs);
    expect(await broker.extend('one', [receipt], leaseMs)).toEqual([receipt]);
    await scene.pass(EXTENDABLE_PASSED_MS);
    expect(await receive(broker, 'one')).toEqual([]);
    expect(await broker.acknowledge('one', [receipt])).toEqual([receipt]);
  });

  test('counts an extension from the moment it is asked for', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a')]);
    const { receipt } = await receiveOne(scene, 'one');
    expect(await broker.extend('one', [receipt], SHORT_MS)).toEqual([receipt]);
    await scene.pass(SHORT_PASSED_MS);
    expect((await receiveOne(scene, 'one')).id).toBe('a');
  });
}

function fencingCases(test: Case<BrokerScene>): void {
  test('answers a stale receipt with nothing, and changes nothing for it', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a')]);
    const { receipt: stale } = await receiveOne(scene, 'one', SHORT_MS);
    await scene.pass(SHORT_PASSED_MS);
    const { receipt } = await receiveOne(scene, 'one');
    expect(await broker.acknowledge('one', [stale])).toEqual([]);
    expect(await broker.release('one', [{ receipt: stale, delayMs: 0 }])).toEqual([]);
    expect(await broker.extend('one', [stale], 1)).toEqual([]);
    await scene.pass(50);
    expect(await receive(broker, 'one')).toEqual([]);
    expect(await broker.acknowledge('one', [stale, receipt])).toEqual([receipt]);
  });

  test('refuses the receipt of a message that was released', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a')]);
    const { receipt } = await receiveOne(scene, 'one');
    expect(await broker.release('one', [{ receipt, delayMs: 0 }])).toEqual([receipt]);
    expect((await receiveOne(scene, 'one')).receipt).not.toBe(receipt);
    expect(await broker.acknowledge('one', [receipt])).toEqual([]);
  });

  test('acknowledges a receipt once', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a')]);
    const { receipt } = await receiveOne(scene, 'one');
    expect(await broker.acknowledge('one', [receipt])).toEqual([receipt]);
    expect(await broker.acknowledge('one', [receipt])).toEqual([]);
    expect(await broker.extend('one', [receipt], 1)).toEqual([]);
  });

  test('takes a receipt only in the queue that gave it', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one', 'two']);
    await broker.push('one', [message('a')]);
    const { receipt } = await receiveOne(scene, 'one');
    expect(await broker.acknowledge('two', [receipt])).toEqual([]);
    expect(await broker.acknowledge('one', [receipt])).toEqual([receipt]);
  });
}

function releaseCases(test: Case<BrokerScene>): void {
  test('gives a released message again at once', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a')]);
    const { receipt } = await receiveOne(scene, 'one');
    expect(await broker.release('one', [{ receipt, delayMs: 0 }])).toEqual([receipt]);
    const again = await receiveOne(scene, 'one');
    expect([again.id, again.body]).toEqual(['a', 'body of a']);
  });

  test('gives a released message again after its delay', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a'), message('b')]);
    const deliveries = await receiveAll(scene, 'one', 2);
    const delays: Record<string, number> = { a: SHORT_MS, b: LONG_MS };
    const releases = deliveries.map(({ id, receipt }) => ({
      receipt,
      delayMs: Math.min(delays[id] ?? 0, broker.capabilities.maxLeaseMs),
    }));
    expect(await broker.release('one', releases)).toHaveLength(2);
    await scene.pass(SHORT_PASSED_MS);
    expect((await receiveOne(scene, 'one')).id).toBe('a');
    expect(await receive(broker, 'one')).toEqual([]);
  });
}

function delayCases(test: Case<BrokerScene>): void {
  test('gives a delayed message no earlier than it is due', async (scene) => {
    const { broker } = scene;
    const delayMs = Math.min(LONG_MS, broker.capabilities.maxDelayMs);
    await broker.initialize(['one']);
    await broker.push('one', [message('later', { delayMs, priority: 9 }), message('now')]);
    expect((await receiveOne(scene, 'one')).id).toBe('now');
    await scene.pass(50);
    expect(await receive(broker, 'one')).toEqual([]);
  });

  test('gives a delayed message once it is due', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a', { delayMs: SHORT_MS })]);
    await scene.pass(SHORT_PASSED_MS);
    const delivery = one(await receiveAll(scene, 'one', 1));
    expect(delivery.id).toBe('a');
    expect(await broker.acknowledge('one', [delivery.receipt])).toEqual([delivery.receipt]);
  });
}
