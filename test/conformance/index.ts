export { ledgerConformance } from './ledger.ts';
export type { LedgerScene } from './ledger-scene.ts';
export { queueBrokerConformance } from './queue-broker.ts';
export { recordStoreConformance } from './record-store.ts';
export type { RecordScene } from './record-store.ts';
export type { BrokerScene, Open, Scene } from './scene.ts';
export { taskLogConformance } from './task-log.ts';
export type { TaskLogScene } from './task-log-scene.ts';
