export { RdsLedger } from './ledger.ts';
export { Persistence } from './persistence.ts';
export type { PersistenceSettings } from './persistence.ts';
export { RdsQueueBroker } from './queue-broker.ts';
export type { RdsQueueBrokerOptions } from './queue-broker.ts';
export { RdsRecordStore } from './record-store.ts';
export { sqliteKnex } from './sqlite-client.ts';
export type { SqliteSettings } from './sqlite-client.ts';
export { RdsTaskLogBroker } from './task-log-broker.ts';
