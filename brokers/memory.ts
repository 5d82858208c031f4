export { InMemoryQueueBroker } from './memory/queue-broker.ts';
export type { InMemoryQueueBrokerOptions } from './memory/queue-broker.ts';
export { InMemoryRecordStore } from './memory/record-store.ts';
export { InMemoryTaskLogBroker } from './memory/task-log-broker.ts';
export type { InMemoryOptions } from './memory/guard.ts';
