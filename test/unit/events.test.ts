import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Logger } from '../../src/environment.ts';
import { silentLogger } from '../../src/environment.ts';
import { EventBus } from '../../src/events.ts';

const archived = { taskId: 't1', forced: false };

function logging(): { logger: Logger; errors: object[] } {
  const errors: object[] = [];
  return { logger: { ...silentLogger, error: (bindings) => errors.push(bindings) }, errors };
}

describe('an event bus', () => {
  it('calls the listeners of an event in the order they came, and no others', () => {
    const bus = new EventBus();
    const heard: string[] = [];
    bus.on('task:archived', (event) => heard.push(`a ${event.taskId}`));
    bus.on('task:archived', (event) => heard.push(`b ${event.taskId}`));
    bus.on('worker:started', () => heard.push('worker'));
    bus.emit('task:archived', archived);
    expect(heard).toEqual(['a t1', 'b t1']);
  });

  it('does nothing when nobody listens', () => {
    expect(() => new EventBus().emit('task:archived', archived)).not.toThrow();
  });

  it('calls a listener for one event only when asked to', () => {
    const bus = new EventBus();
    let heard = 0;
    bus.once('task:archived', () => (heard += 1));
    bus.emit('task:archived', archived);
    bus.emit('task:archived', archived);
    expect(heard).toBe(1);
  });

  it('calls a one-time listener once even when a listener before it emits the same event', () => {
    const bus = new EventBus();
    let heard = 0;
    bus.once('task:archived', () => bus.emit('task:archived', archived));
    bus.once('task:archived', () => (heard += 1));
    bus.emit('task:archived', archived);
    expect(heard).toBe(1);
  });

  it('ends one subscription by what on and once return', () => {
    const bus = new EventBus();
    let heard = 0;
    const listener = (): number => (heard += 1);
    const end = bus.on('task:archived', listener);
    bus.on('task:archived', listener);
    const endOnce = bus.once('task:archived', listener);
    end();
    end();
    endOnce();
    bus.emit('task:archived', archived);
    expect(heard).toBe(1);
  });

  it('ends every subscription of a listener by off', () => {
    const bus = new EventBus();
    let heard = 0;
    const listener = (): number => (heard += 1);
    bus.on('task:archived', listener);
    bus.once('task:archived', listener);
    bus.off('task:archived', listener);
    bus.off('worker:started', listener);
    bus.emit('task:archived', archived);
    expect(heard).toBe(0);
  });

  it('does not call a listener that another has just ended', () => {
    const bus = new EventBus();
    let heard = 0;
    const listener = (): number => (heard += 1);
    bus.on('task:archived', () => bus.off('task:archived', listener));
    bus.on('task:archived', listener);
    bus.emit('task:archived', archived);
    expect(heard).toBe(0);
  });

  it('leaves a listener that was added meanwhile for the next event', () => {
    const bus = new EventBus();
    let heard = 0;
    bus.once('task:archived', () => bus.on('task:archived', () => (heard += 1)));
    bus.emit('task:archived', archived);
    expect(heard).toBe(0);
    bus.emit('task:archived', archived);
    expect(heard).toBe(1);
  });

  it('logs a listener that throws and calls the next one', () => {
    const { logger, errors } = logging();
    const bus = new EventBus(logger);
    const err = new Error('no');
    let heard = 0;
    bus.on('task:archived', () => {
      throw err;
    });
    bus.on('task:archived', () => (heard += 1));
    bus.emit('task:archived', archived);
    expect(heard).toBe(1);
    expect(errors).toEqual([{ err, event: 'task:archived' }]);
  });

  it('logs a listener that rejects, and no rejection is left unhandled', async () => {
    const { logger, errors } = logging();
    const bus = new EventBus(logger);
    const unhandled: unknown[] = [];
    const note = (reason: unknown): number => unhandled.push(reason);
    process.on('unhandledRejection', note);
    const err = new Error('no');
    bus.on('task:archived', async () => {
      await setImmediate();
      throw err;
    });
    bus.emit('task:archived', archived);
    for (let turn = 0; turn < 5; turn += 1) await setImmediate();
    process.off('unhandledRejection', note);
    expect(errors).toEqual([{ err, event: 'task:archived' }]);
    expect(unhandled).toEqual([]);
  });
});
