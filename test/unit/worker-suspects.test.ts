import { describe, expect, it } from 'vitest';
import { defineTask } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { memoryCore, pause, until } from '../support/core.ts';
import type { Core } from '../support/core.ts';

async function drain({ dispatcher }: Core): Promise<void> {
  await new Worker({ dispatcher, stopWhenEmpty: true }).run();
}

/** Leaves tasks behind as a worker does that dies while it runs them: begun, and their claims lapsed. */
async function dieRunning(core: Core, count: number): Promise<void> {
  const [queue] = core.dispatcher.queues;
  const { ledger } = core.dispatcher.bound(queue?.name ?? '');
  const signal = new AbortController().signal;
  await ledger.draw(queue?.name ?? '', {
    max: count,
    start: count,
    leaseMs: 1,
    waitMs: 0,
    signal,
    worker: 'dead',
    token: 'dead',
  });
  await pause(5);
}

describe('a task whose worker died while it ran', () => {
  it('runs alone, and so does each that ran beside it', async () => {
    const core = memoryCore();
    let running = 0;
    let most = 0;
    const suspect = defineTask({
      name: 'suspect',
      run: async () => {
        most = Math.max(most, (running += 1));
        await pause(5);
        running -= 1;
        return null;
      },
    });
    for (let i = 0; i < 4; i += 1) await core.dispatcher.enqueue(suspect({}));
    await dieRunning(core, 4);
    await drain(core);
    expect(most).toBe(1);
    const { entries } = await core.taskLog.search();
    for (const entry of entries) expect(entry).toMatchObject({ status: 'completed', attempts: 1, lapses: 1 });
  });

  it('waits for a running task only so long', async () => {
    const core = memoryCore();
    const begun: string[] = [];
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const suspect = defineTask({ name: 'suspect', run: () => void begun.push('suspect') });
    const long = defineTask({
      name: 'long',
      run: async () => {
        begun.push('long');
        await gate;
        return null;
      },
    });
    const worker = new Worker({ dispatcher: core.dispatcher });
    const ended = worker.run();
    await core.dispatcher.enqueue(long({}));
    await until('the long task runs', () => begun.includes('long'));
    worker.pause();
    await core.dispatcher.enqueue(suspect({}));
    await dieRunning(core, 1);
    worker.resume();
    await until('the suspect runs all the same', () => begun.includes('suspect'));
    open();
    await worker.stop();
    await ended;
    expect(await core.taskLog.stats()).toMatchObject({ completed: 2 });
  });

  it('lets fresh tasks begin once it has ended', async () => {
    const core = memoryCore();
    const order: string[] = [];
    const named = defineTask({ name: 'named', run: ({ name }: { name: string }) => void order.push(name) });
    await core.dispatcher.enqueue(named({ name: 'suspect' }));
    await dieRunning(core, 1);
    for (const name of ['a', 'b', 'c']) await core.dispatcher.enqueue(named({ name }));
    await drain(core);
    expect(order).toHaveLength(4);
    expect(await core.taskLog.stats()).toMatchObject({ completed: 4 });
  });
});
