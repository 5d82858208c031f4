import { describe, expect, it } from 'vitest';
import { defineTask } from '../../src/task.ts';
import { Queue } from '../../src/queue.ts';
import { Worker } from '../../src/worker/worker.ts';
import { memoryCore, failureOf } from '../support/core.ts';

function withMessage(message: unknown): Error {
  return Object.defineProperty(new Error('plain'), 'message', { value: message });
}

function withName(name: unknown): Error {
  return Object.defineProperty(new Error('plain'), 'name', { value: name });
}

function unreadable(): Error {
  const refuse = (): never => {
    throw new Error('not to be read');
  };
  return Object.defineProperties(new Error('plain'), {
    message: { get: refuse },
    stack: { get: refuse },
    name: { get: refuse },
  });
}

describe('a handler that throws something odd', () => {
  it.each([
    ['an object without a prototype', () => Object.create(null) as unknown],
    ['a number for a message', () => withMessage(42)],
    ['an object for a message', () => withMessage({ code: 1 })],
    ['a symbol for a name', () => withName(Symbol('odd'))],
    ['an error that cannot be read', unreadable],
    ['a symbol', () => Symbol('thrown')],
    ['undefined', () => undefined],
  ])('fails like any other, once: %s', async (_, make: () => unknown) => {
    const core = memoryCore();
    let runs = 0;
    const odd = defineTask({
      name: 'odd',
      run: () => {
        runs += 1;
        throw make();
      },
    });
    const tasks = [odd({}), odd({}), odd({})];
    for (const task of tasks) await core.dispatcher.enqueue(task);
    const worker = new Worker({ dispatcher: core.dispatcher, concurrency: 1, stopWhenEmpty: true });
    expect(await worker.run()).toMatchObject({ processed: 3, exitCode: 0 });
    expect(runs).toBe(3);
    expect(await core.taskLog.stats()).toMatchObject({ failed: 3 });
  });

  it('fails with what was left of it when its report cannot be read', async () => {
    const core = memoryCore();
    const odd = defineTask({
      name: 'odd',
      run: () => {
        const report = Object.create({ [Symbol.for('signalbox.report')]: true }) as object;
        return report;
      },
    });
    const handle = await core.dispatcher.enqueue(odd({}));
    await new Worker({ dispatcher: core.dispatcher, stopWhenEmpty: true }).run();
    expect(await core.taskLog.getById(handle.id)).toMatchObject({ status: 'failed' });
  });
});

describe('policies that make no sense', () => {
  it.each([
    { retry: { maxAttempts: 0 } },
    { timeoutMs: Number.NaN },
    { timeoutMs: -5 },
    { retry: { maxAttemps: 3 } },
  ])('are refused where they are written: %j', async (options) => {
    const { queueBroker } = memoryCore();
    const written = [
      () => defineTask({ name: 'odd', ...options, run: () => 1 }),
      () => new Queue('odd', queueBroker, 1, options),
      () => memoryCore({ defaults: options }),
    ];
    for (const write of written) {
      expect((await failureOf(async () => write())).code).toBe('INVALID_ARGUMENT');
    }
  });
});
