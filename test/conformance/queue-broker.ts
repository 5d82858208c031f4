import { describe, expect } from 'vitest';
import type { BrokerCapabilities } from '../../src/queue-broker.ts';
import { leaseCases } from './queue-broker-leases.ts';
import {
  casesOn,
  eventually,
  expectClosed,
  factsOf,
  idsOf,
  LONG_MS,
  message,
  receive,
  receiveAll,
  receiveOne,
  SHORT_PASSED_MS,
} from './scene.ts';
import type { BrokerScene, Case, Open } from './scene.ts';

/**
 * What every queue broker keeps to. `open` gives an empty storage each time; the capabilities that the broker states
 * choose the cases, and a broker that only its own process can drain has those of its life alone.
 */
export function queueBrokerConformance(name: string, open: Open<BrokerScene>): void {
  describe(`${name}: queue broker`, async () => {
    const { capabilities, ready, watch } = await factsOf(open, ({ broker }) => ({
      capabilities: broker.capabilities,
      ready: broker.ready !== undefined,
      watch: broker.watch !== undefined,
    }));
    const test = casesOn(open);
    lifeCases(test);
    if (capabilities.sync) return;
    deliveryCases(test);
    contentCases(test, capabilities);
    orderCases(test, capabilities);
    consumerCases(test);
    leaseCases(test, capabilities);
    if (ready) readyCase(test);
    if (watch) watchCase(test);
  });
}

function lifeCases(test: Case<BrokerScene>): void {
  test('initializes the same queues again, and many at once', async ({ broker }) => {
    await broker.initialize(['one']);
    await Promise.all(Array.from({ length: 5 }, () => broker.initialize(['one', 'two', 'three'])));
    expect(await broker.count('one')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });

  test('states capabilities that make sense', async ({ broker: { id, capabilities } }) => {
    expect(id).not.toBe('');
    expect(capabilities.maxBatch).toBeGreaterThanOrEqual(1);
    expect(capabilities.maxBodyBytes).toBeGreaterThan(0);
    expect(capabilities.maxDelayMs).toBeGreaterThanOrEqual(0);
    expect(capabilities.maxLeaseMs).toBeGreaterThan(0);
    expect(capabilities.maxWaitMs).toBeGreaterThanOrEqual(0);
    expect(capabilities.retentionMs).toBeGreaterThan(0);
  });

  test('refuses every call after it was closed, and may be closed again', async ({ broker }) => {
    await broker.initialize(['one']);
    await broker.close();
    await broker.close();
    await expectClosed(broker.initialize(['one']));
    await expectClosed(broker.push('one', [message('a')]));
    await expectClosed(receive(broker, 'one'));
    await expectClosed(broker.count('one'));
  });
}

function deliveryCases(test: Case<BrokerScene>): void {
  test('keeps its messages when it is initialized again', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a'), message('b')]);
    await Promise.all([broker.initialize(['one']), broker.initialize(['one', 'two'])]);
    expect(idsOf(await receiveAll(scene, 'one', 2)).toSorted()).toEqual(['a', 'b']);
  });

  test('takes a push of nothing', async ({ broker }) => {
    await broker.initialize(['one']);
    await broker.push('one', []);
    expect(await receive(broker, 'one')).toEqual([]);
  });

  test('answers an empty queue with nothing', async ({ broker }) => {
    await broker.initialize(['one']);
    expect(await receive(broker, 'one')).toEqual([]);
    expect(await broker.acknowledge('one', [])).toEqual([]);
    expect(await broker.release('one', [])).toEqual([]);
    expect(await broker.extend('one', [], LONG_MS)).toEqual([]);
  });

  test('gives no more than it was asked for', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push(
      'one',
      Array.from({ length: 8 }, (_, index) => message(`m${index}`)),
    );
    const first = await receive(broker, 'one', 3);
    expect(first.length).toBeLessThanOrEqual(3);
    await receiveAll(scene, 'one', 8 - first.length);
  });

  test('keeps queues apart', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one', 'two']);
    await broker.push('one', [message('a')]);
    await broker.push('two', [message('b')]);
    expect((await receiveOne(scene, 'two')).id).toBe('b');
    expect(await receive(broker, 'two')).toEqual([]);
    expect((await receiveOne(scene, 'one')).id).toBe('a');
  });

  test('holds two messages of one id as two', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one']);
    await broker.push('one', [message('a', { generation: 1 })]);
    await broker.push('one', [message('a', { generation: 2 })]);
    const [first, second] = await receiveAll(scene, 'one', 2);
    expect([first?.id, second?.id]).toEqual(['a', 'a']);
    expect(first?.receipt).not.toBe(second?.receipt);
  });

  test('tells how much of the lease is left', async (scene) => {
    await scene.broker.initialize(['one']);
    await scene.broker.push('one', [message('a')]);
    const { leaseLeftMs } = await receiveOne(scene, 'one', 60_000);
    expect(leaseLeftMs).toBeGreaterThan(0);
    expect(leaseLeftMs).toBeLessThanOrEqual(60_000);
  });
}

