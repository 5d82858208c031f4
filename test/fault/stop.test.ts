import { describe, expect, it } from 'vitest';
import { defineTask } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { pause, until } from '../support/core.ts';
import { openFaultScene } from '../support/fault-scene.ts';
import type { FaultScene, Storage } from '../support/fault-scene.ts';

const STORAGES: readonly Storage[] = ['memory', 'one SQLite file', 'two SQLite files'];

async function withScene(storage: Storage, work: (scene: FaultScene) => Promise<void>): Promise<void> {
  const scene = await openFaultScene(storage);
  try {
    await work(scene);
  } finally {
    scene.faults.release();
    await scene.close();
  }
}

/** What draws and settles on this storage. */
function operations(storage: Storage): { readonly draw: string; readonly settle: string } {
  return storage === 'one SQLite file'
    ? { draw: 'ledger.draw', settle: 'ledger.settle' }
    : { draw: 'broker.receive', settle: 'log.settle' };
}

describe.each(STORAGES)('a worker on %s', (storage) => {
  const { draw, settle } = operations(storage);

  it('can be stopped while a draw hangs', () =>
    withScene(storage, async ({ dispatcher, faults }) => {
      faults.on(draw, { kind: 'hang' });
      const worker = new Worker({ dispatcher });
      const running = worker.run();
      await until('the draw hangs', () => faults.hanging === 1);
      await worker.stop();
      expect(await running).toMatchObject({ reason: 'stopped', exitCode: 0, processed: 0 });
    }));

  it('ends with 1 when the end of a task cannot be written, and leaves the task to another worker', () =>
    withScene(storage, async ({ dispatcher, faults, taskLog }) => {
      let runs = 0;
      const count = defineTask({
        name: 'count',
        async run(_: object) {
          runs += 1;
          if (runs === 1) faults.on(settle, { kind: 'reject-before' });
        },
      });
      const worker = new Worker({ dispatcher, leaseMs: 400, shutdownMs: 300, abortGraceMs: 300 });
      const running = worker.run();
      const { id } = await dispatcher.enqueue(count({}));
      await until('the settlement fails', () => faults.count(settle) > 0 && runs === 1);
      await worker.stop();
      expect(await running).toMatchObject({ exitCode: 1 });
      expect(await taskLog.getById(id)).toMatchObject({ status: 'running', attempts: 0 });

      faults.clear(settle);
      const next = new Worker({ dispatcher, pollIntervalMs: 20 });
      void next.run();
      expect(await taskLog.waitFor(id, { timeoutMs: 10_000 })).toMatchObject({
        status: 'completed',
        attempts: 1,
        lapses: 1,
      });
      await next.stop();
      expect(runs).toBe(2);
    }));

  it('begins no call once it has ended', () =>
    withScene(storage, async ({ dispatcher, faults }) => {
      const work = defineTask({ name: 'work', run: (_: object) => pause(5) });
      const worker = new Worker({ dispatcher, concurrency: 3, leaseMs: 300, pollIntervalMs: 5 });
      const running = worker.run();
      await Promise.all(Array.from({ length: 30 }, () => dispatcher.enqueue(work({}))));
      await worker.stop();
      await running;
      const { length } = faults.history;
      await pause(300);
      expect(faults.history.slice(length)).toEqual([]);
    }));
});
