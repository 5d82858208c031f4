import { describe, expect, it } from 'vitest';
import { defineTask } from '../../src/task.ts';
import type { DefinedTask } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { failureOf, until } from '../support/core.ts';
import { openFaultScene, QUEUE } from '../support/fault-scene.ts';
import type { FaultScene, Storage } from '../support/fault-scene.ts';

/** Queue and log live apart in both, so that a message may be owed. */
const STORAGES: readonly Storage[] = ['memory', 'two SQLite files'];

interface Scene extends FaultScene {
  readonly note: DefinedTask<object, string>;
  /** The tasks whose handler was called, once for each call. */
  readonly ran: string[];
}

async function withScene(storage: Storage, work: (scene: Scene) => Promise<void>): Promise<void> {
  const scene = await openFaultScene(storage);
  const ran: string[] = [];
  const note = defineTask({
    name: 'note',
    run(_: object, context) {
      ran.push(context.taskId);
      return 'noted';
    },
  });
  scene.dispatcher.registry.register(note);
  try {
    await work({ ...scene, note, ran });
  } finally {
    scene.faults.release();
    await scene.close();
  }
}

/** Works until no message is left and nothing is under way. */
async function drain({ dispatcher, taskLog, messages }: Scene): Promise<void> {
  const worker = new Worker({ dispatcher, pollIntervalMs: 20 });
  const running = worker.run();
  await until('no message is left', async () => {
    const { dequeued, running: atWork } = await taskLog.stats();
    return (await messages()) === 0 && dequeued + atWork === 0;
  });
  await worker.stop();
  await running;
}

async function onlyRow(scene: Scene): Promise<string> {
  const rows = await scene.rows();
  expect(rows).toHaveLength(1);
  return rows[0]?.id ?? '';
}

describe.each(STORAGES)('enqueue in %s', (storage) => {
  it('rejects with ENQUEUE_FAILED when the push fails, and the row says why', () =>
    withScene(storage, async (scene) => {
      scene.faults.on('broker.push', { kind: 'reject-before' });
      const error = await failureOf(() => scene.dispatcher.enqueue(scene.note({})));
      expect(error.code).toBe('ENQUEUE_FAILED');
      expect(error.cause).toMatchObject({ code: 'BROKER_UNAVAILABLE' });
      const id = await onlyRow(scene);
      expect(error.place).toMatchObject({ task: id, queue: QUEUE });
      expect(await scene.rows()).toMatchObject([
        { status: 'failed', deadReason: 'PUSH_FAILED', pushAt: null, attempts: 0 },
      ]);
      scene.faults.clear('broker.push');
      await scene.passGrace();
      await drain(scene);
      expect(scene.ran).toEqual([]);
    }));

  it('never runs a task whose push was refused, even when its message has arrived after all', () =>
    withScene(storage, async (scene) => {
      scene.faults.on('broker.push', { kind: 'reject-after' });
      const error = await failureOf(() => scene.dispatcher.enqueue(scene.note({})));
      expect(error.code).toBe('ENQUEUE_FAILED');
      expect(await scene.messages()).toBe(1);
      await drain(scene);
      expect(scene.ran).toEqual([]);
      expect(await scene.rows()).toMatchObject([{ status: 'failed', deadReason: 'PUSH_FAILED' }]);
    }));

  it('rejects with ENQUEUE_UNCERTAIN when neither the queue nor the log answers, and the relay makes it whole', () =>
    withScene(storage, async (scene) => {
      scene.faults.on('broker.push', { kind: 'reject-before' }).on('log.change', { kind: 'reject-before' });
      const error = await failureOf(() => scene.dispatcher.enqueue(scene.note({})));
      expect(error.code).toBe('ENQUEUE_UNCERTAIN');
      expect(error.cause).toBeInstanceOf(AggregateError);
      const id = await onlyRow(scene);
      expect(await scene.rows()).toMatchObject([{ status: 'enqueued' }]);
      scene.faults.clear('broker.push').clear('log.change');
      await scene.passGrace();
      expect(await scene.dispatcher.bound(QUEUE).ledger.relay(QUEUE, 10)).toBe(1);
      await drain(scene);
      expect(scene.ran).toEqual([id]);
    }));

  it('leaves no row and no message when the log refuses the row', () =>
    withScene(storage, async (scene) => {
      scene.faults.on('log.insert', { kind: 'reject-before' });
      const error = await failureOf(() => scene.dispatcher.enqueue(scene.note({})));
      expect(error.code).toBe('ENQUEUE_UNCERTAIN');
      expect(await scene.rows()).toEqual([]);
      expect(scene.faults.count('broker.push')).toBe(0);
      expect(await scene.messages()).toBe(0);
    }));

  it('runs a task whose producer died between row and push, once the grace is over', () =>
    withScene(storage, async (scene) => {
      scene.faults.on('broker.push', { kind: 'hang' }, 1);
      // Never settled, as if its process were gone.
      void scene.dispatcher.enqueue(scene.note({})).catch(() => undefined);
      await until('the producer is about to push', () => scene.faults.hanging === 1);
      const id = await onlyRow(scene);
      const { ledger } = scene.dispatcher.bound(QUEUE);
      expect(await ledger.relay(QUEUE, 10)).toBe(0);
      await scene.passGrace();
      expect(await ledger.relay(QUEUE, 10)).toBe(1);
      expect(await ledger.relay(QUEUE, 10)).toBe(0);
      await drain(scene);
      expect(scene.ran).toEqual([id]);

      // It was only slow: its message is a copy of a finished task now.
      scene.faults.release();
      await until('the late push has arrived', async () => (await scene.messages()) === 1);
      await drain(scene);
      expect(scene.ran).toEqual([id]);
      expect(await scene.rows()).toMatchObject([{ status: 'completed', attempts: 1, pushAt: null }]);
    }));

  it('accepts a task whose debt cannot be cleared; its second message does not run it twice', () =>
    withScene(storage, async (scene) => {
      scene.faults.on('log.pushed', { kind: 'reject-before' }, 1);
      const { id } = await scene.dispatcher.enqueue(scene.note({}));
      expect(scene.errors.map(({ operation }) => operation)).toEqual(['clear debt']);
      await scene.passGrace();
      expect(await scene.dispatcher.bound(QUEUE).ledger.relay(QUEUE, 10)).toBe(1);
      expect(await scene.messages()).toBe(2);
      await drain(scene);
      expect(scene.ran).toEqual([id]);
      expect(await scene.rows()).toMatchObject([
        { status: 'completed', attempts: 1, lapses: 0, pushAt: null },
      ]);
    }));

  it('owes nothing any more once the task has ended, whether or not the debt was cleared', () =>
    withScene(storage, async (scene) => {
      scene.faults.on('log.pushed', { kind: 'reject-before' });
      await scene.dispatcher.enqueue(scene.note({}));
      await drain(scene);
      await scene.passGrace();
      expect(await scene.dispatcher.bound(QUEUE).ledger.relay(QUEUE, 10)).toBe(0);
      expect(await scene.messages()).toBe(0);
      expect(scene.ran).toHaveLength(1);
    }));
});