function contentCases(test: Case<BrokerScene>, capabilities: BrokerCapabilities): void {
  const bodies = {
    'letters of many scripts': 'Grüße, ελληνικά, 日本語, עברית, 👩‍👩‍👧, e\u0301, \u{10ffff}',
    'control characters': Array.from({ length: 31 }, (_, index) => String.fromCharCode(index + 1)).join(''),
    'quotes, backslashes and line ends': `'";\\\\ --\r\n\t %s ? $1 :a {} \u2028\u2029`,
    'JSON with escapes': JSON.stringify({ text: 'a "b" \\ \n', list: [1, null, true] }),
    'white space at its ends': '  a  ',
    'an empty body': '',
    '200 KB': 'Añ日👍 '.repeat(16_000),
  };
  for (const [what, body] of Object.entries(bodies)) {
    if (Buffer.byteLength(body) > capabilities.maxBodyBytes) continue;
    test(`gives a body back as it was: ${what}`, async (scene) => {
      await scene.broker.initialize(['one']);
      await scene.broker.push('one', [message('a', { body })]);
      expect((await receiveOne(scene, 'one')).body === body).toBe(true);
    });
  }
  if (!capabilities.groups) return;
  test('gives the group of a message back', async (scene) => {
    await scene.broker.initialize(['one']);
    await scene.broker.push('one', [message('a', { group: 'g' })]);
    expect((await receiveOne(scene, 'one')).group).toBe('g');
  });
}

function orderCases(test: Case<BrokerScene>, capabilities: BrokerCapabilities): void {
  const ids = Array.from({ length: 50 }, (_, index) => String(index + 1));
  if (capabilities.ordered) {
    test('gives messages in the order of their push', async (scene) => {
      await scene.broker.initialize(['one']);
      await scene.broker.push('one', idsMessages(ids.slice(0, 30)));
      for (const id of ids.slice(30)) await scene.broker.push('one', [message(id)]);
      expect(idsOf(await receiveAll(scene, 'one', ids.length))).toEqual(ids);
    });
  } else {
    test('gives every message, in any order', async (scene) => {
      await scene.broker.initialize(['one']);
      for (const id of ids) await scene.broker.push('one', [message(id)]);
      expect(new Set(idsOf(await receiveAll(scene, 'one', ids.length)))).toEqual(new Set(ids));
    });
  }
  if (!capabilities.priorities) return;
  test('gives higher priorities first, and the older first among equals', async (scene) => {
    await scene.broker.initialize(['one']);
    await scene.broker.push('one', [
      message('low', { priority: -5 }),
      message('plain 1'),
      message('high 1', { priority: 7 }),
    ]);
    await scene.broker.push('one', [
      message('high 2', { priority: 7 }),
      message('plain 2', { priority: 0 }),
      message('highest', { priority: 32_767 }),
      message('lowest', { priority: -32_768 }),
    ]);
    const order = ['highest', 'high 1', 'high 2', 'plain 1', 'plain 2', 'low', 'lowest'];
    expect(idsOf(await receiveAll(scene, 'one', order.length))).toEqual(order);
  });

  test('keeps the priority of a message that was released', async (scene) => {
    await scene.broker.initialize(['one']);
    await scene.broker.push('one', [message('high', { priority: 1 })]);
    const { receipt } = await receiveOne(scene, 'one');
    await scene.broker.push('one', [message('plain')]);
    await scene.broker.release('one', [{ receipt, delayMs: 0 }]);
    expect(idsOf(await receiveAll(scene, 'one', 2))).toEqual(['high', 'plain']);
  });
}

