import { setTimeout as sleep } from 'node:timers/promises';
import { RdsQueueBroker, RdsRecordStore, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import type { Persistence } from '../../brokers/rds/index.ts';
import { composeLedger } from '../../src/composed-ledger.ts';
import {
  ledgerConformance,
  queueBrokerConformance,
  recordStoreConformance,
  taskLogConformance,
} from '../conformance/index.ts';
import { sqliteFile } from '../support/sqlite.ts';

interface Scene {
  readonly persistence: Persistence;
  readonly broker: RdsQueueBroker;
  readonly log: RdsTaskLogBroker;
  readonly close: () => Promise<void>;
  readonly pass: (ms: number) => Promise<void>;
}

async function openScene(): Promise<Scene> {
  const file = await sqliteFile();
  const persistence = file.open();
  const broker = new RdsQueueBroker(persistence);
  const log = new RdsTaskLogBroker(persistence);
  await broker.initialize([]);
  await log.createContainer();
  // A lease of the database's clock is over when this one has moved past it.
  const pass = async (ms: number): Promise<void> => {
    await sleep(ms + 1);
  };
  return { persistence, broker, log, close: file.remove, pass };
}

queueBrokerConformance('SQLite', openScene);

taskLogConformance('SQLite', openScene);

recordStoreConformance('SQLite', async () => {
  const scene = await openScene();
  return { ...scene, records: new RdsRecordStore(scene.persistence) };
});

ledgerConformance('SQLite, a ledger of its own', async () => {
  const scene = await openScene();
  const ledger = scene.broker.ledger(scene.log);
  if (ledger === undefined) throw new Error('Queue and log of one persistence have a ledger');
  return { ...scene, ledger };
});

ledgerConformance('SQLite, composed', async () => {
  const scene = await openScene();
  return { ...scene, ledger: composeLedger(scene.broker, scene.log) };
});

ledgerConformance('SQLite, queue and log in different files', async () => {
  const queues = await openScene();
  const logs = await openScene();
  const close = async (): Promise<void> => {
    await queues.close();
    await logs.close();
  };
  return {
    broker: queues.broker,
    log: logs.log,
    ledger: composeLedger(queues.broker, logs.log),
    close,
    pass: queues.pass,
  };
});
