import { InMemoryQueueBroker, InMemoryRecordStore, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import type { Clock } from '../../src/environment.ts';
import { queueBrokerConformance, recordStoreConformance, taskLogConformance } from '../conformance/index.ts';

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