function idsMessages(ids: readonly string[]): ReturnType<typeof message>[] {
  return ids.map((id) => message(id));
}

function consumerCases(test: Case<BrokerScene>): void {
  test('gives each of 1,000 messages to exactly one of two consumers', async (scene) => {
    const { broker } = scene;
    const ids = Array.from({ length: 1_000 }, (_, index) => `m${index}`);
    await broker.initialize(['one']);
    for (let start = 0; start < ids.length; start += 100) {
      await broker.push('one', idsMessages(ids.slice(start, start + 100)));
    }
    const seen: string[] = [];
    const consume = async (): Promise<void> => {
      for (let idle = 0; idle < 20 && seen.length < ids.length;) {
        const deliveries = await receive(broker, 'one', 10);
        const receipts = deliveries.map((delivery) => delivery.receipt);
        seen.push(...idsOf(deliveries));
        expect((await broker.acknowledge('one', receipts)).toSorted()).toEqual(receipts.toSorted());
        if (deliveries.length > 0) idle = 0;
        else {
          idle += 1;
          await scene.pass(50);
        }
      }
    };
    await Promise.all([consume(), consume()]);
    expect(seen.toSorted()).toEqual(ids.toSorted());
    expect(await broker.count('one')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });

  test('counts what is ready, delayed and leased', async (scene) => {
    const { broker } = scene;
    await broker.initialize(['one', 'two']);
    const delayMs = Math.min(LONG_MS, broker.capabilities.maxDelayMs);
    await broker.push('one', idsMessages(['a', 'b', 'c', 'd']));
    if (delayMs > 0) await broker.push('one', [message('later', { delayMs })]);
    await receiveOne(scene, 'one');
    const { exact, ...count } = await broker.count('one');
    if (exact) expect(count).toEqual({ ready: 3, delayed: delayMs > 0 ? 1 : 0, leased: 1 });
    else expect(count.ready + count.delayed + count.leased).toBeGreaterThanOrEqual(0);
    expect(await broker.count('two')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  });
}

function readyCase(test: Case<BrokerScene>): void {
  test('says which queues have work, and when', async ({ broker }) => {
    const delayMs = Math.min(60_000, broker.capabilities.maxDelayMs);
    await broker.initialize(['full', 'later', 'empty']);
    await broker.push('full', [message('a')]);
    await broker.push('later', [message('b', { delayMs })]);
    const answers = (await broker.ready?.(['full', 'later', 'empty'])) ?? [];
    const inMs = new Map(answers.map((answer) => [answer.queue, answer.inMs]));
    expect([...inMs.keys()].toSorted()).toEqual(['full', 'later']);
    expect(inMs.get('full')).toBe(0);
    expect(inMs.get('later')).toBeLessThanOrEqual(delayMs);
    if (delayMs > 0) expect(inMs.get('later')).toBeGreaterThan(0);
  });
}

function watchCase(test: Case<BrokerScene>): void {
  test('wakes a watcher of the queue that got a message, until the watcher ends', async (scene) => {
    const { broker } = scene;
    const woken: string[] = [];
    await broker.initialize(['one', 'two']);
    const end = await broker.watch?.(['one'], (queue) => woken.push(queue));
    await broker.push('two', [message('a')]);
    await broker.push('one', [message('b')]);
    await eventually(scene, 'a wake-up', async () => (woken.length > 0 ? true : undefined));
    expect(new Set(woken)).toEqual(new Set(['one']));
    await end?.();
    woken.length = 0;
    await broker.push('one', [message('c')]);
    await scene.pass(SHORT_PASSED_MS);
    expect(woken).toEqual([]);
  });
}
