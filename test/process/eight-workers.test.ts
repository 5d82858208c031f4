import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { Queue } from '../../src/queue.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import { defineTask } from '../../src/task.ts';
import { TaskLog } from '../../src/task-log.ts';
import { startChild } from '../support/children.ts';
import type { DrainEnd, DrainOrder } from '../support/drain-worker.ts';
import { sqliteFile } from '../support/sqlite.ts';

const WORKERS = 8;
const TASKS = 10_000;

it('runs each of 10,000 tasks once on eight worker processes over one SQLite file', async () => {
  const file = await sqliteFile();
  try {
    const persistence = file.open();
    const broker = new RdsQueueBroker(persistence);
    const taskLog = new TaskLog({ broker: new RdsTaskLogBroker(persistence) });
    const dispatcher = new QueueDispatcher({ queues: [new Queue('work', broker)], taskLog });
    await dispatcher.initialize();
    await taskLog.createContainer();
    const mark = defineTask({ name: 'mark', run: (_: object) => null });
    const handles = await Promise.all(Array.from({ length: TASKS }, () => dispatcher.enqueue(mark({}))));

    const orders = Array.from({ length: WORKERS }, (_, index): DrainOrder => {
      return { filename: file.filename, queue: 'work', effectsFile: join(file.folder, `effects-${index}`) };
    });
    const ends = await Promise.all(orders.map((order) => startChild('drain-worker', order).ended));

    for (const { exitCode, signal, stderr } of ends) {
      expect({ exitCode, signal, stderr }).toEqual({ exitCode: 0, signal: null, stderr: '' });
    }
    expect(ends.map(({ stdout }) => stdout).join('')).not.toMatch(/locked|busy/i);
    const reports = ends.map(({ stdout }) => JSON.parse(stdout) as DrainEnd);
    expect(reports.flatMap(({ errors }) => errors)).toEqual([]);
    expect(reports.reduce((sum, { processed }) => sum + processed, 0)).toBe(TASKS);

    expect(reports.filter(({ processed }) => processed > 0).length).toBeGreaterThan(1);

    const effects = await Promise.all(orders.map(({ effectsFile }) => readFile(effectsFile, 'utf8')));
    const ran = effects.flatMap((text) => text.split('\n').slice(0, -1));
    expect(ran.toSorted()).toEqual(handles.map(({ id }) => id).toSorted());
    expect(await taskLog.stats()).toMatchObject({ completed: TASKS, failed: 0, enqueued: 0, running: 0 });
    expect(await broker.count('work')).toMatchObject({ ready: 0, delayed: 0, leased: 0 });
  } finally {
    await file.remove();
  }
});
