import { describe, expect, it } from 'vitest';
import { InMemoryQueueBroker } from '../../brokers/memory.ts';
import { Queue } from '../../src/queue.ts';
import { TaskLog } from '../../src/task-log.ts';
import { defineTask } from '../../src/task.ts';
import { failureOf, memoryCore } from '../support/core.ts';

const plain = defineTask({ name: 'plain', run: () => null });

describe('options of enqueue', () => {
  it.each([
    [{ dealyMs: 5 }, 'Did you mean `delayMs`?'],
    [{ retry: { maxAttemps: 3 } }, 'Did you mean `maxAttempts`?'],
    [{ retry: { maxAttempts: 0 } }, 'maxAttempts'],
    [{ timeoutMs: Number.NaN }, 'timeoutMs'],
    [{ delayMs: '5' }, 'got "5"'],
    [{ owner: 7 }, 'owner'],
    [{ group: 'a\0b' }, 'NUL'],
    [{ category: '\ud800' }, 'half a character'],
    [null, 'got null'],
    [5, 'got number'],
  ])('are refused when they make no sense, and nothing is stored: %j', async (options, words) => {
    const core = memoryCore();
    const error = await failureOf(() => core.dispatcher.enqueue(plain({}), options as never));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toContain(words);
    expect((await core.taskLog.search()).entries).toEqual([]);
  });

  it('a label is kept as it is or refused', async () => {
    const core = memoryCore();
    expect((await failureOf(() => core.dispatcher.enqueue(plain({}), 'a\0b'))).code).toBe('INVALID_ARGUMENT');
    const handle = await core.dispatcher.enqueue(plain({}), 'línea\nzwei 🚂');
    expect((await core.taskLog.getById(handle.id)).label).toBe('línea\nzwei 🚂');
  });
});

describe('what was forgotten', () => {
  it('a queue without a broker, a log without a broker: said at once', async () => {
    expect((await failureOf(() => new Queue('a', undefined as never))).code).toBe('INVALID_ARGUMENT');
    expect((await failureOf(() => new TaskLog({} as never))).code).toBe('INVALID_ARGUMENT');
  });
});

describe('a task that is enqueued again', () => {
  it('stays where it is: the handle names its queue, and nobody is told of a second one', async () => {
    const broker = new InMemoryQueueBroker({ sync: false });
    const core = memoryCore({ queues: [new Queue('a', broker), new Queue('b', broker)] });
    const told: string[] = [];
    core.dispatcher.events.on('task:enqueued', ({ queue }) => told.push(queue));
    const task = plain({});
    await core.dispatcher.enqueue(task, { queue: 'a' });
    const again = await core.dispatcher.enqueue(task, { queue: 'b' });
    expect(again.queue).toBe('a');
    expect(told).toEqual(['a']);
    expect(await core.dispatcher.count()).toBe(1);
  });
});
