import { describe, expect, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryRecordStore, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { composeLedger } from '../../src/composed-ledger.ts';
import type { Clock } from '../../src/environment.ts';
import type { Receipt } from '../../src/queue-broker.ts';
import type { Transaction } from '../../src/store.ts';
import {
  ledgerConformance,
  queueBrokerConformance,
  recordStoreConformance,
  taskLogConformance,
} from '../conformance/index.ts';

class FakeClock implements Clock {
  #now = Date.UTC(2026, 0, 1);

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  async sleep(): Promise<void> {
    return undefined;
  }

  pass = async (ms: number): Promise<void> => {
    this.#now += ms;
  };
}

for (const sync of [false, true]) {
  queueBrokerConformance(`memory, ${sync ? 'sync' : 'drained by workers'}`, async () => {
    const clock = new FakeClock();
    const broker = new InMemoryQueueBroker({ sync, clock });
    return { broker, close: () => broker.close(), pass: clock.pass };
  });
}

recordStoreConformance('memory', async () => {
  const clock = new FakeClock();
  return { records: new InMemoryRecordStore({ clock }), close: async () => undefined, pass: clock.pass };
});

taskLogConformance('memory', async () => {
  const clock = new FakeClock();
  const log = new InMemoryTaskLogBroker({ clock });
  return { log, close: () => log.close(), pass: clock.pass };
});

for (const sync of [false, true]) {
  ledgerConformance(`memory, composed, ${sync ? 'sync' : 'drained by workers'}`, async () => {
    const clock = new FakeClock();
    const broker = new InMemoryQueueBroker({ sync, clock });
    const log = new InMemoryTaskLogBroker({ clock });
    const close = async (): Promise<void> => {
      await broker.close();
      await log.close();
    };
    return { ledger: composeLedger(broker, log), broker, log, close, pass: clock.pass };
  });
}

describe('the in-memory drivers', () => {
  const signal = new AbortController().signal;

  it('run tasks inside enqueue unless workers are to drain them', () => {
    expect(new InMemoryQueueBroker().capabilities.sync).toBe(true);
    expect(new InMemoryQueueBroker({ sync: false }).capabilities.sync).toBe(false);
  });

  it('take the limits that they are given', async () => {
    const broker = new InMemoryQueueBroker({ sync: false, maxBatch: 2, maxBodyBytes: 10, receiveLimit: 1 });
    expect(broker.capabilities).toMatchObject({ maxBatch: 2, maxBodyBytes: 10 });
    expect(broker.receiveLimit).toBe(1);
    await broker.push(
      'one',
      ['a', 'b', 'c'].map((id) => ({ id, body: id, generation: 1 })),
    );
    expect(await broker.receive('one', { max: 100, leaseMs: 1_000, waitMs: 0, signal })).toHaveLength(2);
  });

  it('hand 20,000 messages through a queue in which 200,000 are delayed', async () => {
    const broker = new InMemoryQueueBroker({ sync: false, clock: new FakeClock() });
    const delayed = Array.from({ length: 200_000 }, (_, index) => `delayed-${index}`);
    await broker.push(
      'one',
      delayed.map((id, index) => ({ id, body: '', generation: 1, delayMs: 1 + ((index * 7_919) % 100_000) })),
    );
    const seen = new Set<string>();
    for (let index = 0; index < 20_000; index += 1) {
      await broker.push('one', [{ id: `task-${index}`, body: '', generation: 1 }]);
      const deliveries = await broker.receive('one', { max: 10, leaseMs: 60_000, waitMs: 0, signal });
      for (const { id } of deliveries) seen.add(id);
      await broker.acknowledge(
        'one',
        deliveries.map((delivery) => delivery.receipt),
      );
    }
    expect(seen.size).toBe(20_000);
    expect(await broker.count('one')).toMatchObject({ ready: 0, delayed: 200_000, leased: 0 });
  });

  it('give messages in order after many were taken out of the middle', async () => {
    const clock = new FakeClock();
    const broker = new InMemoryQueueBroker({ sync: false, clock });
    const ids = Array.from({ length: 500 }, (_, index) => String(index));
    await broker.push(
      'one',
      ids.map((id) => ({ id, body: '', generation: 1 })),
    );
    const receipts: Receipt[] = [];
    for (const id of ids) {
      const leaseMs = 1 + ((Number(id) * 31) % 97);
      const [delivery] = await broker.receive('one', { max: 1, leaseMs, waitMs: 0, signal });
      if (delivery !== undefined && Number(id) % 3 === 0) receipts.push(delivery.receipt);
    }
    expect(await broker.acknowledge('one', receipts)).toEqual(receipts);
    await clock.pass(100);
    const deliveries = await broker.receive('one', { max: 1_000, leaseMs: 1_000, waitMs: 0, signal });
    expect(deliveries.map((delivery) => delivery.id)).toEqual(ids.filter((id) => Number(id) % 3 !== 0));
  });

  it('refuse to join a transaction', async () => {
    const refuse = async (): Promise<never> => {
      throw new Error('no transaction');
    };
    const tx: Transaction = {
      store: { id: 'elsewhere', transaction: refuse, join: refuse },
      afterCommit: () => undefined,
    };
    const refused = { code: 'TRANSACTION_UNSUPPORTED' };
    await expect(new InMemoryQueueBroker().push('one', [], tx)).rejects.toMatchObject(refused);
    await expect(new InMemoryTaskLogBroker().insert([], tx)).rejects.toMatchObject(refused);
    await expect(new InMemoryRecordStore().put('a', 'b', 'c', {}, tx)).rejects.toMatchObject(refused);
  });

  it('refuse a page that goes on after no page', async () => {
    const log = new InMemoryTaskLogBroker();
    await expect(log.search({}, { limit: 1, after: 'nonsense' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });
});
